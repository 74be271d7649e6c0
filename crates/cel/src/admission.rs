//! Declared types of the variables of admission: the request and the object's namespace.

use std::sync::Arc;

use crate::decl::{DeclKind, DeclType};

fn string() -> DeclType {
    DeclType::string(0)
}

fn strings() -> DeclType {
    DeclType::list(string(), 0)
}

fn time() -> DeclType {
    DeclType::new(DeclKind::Timestamp { date: false }, 0, 0)
}

fn object<'f>(name: &str, fields: impl IntoIterator<Item = (&'f str, DeclType)>) -> DeclType {
    DeclType::object(fields).named(name)
}

/// `request`: an admission request without its objects.
pub fn request() -> Arc<DeclType> {
    let kind = || {
        object(
            "kubernetes.GroupVersionKind",
            [("group", string()), ("version", string()), ("kind", string())],
        )
    };
    let resource = || {
        let fields = [("group", string()), ("version", string()), ("resource", string())];
        object("kubernetes.GroupVersionResource", fields)
    };
    let user = object(
        "kubernetes.UserInfo",
        [
            ("username", string()),
            ("uid", string()),
            ("groups", strings()),
            ("extra", DeclType::map(strings(), 0)),
        ],
    );
    let fields = [
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", string()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", string()),
        ("name", string()),
        ("namespace", string()),
        ("operation", string()),
        ("userInfo", user),
        ("dryRun", DeclType::boolean()),
        ("options", DeclType::new(DeclKind::Dyn, 0, 1)),
    ];
    Arc::new(object("kubernetes.AdmissionRequest", fields))
}

/// `namespaceObject`: what expressions see of the object's namespace.
pub fn namespace() -> Arc<DeclType> {
    let condition = object(
        "kubernetes.NamespaceCondition",
        [
            ("status", string()),
            ("type", string()),
            ("lastTransitionTime", time()),
            ("message", string()),
            ("reason", string()),
        ],
    );
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", string()),
            ("generateName", string()),
            ("namespace", string()),
            ("labels", DeclType::map(string(), 0)),
            ("annotations", DeclType::map(string(), 0)),
            ("UID", string()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", DeclType::int()),
            ("deletionTimestamp", time()),
            ("generation", DeclType::int()),
            ("resourceVersion", string()),
            ("finalizers", strings()),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", [("finalizers", strings())]);
    let fields = [("conditions", DeclType::list(condition, 0)), ("phase", string())];
    let status = object("kubernetes.NamespaceStatus", fields);
    Arc::new(object("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)]))
}
