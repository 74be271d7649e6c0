//! `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`, with upstream's defaults.

use daemon::flags::Duration;
use serde::Deserialize;
use std::collections::BTreeMap;

pub const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
pub const KIND: &str = "KubeletConfiguration";

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    pub static_pod_path: String,
    pub pod_logs_dir: String,
    pub file_check_frequency: Duration,
    pub sync_frequency: Duration,
    pub address: String,
    pub port: u16,
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
    pub image_minimum_gc_age: Duration,
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
    pub cpu_cfs_quota: bool,
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
    pub read_only_port: u16,
    pub hairpin_mode: String,
    pub pod_cidr: String,
    pub memory_swap: serde_json::Value,
    pub logging: serde_json::Value,
    pub cpu_manager_policy: String,
    pub cpu_manager_reconcile_period: Duration,
    pub topology_manager_policy: String,
    pub event_record_qps: i32,
    pub event_burst: i32,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i32,
    pub kube_api_burst: i32,
    pub content_type: String,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    pub tls_cipher_suites: Vec<String>,
    pub tls_min_version: String,
    pub protect_kernel_defaults: bool,
    pub registry_pull_qps: i32,
    pub registry_burst: i32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOff {
    pub max_container_restart_period: Option<Duration>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: WebhookAuthentication,
    pub anonymous: Anonymous,
}

impl Default for Authentication {
    fn default() -> Self {
        let cache_ttl = Duration(std::time::Duration::from_secs(120));
        Self {
            x509: X509::default(),
            webhook: WebhookAuthentication { enabled: true, cache_ttl },
            anonymous: Anonymous::default(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct WebhookAuthentication {
    pub enabled: bool,
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: Duration,
}

impl Default for WebhookAuthentication {
    fn default() -> Self {
        Authentication::default().webhook
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Anonymous {
    pub enabled: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Authorization {
    /// `Webhook` or `AlwaysAllow`.
    pub mode: String,
    pub webhook: WebhookAuthorization,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { mode: "Webhook".into(), webhook: WebhookAuthorization::default() }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: Duration,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: Duration,
}

impl Default for WebhookAuthorization {
    fn default() -> Self {
        Self { cache_authorized_ttl: seconds(300), cache_unauthorized_ttl: seconds(30) }
    }
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
            memory_swap: serde_json::Value::Null,
            logging: serde_json::Value::Null,
            cpu_manager_policy: "none".into(),
            cpu_manager_reconcile_period: seconds(10),
            topology_manager_policy: "none".into(),
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
