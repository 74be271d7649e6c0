//! Definitions of custom resources: their defaults, and which versions are stored. `custom::definition` validates them.

use api::Tree;
use api::json;
use machinery::bounds::Seen;

use crate::custom::definition;
use crate::profile::{Generation, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, as_object, ensure, fill, fill_pointer, flag, list, member, put, text};

pub(super) const RULES: Table = &[
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec",
        &[Rule::DefaultFn(spec)],
    ),
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.ServiceReference",
        &[Rule::Default("port", Literal::Number(443))],
    ),
];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::Spec,
    status: true,
    unconditional_update: false,
    prepare: Some(prepare),
    prepare_delete: Some(terminate),
    any_finalizer: true,
    check: Some(definition::check),
    check_status: Some(definition::check_status),
    warn: Some(definition::warnings),
    full: true,
    ..Profile::new("apiextensions.k8s.io", "customresourcedefinitions")
}];

/// Only names in `spec` have defaults: those in `status` are empty until they are accepted.
fn spec(spec: &mut Object) {
    fill_pointer(spec, "conversion", json!({"strategy": "None"}));
    let names = as_object(spec.entry("names").or_insert(Tree::Null));
    let kind = member(names, "kind").to_owned();
    if !kind.is_empty() {
        fill(names, "singular", kind.to_lowercase());
        fill(names, "listKind", format!("{kind}List"));
    }
}

/// A version that was ever the stored one is remembered, for objects may still be of it.
fn prepare(_: &Context<'_>, definition: &mut Tree, old: Option<&Tree>) {
    if old.is_none() {
        let status =
            json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []});
        put(as_object(definition), "status", status);
    }
    let versions = list(definition, "spec.versions").iter().filter(|version| flag(version, "storage"));
    let mut stored: Vec<Tree> = list(definition, "status.storedVersions").to_vec();
    let known: Seen<String> = stored.iter().filter_map(Tree::as_str).map(str::to_owned).collect();
    let mut added = Seen::new();
    let new = versions.map(|version| text(version, "name"));
    let new: Vec<Tree> =
        new.filter(|name| !known.contains(*name) && !added.repeats(*name)).map(Tree::from).collect();
    stored.extend(new);
    ensure(definition, "status").insert("storedVersions", stored.into());
}

/// A definition waits until its objects are deleted.
fn terminate(definition: &mut Tree, now: jiff::Timestamp) {
    let finalizers = ensure(definition, "metadata").entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|own| *own == *definition::FINALIZER)
    {
        finalizers.push(definition::FINALIZER.into());
    }
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    ensure(definition, "metadata").insert("deletionTimestamp", time.into());
    let condition = definition::Condition {
        ty: "Terminating",
        status: "True",
        reason: "InstanceDeletionPending",
        message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    };
    definition::set_condition(definition, &condition, now);
}
