//! `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`, with upstream's defaults.

mod access;
mod validation;

pub use access::*;

use client::Rate;
use daemon::flags::Duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
pub const KIND: &str = "KubeletConfiguration";

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    pub static_pod_path: String,
    pub pod_logs_dir: String,
    pub file_check_frequency: Duration,
    pub sync_frequency: Duration,
    pub address: String,
    pub port: i32,
    pub tls_cert_file: String,
    pub tls_private_key_file: String,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub enable_server: bool,
    pub enable_debugging_handlers: bool,
    pub healthz_bind_address: String,
    pub healthz_port: i32,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub streaming_connection_idle_timeout: Duration,
    pub node_status_update_frequency: Duration,
    pub node_status_report_frequency: Duration,
    pub node_lease_duration_seconds: i32,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: Duration,
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: Duration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: i32,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: i32,
    pub volume_stats_agg_period: Duration,
    pub kubelet_cgroups: String,
    pub system_cgroups: String,
    pub cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub cgroup_driver: String,
    pub runtime_request_timeout: Duration,
    pub max_pods: i32,
    pub pod_pids_limit: i64,
    pub resolv_conf: Option<String>,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: Duration,
    pub node_status_max_images: i32,
    pub max_open_files: i64,
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: Option<i32>,
    pub eviction_hard: BTreeMap<String, String>,
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: Duration,
    pub pods_per_core: i32,
    pub fail_swap_on: bool,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    pub container_log_max_size: String,
    pub container_log_max_files: i32,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub enforce_node_allocatable: Vec<String>,
    pub kube_reserved_cgroup: String,
    pub system_reserved_cgroup: String,
    pub oom_score_adj: i32,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub volume_plugin_dir: String,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub register_node: bool,
    pub register_with_taints: Vec<k8s_openapi::api::core::v1::Taint>,
    pub container_runtime_endpoint: String,
    pub image_service_endpoint: String,
    pub seccomp_default: bool,
    pub crash_loop_back_off: CrashLoopBackOff,
    pub shutdown_grace_period: Duration,
    pub shutdown_grace_period_critical_pods: Duration,
    pub rotate_certificates: bool,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    pub config_map_and_secret_change_detection_strategy: String,
    pub feature_gates: BTreeMap<String, bool>,
    pub read_only_port: i32,
    pub hairpin_mode: String,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    pub memory_swap: MemorySwap,
    pub image_pull_credentials_verification_policy: String,
    pub preloaded_images_verification_allowlist: Vec<String>,
    pub logging: serde_json::Value,
    pub cpu_manager_policy: String,
    pub cpu_manager_reconcile_period: Duration,
    pub topology_manager_policy: String,
    pub topology_manager_scope: String,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i32,
    pub event_burst: i32,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i32,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: i32,
    pub content_type: String,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    pub tls_cipher_suites: Vec<String>,
    pub tls_min_version: String,
    pub protect_kernel_defaults: bool,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i32,
    pub registry_burst: i32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemorySwap {
    /// Empty is `NoSwap`.
    pub swap_behavior: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOff {
    pub max_container_restart_period: Option<Duration>,
}

fn seconds(count: u64) -> Duration {
    Duration(std::time::Duration::from_secs(count))
}

impl Default for KubeletConfiguration {
    fn default() -> Self {
        let pairs = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Self {
            static_pod_path: String::new(),
            pod_logs_dir: "/var/log/pods".into(),
            file_check_frequency: seconds(20),
            sync_frequency: seconds(60),
            address: "0.0.0.0".into(),
            port: 10250,
            tls_cert_file: String::new(),
            tls_private_key_file: String::new(),
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            enable_server: true,
            enable_debugging_handlers: true,
            healthz_bind_address: "127.0.0.1".into(),
            healthz_port: 10248,
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            streaming_connection_idle_timeout: seconds(4 * 3600),
            node_status_update_frequency: seconds(10),
            node_status_report_frequency: seconds(300),
            node_lease_duration_seconds: 40,
            image_minimum_gc_age: seconds(120),
            image_maximum_gc_age: seconds(0),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            volume_stats_agg_period: seconds(60),
            kubelet_cgroups: String::new(),
            system_cgroups: String::new(),
            cgroup_root: String::new(),
            cgroups_per_qos: true,
            cgroup_driver: "cgroupfs".into(),
            runtime_request_timeout: seconds(120),
            max_pods: 110,
            pod_pids_limit: -1,
            resolv_conf: None,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: Duration(std::time::Duration::from_millis(100)),
            node_status_max_images: 50,
            max_open_files: 1_000_000,
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            eviction_hard: pairs(&[
                ("memory.available", "100Mi"),
                ("nodefs.available", "10%"),
                ("nodefs.inodesFree", "5%"),
                ("imagefs.available", "15%"),
                ("imagefs.inodesFree", "5%"),
            ]),
            eviction_soft: BTreeMap::new(),
            eviction_pressure_transition_period: seconds(300),
            pods_per_core: 0,
            fail_swap_on: true,
            fail_cgroup_v1: true,
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            enforce_node_allocatable: vec!["pods".into()],
            kube_reserved_cgroup: String::new(),
            system_reserved_cgroup: String::new(),
            oom_score_adj: -999,
            allowed_unsafe_sysctls: Vec::new(),
            volume_plugin_dir: "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/".into(),
            provider_id: String::new(),
            register_node: true,
            register_with_taints: Vec::new(),
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
            image_service_endpoint: String::new(),
            seccomp_default: false,
            crash_loop_back_off: CrashLoopBackOff::default(),
            shutdown_grace_period: seconds(0),
            shutdown_grace_period_critical_pods: seconds(0),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            config_map_and_secret_change_detection_strategy: "Watch".into(),
            feature_gates: BTreeMap::new(),
            read_only_port: 0,
            hairpin_mode: "promiscuous-bridge".into(),
            pod_cidr: String::new(),
            memory_swap: MemorySwap::default(),
            image_pull_credentials_verification_policy: "NeverVerifyPreloadedImages".into(),
            preloaded_images_verification_allowlist: Vec::new(),
            logging: serde_json::Value::Null,
            cpu_manager_policy: "none".into(),
            cpu_manager_reconcile_period: seconds(10),
            topology_manager_policy: "none".into(),
            topology_manager_scope: "container".into(),
            event_record_qps: 50,
            event_burst: 100,
            kube_api_qps: 50,
            kube_api_burst: 100,
            content_type: "application/vnd.kubernetes.protobuf".into(),
            make_iptables_util_chains: true,
            tls_cipher_suites: Vec::new(),
            tls_min_version: String::new(),
            protect_kernel_defaults: false,
            registry_pull_qps: 5,
            registry_burst: 10,
        }
    }
}

/// Fields that nothing reads yet.
const WITHOUT_EFFECT: [&str; 26] = [
    "streamingConnectionIdleTimeout",
    "imageMaximumGCAge",
    "volumeStatsAggPeriod",
    "kubeletCgroups",
    "systemCgroups",
    "maxOpenFiles",
    "evictionSoft",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "rotateCertificates",
    "serverTLSBootstrap",
    "configMapAndSecretChangeDetectionStrategy",
    "readOnlyPort",
    "hairpinMode",
    "cpuManagerPolicy",
    "cpuManagerReconcilePeriod",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "kubeReservedCgroup",
    "systemReservedCgroup",
    "eventRecordQPS",
    "eventBurst",
    "contentType",
    "makeIPTablesUtilChains",
    "protectKernelDefaults",
    "registryPullQPS",
];

impl KubeletConfiguration {
    /// How fast the kubelet may ask the API server, where that is limited: by what differs from upstream's defaults.
    pub fn rate(&self) -> Option<Rate> {
        const DEFAULT: Rate = Rate { per_second: 50.0, burst: 100 };
        let qps = (self.kube_api_qps as f32 != DEFAULT.per_second).then_some(self.kube_api_qps as f32);
        let burst = (self.kube_api_burst != DEFAULT.burst as i32).then_some(self.kube_api_burst);
        Rate::given(qps, burst, DEFAULT)
    }

    /// Fields that are set to something other than the default, and that nothing reads yet.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let tree = |config: &KubeletConfiguration| serde_json::to_value(config).unwrap_or_default();
        let (own, default) = (tree(self), tree(&KubeletConfiguration::default()));
        WITHOUT_EFFECT.into_iter().filter(|name| own[*name] != default[*name]).collect()
    }

    /// Files written by tools say `0s` where they leave a duration to the kubelet.
    pub fn fill_durations(&mut self) {
        let default = KubeletConfiguration::default();
        for (own, default) in [
            (&mut self.file_check_frequency, default.file_check_frequency),
            (&mut self.sync_frequency, default.sync_frequency),
            (&mut self.streaming_connection_idle_timeout, default.streaming_connection_idle_timeout),
            (&mut self.node_status_update_frequency, default.node_status_update_frequency),
            (&mut self.node_status_report_frequency, default.node_status_report_frequency),
            (&mut self.image_minimum_gc_age, default.image_minimum_gc_age),
            (&mut self.volume_stats_agg_period, default.volume_stats_agg_period),
            (&mut self.cpu_cfs_quota_period, default.cpu_cfs_quota_period),
            (&mut self.runtime_request_timeout, default.runtime_request_timeout),
            (&mut self.eviction_pressure_transition_period, default.eviction_pressure_transition_period),
            (&mut self.cpu_manager_reconcile_period, default.cpu_manager_reconcile_period),
            (&mut self.authentication.webhook.cache_ttl, default.authentication.webhook.cache_ttl),
            (
                &mut self.authorization.webhook.cache_authorized_ttl,
                default.authorization.webhook.cache_authorized_ttl,
            ),
            (
                &mut self.authorization.webhook.cache_unauthorized_ttl,
                default.authorization.webhook.cache_unauthorized_ttl,
            ),
        ] {
            if own.0.is_zero() {
                *own = default;
            }
        }
    }

    /// `maxPods`, or what `podsPerCore` makes of it on a machine of so many cores.
    pub fn most_pods(&self, cores: i64) -> i32 {
        match i64::from(self.pods_per_core) {
            per_core if per_core > 0 => {
                self.max_pods.min(i32::try_from(per_core.saturating_mul(cores)).unwrap_or(i32::MAX))
            }
            _ => self.max_pods,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_where_it_is_not_the_default() {
        let rate = |fields: serde_json::Value| {
            let config: KubeletConfiguration = serde_json::from_value(fields).unwrap();
            config.rate().map(|rate| (rate.per_second, rate.burst))
        };
        assert_eq!(rate(serde_json::json!({})), None);
        assert_eq!(rate(serde_json::json!({"kubeAPIQPS": 10})), Some((10.0, 100)));
        assert_eq!(rate(serde_json::json!({"kubeAPIBurst": 5})), Some((50.0, 5)));
    }

    #[test]
    fn fields_without_effect_are_named_if_set() {
        assert!(KubeletConfiguration::default().without_effect().is_empty());
        let mut config: KubeletConfiguration = serde_json::from_value(serde_json::json!({
            "syncFrequency": "0s", "cpuManagerReconcilePeriod": "0s", "memorySwap": {}, "maxPods": 7,
            "cpuManagerPolicy": "static", "rotateCertificates": true,
        }))
        .unwrap();
        config.fill_durations();
        let known = serde_json::to_value(&config).unwrap();
        assert!(WITHOUT_EFFECT.iter().all(|name| known.get(name).is_some()));
        assert_eq!(config.without_effect(), ["rotateCertificates", "cpuManagerPolicy"]);
        assert_eq!(config.sync_frequency, seconds(60));
    }

    #[test]
    fn cores_bound_the_pods() {
        let pods = |pods_per_core: i32, cores: i64| {
            KubeletConfiguration { pods_per_core, ..Default::default() }.most_pods(cores)
        };
        assert_eq!((pods(0, 2), pods(10, 2), pods(100, 2)), (110, 20, 110));
    }
}
