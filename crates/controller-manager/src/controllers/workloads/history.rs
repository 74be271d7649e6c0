//! Revisions of a workload's template, kept as objects: what daemon sets and stateful sets were before.

use std::sync::Arc;

use client::{Client, DeleteOptions};
use controllers::Error;
use controllers::hash;
use controllers::pods::template_labels;
use controllers::views::{ControllerRevision, Object};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The longest part of a workload's name that the names of its revisions have.
const LONGEST_PREFIX: usize = 223;

/// The revision of the present template, and the others, oldest first.
pub(super) struct History {
    pub(super) current: Arc<ControllerRevision>,
    pub(super) old: Vec<Arc<ControllerRevision>>,
}

/// Another object has the name that the new revision would have; the next try gets another hash.
#[derive(Debug, thiserror::Error)]
#[error("found a hash collision for {kind} {key}, bumped its collisionCount to {count}")]
pub(super) struct Collision {
    kind: &'static str,
    key: String,
    pub(super) count: i32,
}

/// Where a revision gets its hash, and the label that shows it.
#[derive(Clone, Copy)]
pub(super) enum Naming<'a> {
    OfTemplate { template: &'a Value, label: &'static str },
    OfData { label: &'static str },
}

/// Finds the revision of the template among those of the workload, and makes it where there is none.
pub(super) async fn current<V: Object>(
    client: &Client,
    workload: &V,
    template: &Value,
    mut revisions: Vec<Arc<ControllerRevision>>,
    naming: Naming<'_>,
    collisions: Option<i32>,
) -> Result<Result<History, Collision>, Error> {
    let namespace = workload.meta().namespace();
    oldest_first(&mut revisions);
    let data = data(template);
    let newest = revisions.last().map_or(0, |revision| revision.revision);
    let found = revisions.iter().rposition(|revision| hash::same_tree(&revision.data, &data));
    let Some(at) = found else {
        let made = make(client, workload, template, &data, newest + 1, naming, collisions).await?;
        return Ok(made.map(|current| History { current: Arc::new(current), old: revisions }));
    };
    let mut current = revisions.remove(at);
    if current.revision < newest {
        // An earlier template is the current one again.
        let patch = client::Patch::Merge(json!({"revision": newest + 1}));
        current = Arc::new(client.patch(namespace, &current.metadata.name, None, patch).await?);
    }
    Ok(Ok(History { current, old: revisions }))
}

pub(super) fn oldest_first(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|left, right| {
        let (one, other) = (&left.metadata, &right.metadata);
        left.revision
            .cmp(&right.revision)
            .then_with(|| one.created().cmp(&other.created()))
            .then_with(|| one.name.cmp(&other.name))
    });
}

async fn make<V: Object>(
    client: &Client,
    workload: &V,
    template: &Value,
    data: &Value,
    number: i64,
    naming: Naming<'_>,
    collisions: Option<i32>,
) -> Result<Result<ControllerRevision, Collision>, Error> {
    let meta = workload.meta();
    let text = go_text(data);
    let (hash, label) = match naming {
        Naming::OfTemplate { template, label } => (hash::hash(template, collisions), label),
        Naming::OfData { label } => (hash::of_bytes(text.as_bytes(), collisions), label),
    };
    let mut labels = template_labels(template);
    labels.insert(label.to_owned(), hash.clone());
    let prefix = &meta.name[..meta.name.len().min(LONGEST_PREFIX)];
    let name = format!("{prefix}-{hash}");
    let body = NewRevision {
        api_version: ControllerRevision::API_VERSION,
        kind: ControllerRevision::KIND,
        metadata: json!({
            "name": name,
            "namespace": meta.namespace,
            "labels": labels,
            "annotations": meta.annotations,
            "ownerReferences": [meta.controller_reference(V::API_VERSION, V::KIND)],
        }),
        data: RawValue::from_string(text).map_err(client::Error::Encode)?,
        revision: number,
    };
    match client.create::<ControllerRevision>(meta.namespace(), &body).await {
        Err(error) if error.is_already_exists() => {
            let existing: ControllerRevision = client.get(meta.namespace(), &name).await?;
            if existing.metadata.is_controlled_by(&meta.uid) && hash::same_tree(&existing.data, data) {
                return Ok(Ok(existing));
            }
            let count = collisions.unwrap_or(0) + 1;
            Ok(Err(Collision { kind: V::KIND, key: meta.key(), count }))
        }
        result => Ok(Ok(result?)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewRevision {
    api_version: &'static str,
    kind: &'static str,
    metadata: Value,
    data: Box<RawValue>,
    revision: i64,
}

/// Deletes so many of the oldest revisions that nothing was made of.
pub(super) async fn forget_old(
    client: &Client,
    old: &[Arc<ControllerRevision>],
    surplus: usize,
    is_live: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Error> {
    for revision in old.iter().filter(|revision| !is_live(revision)).take(surplus) {
        let meta = &revision.metadata;
        let options = DeleteOptions::default().uid(meta.uid.clone());
        match client.delete::<ControllerRevision>(meta.namespace(), &meta.name, &options).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// A patch that would bring the template back. Its fields are sorted: another implementation compares the bytes.
fn data(template: &Value) -> Value {
    let mut template = template.clone();
    template["$patch"] = "replace".into();
    sorted(&json!({"spec": {"template": template}}))
}

/// The template that a revision keeps.
pub(super) fn template(data: &Value) -> Value {
    let mut template = data.pointer("/spec/template").cloned().unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.shift_remove("$patch");
    }
    template
}

fn sorted(tree: &Value) -> Value {
    match tree {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.keys().collect();
            keys.sort();
            let field = |key: &String| (key.clone(), sorted(&fields[key.as_str()]));
            Value::Object(keys.into_iter().map(field).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// JSON as Go's encoder writes it, which escapes some characters more: the bytes are stored, and compared.
fn go_text(tree: &Value) -> String {
    let text = tree.to_string();
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_what_upstream_stores() {
        let template = json!({"spec": {"b": [{"d": "<&>", "c": 2}], "a": 1}, "metadata": {}});
        let expect = r#"{"spec":{"template":{"$patch":"replace","metadata":{},"spec":{"a":1,"b":[{"c":2,"d":"\u003c\u0026\u003e"}]}}}}"#;
        assert_eq!(go_text(&data(&template)), expect);
    }
}
