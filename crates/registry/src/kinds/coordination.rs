//! Leases.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::profile::Profile;
use crate::rules::{Rule, Table, not_negative};
use crate::strategy::Context;
use crate::tree::{has, int, number, object_mut};

pub(super) const RULES: Table = &[("k8s.io.api.coordination.v1.LeaseSpec", &[Rule::Check(lease)])];

pub(super) const PROFILES: &[Profile] = &[Profile {
    create_on_update: true,
    unconditional_update: false,
    prepare: Some(prepare),
    full: true,
    ..Profile::new("coordination.k8s.io", "leases")
}];

/// What coordinated leader election would write: off by default, and dropped then.
fn prepare(_: &Context<'_>, lease: &mut Tree, old: Option<&Tree>) {
    let used = old.is_some_and(|old| has(old, "spec.strategy") || has(old, "spec.preferredHolder"));
    if let Some(spec) = object_mut(lease, "spec").filter(|_| !used) {
        spec.remove("strategy");
        spec.remove("preferredHolder");
    }
}

fn lease(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(path.field("leaseDurationSeconds").invalid(seconds, "must be greater than 0"));
    }
    not_negative(number(spec, "leaseTransitions"), &path.field("leaseTransitions"), errors);
}
