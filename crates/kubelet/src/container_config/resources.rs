//! Requests and limits as cgroup values.

use super::Node;
use crate::qos;
use cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;

const SHARES_PER_CPU: i64 = 1024;
const MINIMUM_SHARES: i64 = 2;
const MAXIMUM_SHARES: i64 = 262_144;
const MINIMUM_QUOTA: i64 = 1000;

pub fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(SHARES_PER_CPU) / 1000).clamp(MINIMUM_SHARES, MAXIMUM_SHARES)
}

/// Microseconds of CPU per period; 0 is no limit.
pub fn quota(milli_cpu: i64, period: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu.saturating_mul(period) / 1000).max(MINIMUM_QUOTA) }
}

/// Thousandths of processors that have such shares; 0 where they are the fewest.
pub fn cpu_of_shares(shares: i64) -> i64 {
    if shares < MINIMUM_SHARES { 0 } else { (shares * 1000 + SHARES_PER_CPU - 1) / SHARES_PER_CPU }
}

/// Thousandths of processors that a quota allows; 0 is no limit.
pub fn cpu_of_quota(quota: i64, period: i64) -> i64 {
    if quota <= 0 || period <= 0 { 0 } else { quota.saturating_mul(1000) / period }
}

pub fn linux(pod: &Pod, container: &Container, node: &Node) -> LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let request = qos::amount(resources.requests.as_ref(), "cpu");
    // A container without a limit of its own gets the pod's.
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()).and_then(|it| it.limits.as_ref());
    let limit = |name: &str| {
        let own = qos::amount(resources.limits.as_ref(), name).filter(|value| *value > 0);
        own.or_else(|| qos::amount(whole, name)).unwrap_or_default()
    };
    let (cpu_limit, memory_limit) = (limit("cpu"), limit("memory"));
    let mut unified = BTreeMap::new();
    if node.cgroup_v2 {
        unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    let mut memory_swap_limit = 0;
    if node.swap.controlled && node.cgroup_v2 {
        unified.insert("memory.swap.max".to_owned(), swap(pod, container, node).to_string());
    } else if node.swap.controlled {
        // Version 1 limits memory and swap together.
        memory_swap_limit = memory_limit;
    }
    let limited = node.cfs_quota && cpu_limit > 0;
    LinuxContainerResources {
        cpu_shares: shares(request.unwrap_or(cpu_limit)),
        cpu_quota: if limited { quota(cpu_limit, node.cfs_period_microseconds) } else { 0 },
        cpu_period: if limited { node.cfs_period_microseconds } else { 0 },
        memory_limit_in_bytes: memory_limit,
        memory_swap_limit_in_bytes: memory_swap_limit,
        oom_score_adj: qos::oom_score_adj(pod, container, node.memory_capacity),
        unified,
        ..Default::default()
    }
}

/// Whether a container may have swap.
pub fn may_swap(pod: &Pod, container: &Container, node: &Node) -> bool {
    let amount = |list: Option<&BTreeMap<_, _>>| qos::amount(list, "memory").unwrap_or_default();
    let resources = container.resources.as_ref();
    let request = amount(resources.and_then(|it| it.requests.as_ref()));
    let limit = amount(resources.and_then(|it| it.limits.as_ref()));
    node.swap.controlled
        && node.swap.limited
        && node.cgroup_v2
        && qos::class(pod) == qos::Class::Burstable
        && !crate::pods::is_critical(pod)
        && request != limit
}

/// Bytes of swap that a container may have: of the node's the part that its request is of the node's memory.
fn swap(pod: &Pod, container: &Container, node: &Node) -> i64 {
    let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
    let request = qos::amount(requests, "memory").unwrap_or_default();
    let may = may_swap(pod, container, node) && request <= node.memory_capacity;
    if !may || node.memory_capacity <= 0 {
        return 0;
    }
    // In double precision, as upstream does: the figure is visible to the byte.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    let bytes = (request as f64 / node.memory_capacity as f64 * node.swap.capacity as f64) as i64;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::swap::Swap;

    #[test]
    fn conversions() {
        assert_eq!(shares(0), 2);
        assert_eq!(shares(1), 2);
        assert_eq!(shares(500), 512);
        assert_eq!(quota(500, 100_000), 50_000);
        assert_eq!(quota(1, 100_000), 1000);
        assert_eq!(quota(0, 100_000), 0);
    }

    #[test]
    fn limits_of_the_pod_hold_for_containers_without_any() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "resources": {"limits": {"cpu": "200m", "memory": "96Mi"}, "requests": {"cpu": "100m"}},
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"memory": "1Mi"}}}]
        }}))
        .unwrap();
        let node = |cgroup_v2| Node {
            memory_capacity: 1 << 30,
            cgroup_v2,
            swap: Default::default(),
            cfs_quota: true,
            cfs_period_microseconds: 100_000,
            seccomp_default: false,
            seccomp_root: "/s".into(),
        };
        let containers = &pod.spec.as_ref().unwrap().containers;
        let first = linux(&pod, &containers[0], &node(false));
        assert_eq!((first.cpu_shares, first.cpu_quota), (204, 20_000));
        assert_eq!((first.memory_limit_in_bytes, first.unified.len()), (96 << 20, 0));
        let second = linux(&pod, &containers[1], &node(true));
        assert_eq!(second.memory_limit_in_bytes, 1 << 20);
        assert_eq!(second.unified["memory.oom.group"], "1");
    }
    #[test]
    fn swap_is_for_burstable_pods_where_it_is_allowed() {
        let made = |limited, cgroup_v2, controlled, priority: i32, request: &str, limit: &str| {
            let node = Node {
                memory_capacity: 1000 << 20,
                cgroup_v2,
                swap: Swap { controlled, limited, capacity: 500 << 20 },
                cfs_quota: true,
                cfs_period_microseconds: 100_000,
                seccomp_default: false,
                seccomp_root: "/s".into(),
            };
            let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
                "priority": priority,
                "containers": [
                    {"name": "a", "resources": {"limits": {"memory": limit}, "requests": {"memory": request}}},
                    {"name": "b", "resources": {"requests": {"cpu": "1"}}},
                ]
            }}))
            .unwrap();
            let container = &pod.spec.as_ref().unwrap().containers[0];
            let made = linux(&pod, container, &node);
            (made.unified.get("memory.swap.max").cloned(), made.memory_swap_limit_in_bytes >> 20)
        };
        let none = (Some("0".to_owned()), 0);
        assert_eq!(made(false, true, true, 0, "100Mi", "200Mi"), none);
        assert_eq!(made(true, true, true, 0, "100Mi", "200Mi"), (Some((50 << 20).to_string()), 0));
        assert_eq!(made(true, true, true, 2_000_000_000, "100Mi", "200Mi"), none);
        assert_eq!(made(true, true, true, 0, "200Mi", "200Mi"), none);
        assert_eq!(made(true, true, true, 0, "0", "0"), none);
        assert_eq!(made(true, true, true, 0, "2000Mi", "3000Mi"), none);
        assert_eq!(made(true, true, false, 0, "100Mi", "200Mi"), (None, 0), "the kernel does not count swap");
        assert_eq!(made(false, false, true, 0, "100Mi", "200Mi"), (None, 200));
        assert_eq!(made(false, false, false, 0, "100Mi", "200Mi"), (None, 0));
    }
}
