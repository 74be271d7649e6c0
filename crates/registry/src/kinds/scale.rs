//! `autoscaling/v1 Scale`: how many of something there are, for the kinds that have the subresource.

use api::Tree;
use api::json;
use api::model::Resource;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::labels;

use crate::tree::{Object, ensure, get, number, text};

/// The scale of an object.
pub fn from_object(resource: &Resource, object: &Tree) -> Tree {
    let selector = get(object, "spec.selector");
    let selector = if resource.plural == "replicationcontrollers" {
        labels::Selector::from_map(selector).to_string()
    } else {
        labels::Selector::from_label_selector(selector)
            .map(|selector| selector.to_string())
            .unwrap_or_default()
    };
    let mut metadata = Object::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        let value = get(object, &format!("metadata.{field}"));
        if !value.is_null() {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let mut spec = Object::new();
    if number(object, "spec.replicas") != 0 {
        spec.insert("replicas", number(object, "spec.replicas").into());
    }
    let mut status = json!({"replicas": number(object, "status.replicas")});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// Sets an object's replicas by a scale; the caller has compared resource versions.
pub fn apply(scale: &Tree, object: &mut Tree) {
    ensure(object, "spec").insert("replicas", number(scale, "spec.replicas").into());
    let version = text(scale, "metadata.resourceVersion");
    if !version.is_empty() {
        ensure(object, "metadata").insert("resourceVersion", version.into());
    }
}

/// The field errors of a scale.
pub fn validate(scale: &Tree) -> Vec<Cause> {
    let mut errors = Vec::new();
    if text(scale, "metadata.name").is_empty() {
        errors.push(Path::new("metadata.name").required("name or generateName is required"));
    }
    crate::rules::not_negative(number(scale, "spec.replicas"), &Path::new("spec.replicas"), &mut errors);
    errors
}
