//! One request: made at the door and borrowed by all that works on it, down to the store.

pub mod options;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use access::request_info::RequestInfo;
use access::user::User;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::catalog::Catalog;
use options::{MANAGER_BYTES, WriteOptions};

/// What is known of a request, and what is noted while it is worked on.
pub struct Request {
    /// What is served, for as long as the request takes.
    pub catalog: Arc<Catalog>,
    pub info: RequestInfo,
    pub user: User,
    /// Who sent it, where `user` is another that they act as.
    pub impersonator: Option<User>,
    /// Method, address and headers.
    pub parts: Parts,
    pub received: Timestamp,
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, String>>,
}

impl Request {
    pub fn new(
        catalog: Arc<Catalog>,
        info: RequestInfo,
        user: User,
        impersonator: Option<User>,
        parts: Parts,
    ) -> Request {
        Request {
            catalog,
            info,
            user,
            impersonator,
            parts,
            received: Timestamp::now(),
            warnings: Mutex::default(),
            annotations: Mutex::default(),
        }
    }

    /// One that the server makes on its own account.
    pub fn own(catalog: Arc<Catalog>, verb: &str) -> Request {
        let info = RequestInfo { verb: verb.to_owned(), ..RequestInfo::default() };
        let mut parts = http::Request::new(()).into_parts().0;
        parts.headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver"));
        Request::new(catalog, info, User::apiserver(), None, parts)
    }

    pub fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Who manages the fields that a write with these options sets: as the options say, or else the program that sent it.
    pub fn manager<'a>(&'a self, options: &'a WriteOptions) -> Cow<'a, str> {
        match options.field_manager.as_str() {
            "" => program(self.parts.headers.get(USER_AGENT)),
            named => named.into(),
        }
    }

    /// Adds a text for the answer's `Warning` headers.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    pub fn warn_all(&self, texts: impl IntoIterator<Item = String>) {
        self.warnings.lock().extend(texts);
    }

    /// How many warnings there are, to come back to with [`Request::forget_warnings`].
    pub fn warnings(&self) -> usize {
        self.warnings.lock().len()
    }

    /// Drops the warnings of an attempt that is made anew.
    pub fn forget_warnings(&self, from: usize) {
        self.warnings.lock().truncate(from);
    }

    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock())
    }

    /// Notes something for the audit log; the first value of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.annotations.lock().entry(key.into()).or_insert_with(|| value.into());
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }
}

/// The first word of a user agent, `kubectl` of `kubectl/v1.37.1 (linux/amd64)`, as far as it is long enough for a manager.
fn program(agent: Option<&HeaderValue>) -> Cow<'_, str> {
    let name = String::from_utf8_lossy(agent.map_or(&[][..], HeaderValue::as_bytes));
    let end = name.find('/').unwrap_or(name.len());
    let fits = end <= MANAGER_BYTES && !name[..end].chars().any(|c| !options::is_printable(c));
    match name {
        Cow::Borrowed(name) if fits => name[..end].into(),
        name => {
            let mut kept = String::new();
            for c in name[..end].chars().filter(|c| options::is_printable(*c)) {
                if kept.len() + c.len_utf8() > MANAGER_BYTES {
                    break;
                }
                kept.push(c);
            }
            kept.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_their_user_agent() {
        let long = "x".repeat(127);
        for (agent, expect) in [
            ("kubectl/v1.37.1 (linux/amd64) kubernetes/abc", "kubectl".to_owned()),
            ("curl", "curl".to_owned()),
            ("", String::new()),
            ("/a", String::new()),
            ("a\tb c/1", "ab c".to_owned()),
            ("jürgen/1", "jürgen".to_owned()),
            (&format!("{long}ü/1"), long.clone()),
        ] {
            let header = HeaderValue::from_bytes(agent.as_bytes()).unwrap();
            assert_eq!(program(Some(&header)), expect, "{agent}");
        }
        assert_eq!(program(None), "");
    }
}
