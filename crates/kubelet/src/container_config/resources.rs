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

pub fn linux(pod: &Pod, container: &Container, node: &Node) -> LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let request = qos::amount(resources.requests.as_ref(), "cpu");
    // Where a container has no limit of its own, the pod's holds for it.
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
    let limited = node.cfs_quota && cpu_limit > 0;
    LinuxContainerResources {
        cpu_shares: shares(request.unwrap_or(cpu_limit)),
        cpu_quota: if limited { quota(cpu_limit, node.cfs_period_microseconds) } else { 0 },
        cpu_period: if limited { node.cfs_period_microseconds } else { 0 },
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: qos::oom_score_adj(pod, container, node.memory_capacity),
        unified,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
