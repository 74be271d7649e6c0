//! APIServices: named `version.group`, so that the core group's has a dot at its end.

use api::Tree;
use api::json;
use machinery::names;

use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{as_object, has, put};

pub(super) const RULES: Table = &[(
    "k8s.io.kube_aggregator.pkg.apis.apiregistration.v1.ServiceReference",
    &[Rule::Default("port", Literal::Number(443))],
)];

pub(super) const PROFILES: &[Profile] = &[Profile {
    name: names::path_segment,
    generation: Generation::Unset,
    status: true,
    unconditional_update: false,
    status_keeps: ALL_METADATA,
    prepare: Some(prepare),
    ..Profile::new("apiregistration.k8s.io", "apiservices")
}];

/// What this server answers itself is there from the beginning.
fn prepare(context: &Context<'_>, service: &mut Tree, old: Option<&Tree>) {
    if old.is_some() || has(service, "spec.service") {
        return;
    }
    let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let available = json!({
        "type": "Available",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "Local",
        "message": "Local APIServices are always available",
    });
    put(as_object(service), "status", json!({"conditions": [available]}));
}
