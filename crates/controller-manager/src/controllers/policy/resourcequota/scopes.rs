//! Which pods and claims a quota is about.

use controllers::views::{PersistentVolumeClaim, Pod, ResourceQuota, Resources, ScopeRequirement};

/// Whether a quota is about some objects only.
pub(super) fn is_scoped(quota: &ResourceQuota) -> bool {
    requirements(quota).next().is_some()
}

/// Its scopes, all of which have to hold.
fn requirements(quota: &ResourceQuota) -> impl Iterator<Item = ScopeRequirement> {
    let plain = quota.spec.scopes.iter().map(|name| ScopeRequirement {
        scope_name: name.clone(),
        operator: "Exists".to_owned(),
        values: Vec::new(),
    });
    plain.chain(quota.spec.scope_selector.match_expressions.iter().cloned())
}

pub(super) fn has_pod(quota: &ResourceQuota, pod: &Pod) -> bool {
    requirements(quota).all(|requirement| match requirement.scope_name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => one_of(&requirement, Some(&pod.spec.priority_class_name)),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    })
}

pub(super) fn has_claim(quota: &ResourceQuota, claim: &PersistentVolumeClaim) -> bool {
    requirements(quota).all(|requirement| match requirement.scope_name.as_str() {
        "VolumeAttributesClass" => {
            let asked = claim.spec.volume_attributes_class_name.as_deref();
            let current = claim.status.current_volume_attributes_class_name.as_deref();
            one_of(&requirement, asked) || one_of(&requirement, current)
        }
        _ => false,
    })
}

fn is_terminating(pod: &Pod) -> bool {
    pod.spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Pod) -> bool {
    let mut containers = pod.spec.containers.iter().chain(pod.spec.init_containers.iter());
    let asks = |resources: &Resources| {
        let computes = |name: &str| matches!(name, "cpu" | "memory");
        let mut amounts = resources.requests.iter().chain(&resources.limits);
        amounts.any(|(name, amount)| computes(name) && amount != "0")
    };
    !asks(&pod.spec.resources) && containers.all(|container| !asks(&container.resources))
}

fn one_of(requirement: &ScopeRequirement, value: Option<&str>) -> bool {
    let value = value.filter(|value| !value.is_empty());
    let named = |value: &str| requirement.values.iter().any(|own| own == value);
    match requirement.operator.as_str() {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => value.is_some_and(named),
        "NotIn" => value.is_none_or(|value| !named(value)),
        _ => false,
    }
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let affinity = pod.spec.affinity.as_ref();
    let terms = ["podAffinity", "podAntiAffinity"].iter().flat_map(|kind| {
        let rules = affinity.map(|affinity| &affinity[*kind]);
        let list = |name: &str| rules.and_then(|rules| rules[name].as_array()).into_iter().flatten();
        let required = list("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = list("preferredDuringSchedulingIgnoredDuringExecution");
        required.chain(preferred.map(|weighted| &weighted["podAffinityTerm"])).collect::<Vec<_>>()
    });
    terms.into_iter().any(|term| {
        let named = term["namespaces"].as_array().is_some_and(|names| !names.is_empty());
        named || !term["namespaceSelector"].is_null()
    })
}
