//! Validation of the configuration, in upstream's words: a typo should fail the start, not a pod a week later.

use super::KubeletConfiguration;
use crate::images::policy::{self, Policy};
use machinery::quantity::Quantity;
use std::collections::BTreeMap;
use std::time::Duration;

const TOPOLOGY_POLICIES: [&str; 4] = ["none", "best-effort", "restricted", "single-numa-node"];
const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Resources that can be reserved from pods.
const RESERVABLE: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];

impl KubeletConfiguration {
    /// The fields and flags whose values cannot be.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Mistakes::default();
        let levels = &self.enforce_node_allocatable;
        let enforces = |level: &str| levels.iter().any(|own| own == level);
        if self.node_lease_duration_seconds <= 0 {
            mistakes.add("nodeLeaseDurationSeconds must be greater than 0");
        }
        if enforces("none") && levels.len() > 1 {
            mistakes.add(
                "enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when \"none\" is specified",
            );
        }
        if !self.cgroups_per_qos && enforces("pods") {
            mistakes.add(
                "cgroupsPerQOS (--cgroups-per-qos) must be set to true when \"pods\" contained in enforceNodeAllocatable (--enforce-node-allocatable)",
            );
        }
        if !self.system_cgroups.is_empty() && self.cgroup_root.is_empty() {
            mistakes.add(
                "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified",
            );
        }
        mistakes.negative("eventBurst (--event-burst)", self.event_burst.into());
        mistakes.negative("eventRecordQPS (--event-qps)", self.event_record_qps.into());
        // 0 is none
        mistakes.outside("healthzPort (--healthz-port)", self.healthz_port, 0..=65535, "1 and 65535");
        let period = self.cpu_cfs_quota_period;
        if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&period.0) {
            mistakes.add(&format!(
                "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {{{period}}} must be between 1ms and 1sec, inclusive"
            ));
        }
        let (high, low) = (self.image_gc_high_threshold_percent, self.image_gc_low_threshold_percent);
        mistakes.outside(
            "imageGCHighThresholdPercent (--image-gc-high-threshold)",
            high,
            0..=100,
            "0 and 100",
        );
        mistakes.outside("imageGCLowThresholdPercent (--image-gc-low-threshold)", low, 0..=100, "0 and 100");
        if low >= high {
            mistakes.add(&format!(
                "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
            ));
        }
        let (oldest, youngest) = (self.image_maximum_gc_age, self.image_minimum_gc_age);
        if !oldest.is_zero() && oldest.0 <= youngest.0 {
            mistakes.add(&format!(
                "imageMaximumGCAge {oldest} must be greater than imageMinimumGCAge {youngest}"
            ));
        }
        mistakes.negative("kubeAPIBurst (--kube-api-burst)", self.kube_api_burst.into());
        mistakes.negative("kubeAPIQPS (--kube-api-qps)", self.kube_api_qps.into());
        if self.node_status_max_images < -1 {
            mistakes.add(&format!(
                "nodeStatusMaxImages (--node-status-max-images) {} must be -1 or greater",
                self.node_status_max_images
            ));
        }
        mistakes.negative("maxOpenFiles (--max-open-files)", self.max_open_files);
        mistakes.negative("maxPods (--max-pods)", self.max_pods.into());
        mistakes.outside("oomScoreAdj (--oom-score-adj)", self.oom_score_adj, -1000..=1000, "-1000 and 1000");
        mistakes.negative("podsPerCore (--pods-per-core)", self.pods_per_core.into());
        mistakes.outside("port (--port)", self.port, 1..=65535, "1 and 65535");
        mistakes.outside("readOnlyPort (--read-only-port)", self.read_only_port, 0..=65535, "0 and 65535");
        mistakes.negative("registryBurst (--registry-burst)", self.registry_burst.into());
        mistakes.negative("registryPullQPS (--registry-qps)", self.registry_pull_qps.into());
        if let Some(pulls) = self.max_parallel_image_pulls
            && pulls < 1
        {
            mistakes.add(&format!("maxParallelImagePulls {pulls} must be a positive number"));
        }
        let policy = self.topology_manager_policy.as_str();
        if !TOPOLOGY_POLICIES.contains(&policy) {
            let quoted = TOPOLOGY_POLICIES.map(|known| format!("{known:?}")).join(" ");
            mistakes.add(&format!(
                "topologyManagerPolicy (--topology-manager-policy) {policy:?} must be one of: [{quoted}]"
            ));
        }
        let scope = self.topology_manager_scope.as_str();
        if !["container", "pod"].contains(&scope) {
            mistakes.add(&format!(
                "topologyManagerScope (--topology-manager-scope) {scope:?} must be one of: \"container\", or \"pod\""
            ));
        }
        let (all, critical) = (self.shutdown_grace_period, self.shutdown_grace_period_critical_pods);
        if critical.0 > all.0 {
            mistakes.add(&format!(
                "shutdownGracePeriodCriticalPods {{{critical}}} must be <= shutdownGracePeriod {{{all}}}"
            ));
        }
        let swap = self.memory_swap.swap_behavior.as_str();
        if !["", "LimitedSwap", "NoSwap"].contains(&swap) {
            mistakes.add(&format!(
                "memorySwap.swapBehavior {swap:?} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\""
            ));
        }
        if let Err(error) = self.image_policy() {
            mistakes.add(&error.to_string());
        }
        self.enforcement(&mut mistakes);
        if !["none", "hairpin-veth", "promiscuous-bridge"].contains(&self.hairpin_mode.as_str()) {
            mistakes.add(&format!(
                "option {:?} specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \"hairpin-veth\" or \"promiscuous-bridge\"",
                self.hairpin_mode
            ));
        }
        for taint in
            self.register_with_taints.iter().filter(|it| !TAINT_EFFECTS.contains(&it.effect.as_str()))
        {
            let value = taint.value.as_deref().unwrap_or_default();
            mistakes.0.push(format!("invalid taint: {{{} {value} {} <nil>}}", taint.key, taint.effect));
        }
        if self.container_log_max_files <= 1 {
            mistakes.add("containerLogMaxFiles must be greater than 1");
        }
        if let Some(longest) = &self.crash_loop_back_off.max_container_restart_period
            && !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&longest.0)
        {
            mistakes.add(&format!(
                "CrashLoopBackOff.MaxContainerRestartPeriod (got: {} seconds) must be set between 1s and 300s",
                longest.as_secs_f64()
            ));
        }
        mistakes.0
    }

    /// For which images pods have to show that they may use them.
    pub fn image_policy(&self) -> Result<Policy, policy::Error> {
        let list = &self.preloaded_images_verification_allowlist;
        Policy::new(&self.image_pull_credentials_verification_policy, list)
    }

    fn enforcement(&self, mistakes: &mut Mistakes) {
        for level in &self.enforce_node_allocatable {
            let (group, field, flag, name) = match level.as_str() {
                "none" | "pods" | "" => continue,
                "system-reserved" | "system-reserved-compressible" => (
                    &self.system_reserved_cgroup,
                    "systemReservedCgroup",
                    "system-reserved-cgroup",
                    "system-reserved",
                ),
                "kube-reserved" | "kube-reserved-compressible" => (
                    &self.kube_reserved_cgroup,
                    "kubeReservedCgroup",
                    "kube-reserved-cgroup",
                    "kube-reserved",
                ),
                other => {
                    mistakes.add(&format!(
                        "option {other:?} specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\""
                    ));
                    continue;
                }
            };
            if group.is_empty() {
                mistakes.add(&format!(
                    "{field} (--{flag}) must be specified when \"{name}\" or \"{name}-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)"
                ));
            }
        }
    }

    /// What upstream finds only while it puts its parts together.
    pub fn late_mistake(&self) -> Option<String> {
        if !["", "Webhook", "AlwaysAllow"].contains(&self.authorization.mode.as_str()) {
            return Some(format!("unknown authorization mode {}", self.authorization.mode));
        }
        for (flag, list) in
            [("kube-reserved", &self.kube_reserved), ("system-reserved", &self.system_reserved)]
        {
            if let Some(problem) = reservation(list) {
                return Some(format!("--{flag} value failed to parse: {problem}"));
            }
        }
        None
    }
}

