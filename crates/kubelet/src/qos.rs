//! Quality of service: a pod's class, and what follows from it for the OOM killer and cgroups.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use machinery::quantity::Quantity;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Guaranteed => "Guaranteed",
            Class::Burstable => "Burstable",
            Class::BestEffort => "BestEffort",
        }
    }
}

/// Resources by name, in thousandths of their unit.
pub type Amounts = BTreeMap<String, i128>;

pub fn class(pod: &Pod) -> Class {
    if let Some(name) = pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        match name {
            "Guaranteed" => return Class::Guaranteed,
            "Burstable" => return Class::Burstable,
            "BestEffort" => return Class::BestEffort,
            _ => {}
        }
    }
    compute(pod)
}

/// The class by the spec alone: Guaranteed when every container limits CPU and memory to what it requests.
pub fn compute(pod: &Pod) -> Class {
    let Some(spec) = &pod.spec else { return Class::BestEffort };
    if let Some(resources) = spec.resources.as_ref().filter(|it| {
        !compute_only(it.requests.as_ref()).is_empty() || !compute_only(it.limits.as_ref()).is_empty()
    }) {
        return match matches_limits(resources) {
            true => Class::Guaranteed,
            false => Class::Burstable,
        };
    }
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let empty = ResourceRequirements::default();
    let resources = |container: &Container| container.resources.clone().unwrap_or_else(|| empty.clone());
    let any = containers().any(|container| {
        let resources = resources(container);
        !compute_only(resources.requests.as_ref()).is_empty()
            || !compute_only(resources.limits.as_ref()).is_empty()
    });
    if !any {
        Class::BestEffort
    } else if containers().all(|container| matches_limits(&resources(container))) {
        Class::Guaranteed
    } else {
        Class::Burstable
    }
}

fn matches_limits(resources: &ResourceRequirements) -> bool {
    let requests = compute_only(resources.requests.as_ref());
    let limits = compute_only(resources.limits.as_ref());
    limits.len() == 2 && requests.iter().all(|(name, value)| limits.get(name) == Some(value))
}

type Quantities = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn compute_only(resources: Option<&Quantities>) -> Amounts {
    let mut found = amounts(resources);
    found.retain(|name, value| (name == "cpu" || name == "memory") && *value > 0);
    found
}

pub fn amounts(resources: Option<&Quantities>) -> Amounts {
    let parse = |text: &str| Quantity::parse(text).map(|quantity| quantity.milli()).unwrap_or_default();
    resources.into_iter().flatten().map(|(name, quantity)| (name.clone(), parse(&quantity.0))).collect()
}

/// One resource of a container, in its unit rounded up, or thousandths for `cpu`.
pub fn amount(resources: Option<&Quantities>, name: &str) -> Option<i64> {
    let quantity = Quantity::parse(&resources?.get(name)?.0).ok()?;
    let milli = quantity.milli();
    let value = if name == "cpu" { milli } else { (milli + 999).div_euclid(1000) };
    i64::try_from(value).ok()
}

pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Total of a pod's requests or limits: the sum over containers and sidecars, or the peak of its init containers
/// where that is more, plus overhead. `of` picks requests or limits.
pub fn pod_total(pod: &Pod, of: fn(&ResourceRequirements) -> Option<&Quantities>) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let empty = ResourceRequirements::default();
    let wants = |container: &Container| amounts(of(container.resources.as_ref().unwrap_or(&empty)));
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &wants(container));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let wants = wants(container);
        if is_sidecar(container) {
            add(&mut sidecars, &wants);
            add(&mut total, &wants);
            maximum(&mut peak, &sidecars);
        } else {
            let mut sum = sidecars.clone();
            add(&mut sum, &wants);
            maximum(&mut peak, &sum);
        }
    }
    maximum(&mut total, &peak);
    if let Some(resources) = &spec.resources {
        for (name, value) in amounts(of(resources)) {
            total.insert(name, value);
        }
    }
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, value) in more {
        *total.entry(name.clone()).or_default() += value;
    }
}

fn maximum(total: &mut Amounts, other: &Amounts) {
    for (name, value) in other {
        let entry = total.entry(name.clone()).or_default();
        *entry = (*entry).max(*value);
    }
}

