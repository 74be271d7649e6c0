//! Leases.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::generic::Profile;
use crate::rules::{Rule, Table, not_negative};
use crate::tree::{int, number};

pub(super) const RULES: Table = &[("k8s.io.api.coordination.v1.LeaseSpec", &[Rule::Check(lease)])];

pub(super) const PROFILES: &[Profile] = &[Profile {
    create_on_update: true,
    unconditional_update: false,
    full: true,
    ..Profile::new("coordination.k8s.io", "leases")
}];

fn lease(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(path.field("leaseDurationSeconds").invalid(seconds, "must be greater than 0"));
    }
    not_negative(number(spec, "leaseTransitions"), &path.field("leaseTransitions"), errors);
}