fn reservation(list: &BTreeMap<String, String>) -> Option<String> {
    list.iter().find_map(|(name, text)| {
        if !RESERVABLE.contains(&name.as_str()) {
            return Some(format!("cannot reserve {name:?} resource"));
        }
        match Quantity::parse(text) {
            Err(error) => Some(format!("failed to parse quantity {text:?} for {name:?} resource: {error}")),
            Ok(quantity) if quantity.milli() < 0 => {
                Some(format!("resource quantity for {name:?} cannot be negative: {text}"))
            }
            Ok(_) => None,
        }
    })
}

#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn add(&mut self, text: &str) {
        self.0.push(format!("invalid configuration: {text}"));
    }

    fn negative(&mut self, name: &str, value: i64) {
        if value < 0 {
            self.add(&format!("{name} {value} must not be a negative number"));
        }
    }

    fn outside(&mut self, name: &str, value: i32, range: std::ops::RangeInclusive<i32>, shown: &str) {
        if !range.contains(&value) {
            self.add(&format!("{name} {value} must be between {shown}, inclusive"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn invalid_values_are_refused_in_upstreams_words() {
        for (fields, expected) in [
            (json!({}), ""),
            (json!({"maxPods": -1}), "maxPods (--max-pods) -1 must not be a negative number"),
            (
                json!({"imageGCHighThresholdPercent": 50, "imageGCLowThresholdPercent": 60}),
                "imageGCLowThresholdPercent (--image-gc-low-threshold) 60 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 50",
            ),
            (
                json!({"imageGCHighThresholdPercent": 101}),
                "imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive",
            ),
            (json!({"containerLogMaxFiles": 1}), "containerLogMaxFiles must be greater than 1"),
            (
                json!({"registryPullQPS": -1}),
                "registryPullQPS (--registry-qps) -1 must not be a negative number",
            ),
            (
                json!({"enforceNodeAllocatable": ["nope"]}),
                "option \"nope\" specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\"",
            ),
            (
                json!({"enforceNodeAllocatable": ["pods", "kube-reserved"]}),
                "kubeReservedCgroup (--kube-reserved-cgroup) must be specified when \"kube-reserved\" or \"kube-reserved-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)",
            ),
            (json!({"enforceNodeAllocatable": ["pods", "kube-reserved"], "kubeReservedCgroup": "/kube"}), ""),
            (
                json!({"topologyManagerPolicy": "nope"}),
                "topologyManagerPolicy (--topology-manager-policy) \"nope\" must be one of: [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]",
            ),
            (
                json!({"healthzPort": 70000}),
                "healthzPort (--healthz-port) 70000 must be between 1 and 65535, inclusive",
            ),
            (json!({"port": 70000}), "port (--port) 70000 must be between 1 and 65535, inclusive"),
            (
                json!({"readOnlyPort": -1}),
                "readOnlyPort (--read-only-port) -1 must be between 0 and 65535, inclusive",
            ),
            (json!({"nodeLeaseDurationSeconds": -1}), "nodeLeaseDurationSeconds must be greater than 0"),
            (
                json!({"shutdownGracePeriod": "1s", "shutdownGracePeriodCriticalPods": "2s"}),
                "shutdownGracePeriodCriticalPods {2s} must be <= shutdownGracePeriod {1s}",
            ),
            (
                json!({"cpuCFSQuotaPeriod": "2s"}),
                "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {2s} must be between 1ms and 1sec, inclusive",
            ),
            (
                json!({"imageMaximumGCAge": "1s"}),
                "imageMaximumGCAge 1s must be greater than imageMinimumGCAge 2m0s",
            ),
            (
                json!({"memorySwap": {"swapBehavior": "x"}}),
                "memorySwap.swapBehavior \"x\" must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"",
            ),
            (
                json!({"crashLoopBackOff": {"maxContainerRestartPeriod": "500ms"}}),
                "CrashLoopBackOff.MaxContainerRestartPeriod (got: 0.5 seconds) must be set between 1s and 300s",
            ),
            (
                json!({"crashLoopBackOff": {"maxContainerRestartPeriod": "400s"}}),
                "CrashLoopBackOff.MaxContainerRestartPeriod (got: 400 seconds) must be set between 1s and 300s",
            ),
        ] {
            let config: KubeletConfiguration = serde_json::from_value(fields.clone()).unwrap();
            let expected: Vec<String> = Some(expected)
                .filter(|it| !it.is_empty())
                .map(|it| format!("invalid configuration: {it}"))
                .into_iter()
                .collect();
            assert_eq!(config.mistakes(), expected, "{fields}");
        }
        let late = |fields| serde_json::from_value::<KubeletConfiguration>(fields).unwrap().late_mistake();
        assert_eq!(late(json!({})), None);
        assert_eq!(
            late(json!({"authorization": {"mode": "Nope"}})).as_deref(),
            Some("unknown authorization mode Nope")
        );
        assert_eq!(
            late(json!({"kubeReserved": {"cpu": "abc"}})).as_deref(),
            Some(
                "--kube-reserved value failed to parse: failed to parse quantity \"abc\" for \"cpu\" resource: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            )
        );
        assert_eq!(
            late(json!({"systemReserved": {"foo": "1"}})).as_deref(),
            Some("--system-reserved value failed to parse: cannot reserve \"foo\" resource")
        );
    }
}