/// What the kernel adds to a container's badness: guaranteed pods go last, best-effort pods first, and
/// between them the more a container asked for, the later.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    const NODE_CRITICAL: &str = "system-node-critical";
    let named = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()) == Some(NODE_CRITICAL);
    match class(pod) {
        _ if named && crate::pods::is_critical(pod) => -997,
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let score = 1000 - 1000 * counted_memory(pod, container) / i128::from(memory_capacity.max(1));
            i64::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// Bytes by which a container is judged: what it requests, a sidecar at least as much as the smallest container beside it, and
/// its share of what the pod requests beyond its containers.
fn counted_memory(pod: &Pod, container: &Container) -> i128 {
    let Some(spec) = &pod.spec else { return 0 };
    let request = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
        i128::from(amount(requests, "memory").unwrap_or_default())
    };
    let init = || spec.init_containers.iter().flatten();
    let of_sidecar = is_sidecar(container) && init().any(|it| it.name == container.name);
    let least = if of_sidecar { spec.containers.iter().map(request).min() } else { None };
    let own = request(container).max(least.unwrap_or_default());
    let requested = |resources: Option<&ResourceRequirements>| {
        amount(resources.and_then(|it| it.requests.as_ref()), "memory").map(i128::from)
    };
    let Some(of_pod) = requested(spec.resources.as_ref()) else { return own };
    let mut without = pod.clone();
    if let Some(spec) = &mut without.spec {
        (spec.resources, spec.overhead) = (None, None);
    }
    let of_containers =
        pod_total(&without, |it| it.requests.as_ref()).get("memory").map_or(0, |it| it / 1000);
    let count = i128::try_from(spec.containers.len() + init().count()).unwrap_or(1);
    own + (of_pod - of_containers).max(0) / count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes() {
        let check = |containers, expect: Class| assert_eq!(compute(&pod(containers)), expect);
        check(serde_json::json!([{"name": "a"}]), Class::BestEffort);
        check(serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]), Class::Burstable);
        let full = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        check(serde_json::json!([{"name": "a", "resources": full}]), Class::Guaranteed);
        check(serde_json::json!([{"name": "a", "resources": full}, {"name": "b"}]), Class::Burstable);
    }

    #[test]
    fn oom_scores() {
        let burstable = pod(serde_json::json!([{"name": "a", "resources": {"requests": {"memory": "1Gi"}}}]));
        let container = &burstable.spec.as_ref().unwrap().containers[0];
        assert_eq!(oom_score_adj(&burstable, container, 4 << 30), 750);
        let mut critical = burstable.clone();
        critical.spec.as_mut().unwrap().priority = Some(2_000_001_000);
        assert_eq!(oom_score_adj(&critical, container, 4 << 30), 750, "not for the node's sake");
        critical.spec.as_mut().unwrap().priority_class_name = Some("system-node-critical".into());
        assert_eq!(oom_score_adj(&critical, container, 4 << 30), -997);
        let requests = |memory: &str| serde_json::json!({"requests": {"memory": memory}});
        let whole: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "initContainers": [{"name": "s", "restartPolicy": "Always"}],
            "containers": [
                {"name": "a", "resources": requests("1Gi")}, {"name": "b", "resources": requests("2Gi")}],
        }}))
        .unwrap();
        let sidecar = &whole.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
        assert_eq!(oom_score_adj(&whole, sidecar, 8 << 30), 875, "as the smallest of the others");
        let mut more = whole.clone();
        more.spec.as_mut().unwrap().resources = serde_json::from_value(requests("6Gi")).unwrap();
        let shares: Vec<i64> = more
            .spec
            .as_ref()
            .unwrap()
            .containers
            .iter()
            .map(|it| oom_score_adj(&more, it, 8 << 30))
            .collect();
        assert_eq!(shares, [750, 625], "each a third of what is left");
        let best_effort = pod(serde_json::json!([{"name": "a"}]));
        assert_eq!(
            oom_score_adj(&best_effort, &best_effort.spec.as_ref().unwrap().containers[0], 1 << 30),
            1000
        );
    }
}
