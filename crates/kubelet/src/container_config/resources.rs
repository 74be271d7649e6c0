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
    let cpu_limit = qos::amount(resources.limits.as_ref(), "cpu").unwrap_or_default();
    let memory_limit = qos::amount(resources.limits.as_ref(), "memory").unwrap_or_default();
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
}
