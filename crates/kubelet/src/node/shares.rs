//! What pods together get of the node, enforced by the groups above theirs: memory and processors against whatever is no pod, and
//! the burstable ones' share against the guaranteed.

use crate::pods;
use crate::qos::{self, Class};
use crate::run::Kubelet;

/// Once, where `enforceNodeAllocatable` has `pods`. What eviction keeps free is not taken off, so that eviction comes first.
pub fn limit_pods(kubelet: &Kubelet) {
    let levels = &kubelet.config.enforce_node_allocatable;
    for level in levels.iter().filter(|level| !matches!(level.as_str(), "pods" | "none" | "")) {
        tracing::warn!("{level} of enforceNodeAllocatable has no effect yet");
    }
    if !levels.iter().any(|level| level == "pods") {
        return;
    }
    let machine = &kubelet.machine;
    let reserved = |name| i64::try_from(super::reserved(&kubelet.config, name)).unwrap_or(i64::MAX);
    kubelet.cgroups.limit_pods(
        (machine.cpus * 1000).saturating_sub(reserved("cpu")).max(0),
        machine.memory_bytes.saturating_sub(reserved("memory") / 1000),
        processes().map(|count| count.saturating_sub(reserved("pid") / 1000)),
    );
}

/// Processes and threads that the kernel has at most.
fn processes() -> Option<i64> {
    let read =
        |name| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse::<i64>().ok();
    read("pid_max").into_iter().chain(read("threads-max")).min()
}

/// Whenever a burstable pod comes, and from time to time, as pods go.
pub fn weigh_burstable(kubelet: &Kubelet) {
    let requested = kubelet
        .pods
        .all()
        .iter()
        .filter(|pod| qos::class(pod) == Class::Burstable)
        .filter(|pod| {
            let status = kubelet.pods.status(pods::uid(pod));
            !pods::phase_is_terminal(status.as_ref().and_then(|status| status.phase.as_deref()))
        })
        .map(|pod| qos::pod_total(&kubelet.allocations.apply(pod), |resources| resources.requests.as_ref()))
        .filter_map(|total| total.get("cpu").map(|milli| i64::try_from(*milli).unwrap_or(i64::MAX)))
        .fold(0_i64, i64::saturating_add);
    kubelet.cgroups.weigh_burstable(requested);
}
