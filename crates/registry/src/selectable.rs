//! Fields that can be selected by. Every kind has its name, and its namespace where it lives in one; these have more.

use std::borrow::Cow;

use api::Tree;
use api::model::{Resource, Scope};

use crate::kind::Kind;
use crate::tree::{get, number};

/// A label of `fieldSelector=` and where its value stands; of several places, `|` between them, the first that is not empty counts.
pub type Field<'k> = (&'k str, &'k str);

const META: [Field<'static>; 2] =
    [("metadata.name", "metadata.name"), ("metadata.namespace", "metadata.namespace")];

const EVENT: &[Field<'static>] = &[
    META[0],
    META[1],
    ("involvedObject.kind", "involvedObject.kind"),
    ("involvedObject.namespace", "involvedObject.namespace"),
    ("involvedObject.name", "involvedObject.name"),
    ("involvedObject.uid", "involvedObject.uid"),
    ("involvedObject.apiVersion", "involvedObject.apiVersion"),
    ("involvedObject.resourceVersion", "involvedObject.resourceVersion"),
    ("involvedObject.fieldPath", "involvedObject.fieldPath"),
    ("reason", "reason"),
    ("reportingComponent", "reportingComponent"),
    ("source", "source.component|reportingComponent"),
    ("type", "type"),
];

const NEW_EVENT: &[Field<'static>] = &[
    META[0],
    META[1],
    ("regarding.kind", "regarding.kind"),
    ("regarding.namespace", "regarding.namespace"),
    ("regarding.name", "regarding.name"),
    ("regarding.uid", "regarding.uid"),
    ("regarding.apiVersion", "regarding.apiVersion"),
    ("regarding.resourceVersion", "regarding.resourceVersion"),
    ("regarding.fieldPath", "regarding.fieldPath"),
    ("reason", "reason"),
    ("reportingController", "reportingController"),
    ("type", "type"),
];

/// `(group, plural)` to the labels.
static FIELDS: &[(&str, &str, &[Field<'static>])] = &[
    (
        "",
        "pods",
        &[
            META[0],
            META[1],
            ("spec.nodeName", "spec.nodeName"),
            ("spec.restartPolicy", "spec.restartPolicy"),
            ("spec.schedulerName", "spec.schedulerName"),
            ("spec.serviceAccountName", "spec.serviceAccountName"),
            ("spec.hostNetwork", "spec.hostNetwork"),
            ("status.phase", "status.phase"),
            ("status.podIP", "status.podIP"),
            ("status.podIPs", "status.podIP"),
            ("status.nominatedNodeName", "status.nominatedNodeName"),
        ],
    ),
    ("", "events", EVENT),
    ("events.k8s.io", "events", NEW_EVENT),
    ("", "nodes", &[META[0], ("spec.unschedulable", "spec.unschedulable")]),
    ("", "namespaces", &[META[0], ("status.phase", "status.phase")]),
    ("", "secrets", &[META[0], META[1], ("type", "type")]),
    ("", "services", &[META[0], META[1], ("spec.clusterIP", "spec.clusterIP"), ("spec.type", "spec.type")]),
    ("", "replicationcontrollers", &[META[0], META[1], ("status.replicas", "status.replicas")]),
    ("batch", "jobs", &[META[0], META[1], ("status.successful", "status.succeeded")]),
    ("certificates.k8s.io", "certificatesigningrequests", &[META[0], ("spec.signerName", "spec.signerName")]),
    ("certificates.k8s.io", "clustertrustbundles", &[META[0], ("spec.signerName", "spec.signerName")]),
    (
        "certificates.k8s.io",
        "podcertificaterequests",
        &[
            META[0],
            META[1],
            ("spec.signerName", "spec.signerName"),
            ("spec.podName", "spec.podName"),
            ("spec.nodeName", "spec.nodeName"),
        ],
    ),
    (
        "resource.k8s.io",
        "resourceslices",
        &[META[0], ("spec.nodeName", "spec.nodeName"), ("spec.driver", "spec.driver")],
    ),
];

/// The labels of a kind and the paths of their values.
pub fn fields(kind: &Kind) -> Cow<'_, [Field<'_>]> {
    match kind.custom() {
        Some(custom) => {
            let names = &META[..if kind.scope == Scope::Namespaced { 2 } else { 1 }];
            let own = custom.selectable.iter().map(|path| (path.as_ref(), path.as_ref()));
            names.iter().copied().chain(own).collect::<Vec<_>>().into()
        }
        None => built_in(kind).into(),
    }
}

fn built_in(resource: &Resource) -> &'static [Field<'static>] {
    let found =
        FIELDS.iter().find(|(group, plural, _)| resource.group == *group && resource.plural == *plural);
    // Without fields of their own even cluster-scoped kinds take the namespace, which is empty.
    found.map_or(&META, |(_, _, fields)| fields)
}

/// An object's value for a label: numbers and booleans in words, zero and false where the field is absent.
pub fn value<'t>(object: &'t Tree, field: &Field<'_>) -> Cow<'t, str> {
    let mut places = field.1.split('|').map(|path| get(object, path));
    match places.find(|value| !value.is_null() && *value != "").unwrap_or(&Tree::Null) {
        Tree::String(value) => value.into(),
        Tree::Bool(value) => if *value { "true" } else { "false" }.into(),
        Tree::Number(number) => number.to_string().into(),
        _ => match field.0 {
            "spec.hostNetwork" | "spec.unschedulable" => "false".into(),
            "status.replicas" | "status.successful" => number(object, field.1).to_string().into(),
            _ => "".into(),
        },
    }
}

/// The complaint about a label that cannot be selected by.
pub fn unsupported(resource: &Kind, label: &str) -> String {
    let own = resource.custom().is_some()
        || matches!(
            (&*resource.group, &*resource.plural),
            (
                "",
                "namespaces"
                    | "nodes"
                    | "events"
                    | "secrets"
                    | "services"
                    | "replicationcontrollers"
                    | "pods"
            ) | ("events.k8s.io", "events")
        );
    match (own, &*resource.plural) {
        (_, "jobs") => format!("field label {label:?} not supported for Job"),
        (_, "resourceslices") => {
            format!("field label not supported for {}, Kind=ResourceSlice: {label}", resource.api_version())
        }
        (_, "certificatesigningrequests" | "clustertrustbundles" | "podcertificaterequests") => {
            format!("field label not supported: {label}")
        }
        (true, _) => format!("field label not supported: {label}"),
        (false, _) => {
            format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
    }
}
