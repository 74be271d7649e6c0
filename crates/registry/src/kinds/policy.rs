//! Pod disruption budgets.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::{labels, names};

use crate::kinds::conditions;
use crate::kinds::workload::{not_above_hundred, number_or_percent};
use crate::profile::{Generation, Profile};
use crate::rules::{self, Rule, Table};
use crate::strategy::Context;
use crate::tree::{get, has, list, number};

pub(super) const RULES: Table = &[("k8s.io.api.policy.v1.PodDisruptionBudgetSpec", &[Rule::Check(budget)])];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::Spec,
    status: true,
    name: names::path_segment,
    unconditional_update: false,
    check_status: Some(check_status),
    full: true,
    ..Profile::new("policy", "poddisruptionbudgets")
}];

fn check_status(_: &Context<'_>, budget: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("status");
    conditions::check(list(budget, "status.conditions"), &path.field("conditions"), errors);
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        rules::not_negative(number(get(budget, "status"), field), &path.field(field), errors);
    }
}

fn budget(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        let shown = crate::internal::shown(spec, "policy.v1.PodDisruptionBudgetSpec");
        errors.push(path.invalid(shown, "minAvailable and maxUnavailable cannot be both set"));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if has(spec, field) {
            number_or_percent(get(spec, field), &path.field(field), errors);
            not_above_hundred(get(spec, field), &path.field(field), errors);
        }
    }
    labels::validate_label_selector(get(spec, "selector"), &path.field("selector"), errors);
    let values = ["AlwaysAllow", "IfHealthyBudget"];
    rules::one_of(spec, "unhealthyPodEvictionPolicy", &values, path, errors);
}
