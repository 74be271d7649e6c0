//! Options of requests.

use serde_json::{Value, json};

use crate::resource::encode_into;

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub limit: Option<u32>,
    pub continue_token: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<&'static str>,
}

impl ListOptions {
    pub fn labels(selector: impl Into<String>) -> ListOptions {
        ListOptions { label_selector: Some(selector.into()), ..Default::default() }
    }

    pub fn fields(selector: impl Into<String>) -> ListOptions {
        ListOptions { field_selector: Some(selector.into()), ..Default::default() }
    }

    pub(crate) fn query(&self) -> Query {
        let mut query = Query::default();
        query.option("labelSelector", self.label_selector.as_deref());
        query.option("fieldSelector", self.field_selector.as_deref());
        query.option("limit", self.limit.map(|limit| limit.to_string()).as_deref());
        query.option("continue", self.continue_token.as_deref());
        query.option("resourceVersion", self.resource_version.as_deref());
        query.option("resourceVersionMatch", self.resource_version_match);
        query
    }
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub resource_version: Option<String>,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u32>,
    pub send_initial_events: bool,
}

impl WatchOptions {
    pub(crate) fn query(&self) -> Query {
        let mut query = Query::default();
        query.add("watch", "true");
        query.option("labelSelector", self.label_selector.as_deref());
        query.option("fieldSelector", self.field_selector.as_deref());
        query.option("resourceVersion", self.resource_version.as_deref());
        if self.bookmarks {
            query.add("allowWatchBookmarks", "true");
        }
        if self.send_initial_events {
            query.add("sendInitialEvents", "true");
            query.add("resourceVersionMatch", "NotOlderThan");
        }
        query.option("timeoutSeconds", self.timeout_seconds.map(|seconds| seconds.to_string()).as_deref());
        query
    }
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// The object must still be the one meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds; `Some(0)` deletes at once.
    pub grace: Option<i64>,
    pub propagation: Option<Propagation>,
    pub preconditions: Option<Preconditions>,
}

impl DeleteOptions {
    pub fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace: Some(seconds), ..Default::default() }
    }

    pub fn uid(mut self, uid: impl Into<String>) -> DeleteOptions {
        self.preconditions.get_or_insert_default().uid = Some(uid.into());
        self
    }

    pub fn resource_version(mut self, version: impl Into<String>) -> DeleteOptions {
        self.preconditions.get_or_insert_default().resource_version = Some(version.into());
        self
    }

    pub fn propagation(mut self, propagation: Propagation) -> DeleteOptions {
        self.propagation = Some(propagation);
        self
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(grace) = self.grace {
            body["gracePeriodSeconds"] = grace.into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = format!("{propagation:?}").into();
        }
        if let Some(preconditions) = &self.preconditions {
            let mut object = serde_json::Map::new();
            if let Some(uid) = &preconditions.uid {
                object.insert("uid".into(), uid.as_str().into());
            }
            if let Some(version) = &preconditions.resource_version {
                object.insert("resourceVersion".into(), version.as_str().into());
            }
            body["preconditions"] = object.into();
        }
        body
    }
}

/// A patch and its kind.
#[derive(Clone, Debug)]
pub enum Patch {
    Merge(Value),
    Strategic(Value),
    /// A list of operations.
    Json(Value),
    /// Server-side apply, by this field manager.
    Apply {
        manager: String,
        force: bool,
        object: Value,
    },
}

impl Patch {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Patch::Merge(_) => "application/merge-patch+json",
            Patch::Strategic(_) => "application/strategic-merge-patch+json",
            Patch::Json(_) => "application/json-patch+json",
            Patch::Apply { .. } => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn body(&self) -> &Value {
        match self {
            Patch::Merge(value) | Patch::Strategic(value) | Patch::Json(value) => value,
            Patch::Apply { object, .. } => object,
        }
    }
}

/// A query string under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(pub String);

impl Query {
    pub fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        encode_into(&mut self.0, value, |_| false);
    }

    fn option(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}
