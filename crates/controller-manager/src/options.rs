//! Upstream's flags.

use std::path::PathBuf;

use client::Rate;
use daemon::flags::{Duration, Logging, SecureServing, Unsupported};

#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "kube-controller-manager",
    about = "The Kubernetes controller manager is a daemon that embeds the core control loops shipped with Kubernetes."
)]
pub struct Options {
    #[command(flatten)]
    pub logging: Logging,
    #[command(flatten)]
    pub request_header: daemon::flags::RequestHeader,
    #[command(flatten)]
    pub serving: SecureServing,

    /// Path to kubeconfig file with authorization and master location information.
    #[arg(long, default_value = "")]
    pub kubeconfig: String,
    /// The address of the Kubernetes API server (overrides any value in kubeconfig).
    #[arg(long, default_value = "")]
    pub master: String,
    /// Requests per second of each controller to the API server; negative for no limit. Without this and the burst there
    /// is none either, but what is under way at once is bounded.
    #[arg(long, allow_hyphen_values = true)]
    pub kube_api_qps: Option<f32>,
    /// Requests that may come at once where there is a limit per second.
    #[arg(long, allow_hyphen_values = true)]
    pub kube_api_burst: Option<i32>,
    /// A list of controllers to enable. '*' enables all on-by-default controllers, 'foo' enables the
    /// controller named 'foo', '-foo' disables it.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// Use individual service account credentials for each controller.
    #[arg(long)]
    pub use_service_account_credentials: bool,
    /// name=true|false pairs for alpha and experimental features.
    #[arg(long, default_value = "")]
    pub feature_gates: String,
    /// Time to wait for the controllers to shut down before terminating the executable.
    #[arg(long, default_value = "10s")]
    pub controller_shutdown_timeout: Duration,

    /// Start a leader election client and gain leadership before executing the main loop.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// How long others wait after a renewal before they try to take the lease.
    #[arg(long, default_value = "15s")]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it gives up.
    #[arg(long, default_value = "10s")]
    pub leader_elect_renew_deadline: Duration,
    /// The time between tries to acquire and renew.
    #[arg(long, default_value = "2s")]
    pub leader_elect_retry_period: Duration,
    /// The kind of the lock; only leases.
    #[arg(long, default_value = "leases")]
    pub leader_elect_resource_lock: String,
    /// The name of the lease.
    #[arg(long, default_value = "kube-controller-manager")]
    pub leader_elect_resource_name: String,
    /// The namespace of the lease.
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,

    /// kubeconfig of the server that reviews tokens of requests to the secure port.
    #[arg(long, default_value = "")]
    pub authentication_kubeconfig: String,
    /// Do not look up missing authentication configuration from the cluster.
    #[arg(long)]
    pub authentication_skip_lookup: bool,
    /// How long reviewed tokens are remembered.
    #[arg(long, default_value = "10s")]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// Authorities of client certificates for the secure port.
    #[arg(long, default_value = "", value_parser = daemon::flags::path())]
    pub client_ca_file: PathBuf,
    /// kubeconfig of the server that reviews access to the secure port.
    #[arg(long, default_value = "")]
    pub authorization_kubeconfig: String,
    /// Paths that need no permission.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
    /// How long granted access is remembered.
    #[arg(long, default_value = "10s")]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long refused access is remembered.
    #[arg(long, default_value = "10s")]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,

    /// Allocate CIDRs for pods and set them on nodes.
    #[arg(long)]
    pub allocate_node_cidrs: bool,
    /// CIDR ranges for pods in the cluster, one per IP family.
    #[arg(long, default_value = "")]
    pub cluster_cidr: String,
    /// The instance prefix for the cluster.
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// CIDR ranges for services, not to be given to nodes.
    #[arg(long, default_value = "")]
    pub service_cluster_ip_range: String,
    /// Mask size of a node's CIDR; 24 for IPv4 and 64 for IPv6 where not given.
    #[arg(long, default_value_t = 0)]
    pub node_cidr_mask_size: u8,
    #[arg(long, default_value_t = 0)]
    pub node_cidr_mask_size_ipv4: u8,
    #[arg(long, default_value_t = 0)]
    pub node_cidr_mask_size_ipv6: u8,

    /// How long a running node may be silent before it is marked unhealthy.
    #[arg(long, default_value = "50s")]
    pub node_monitor_grace_period: Duration,
    /// How often nodes are looked at.
    #[arg(long, default_value = "5s")]
    pub node_monitor_period: Duration,
    /// How long a starting node may be silent before it is marked unhealthy.
    #[arg(long, default_value = "1m")]
    pub node_startup_grace_period: Duration,
    /// Nodes per second from which pods are evicted, in a healthy zone.
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f32,
    /// The same in an unhealthy zone.
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f32,
    /// The share of nodes not ready from which a zone is unhealthy.
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f32,
    /// Up to so many nodes a zone is small, and nothing is evicted in it while it is unhealthy.
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: i32,

    /// The authority published to every namespace for verifying the API server.
    #[arg(long, default_value = "", value_parser = daemon::flags::path())]
    pub root_ca_file: PathBuf,
    /// The key that tokens in secrets are signed with.
    #[arg(long, default_value = "", value_parser = daemon::flags::path())]
    pub service_account_private_key_file: PathBuf,

    /// How long certificates are signed for at most.
    #[arg(long, default_value = "8760h")]
    pub cluster_signing_duration: Duration,
    #[command(flatten)]
    pub cluster_signing: ClusterSigning,

    /// How many ended pods may exist before the oldest are deleted; 0 or less is no limit.
    #[arg(long, default_value_t = 12500, allow_hyphen_values = true)]
    pub terminated_pod_gc_threshold: i64,
    /// Endpoints per slice.
    #[arg(long, default_value_t = 100)]
    pub max_endpoints_per_slice: usize,
    /// How long changes of pods are collected before slices are written.
    #[arg(long, default_value = "0s")]
    pub endpointslice_updates_batch_period: Duration,
    /// How long changes of pods are collected before endpoints are written.
    #[arg(long, default_value = "0s")]
    pub endpoint_updates_batch_period: Duration,
    /// Turns the garbage collector on.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub enable_garbage_collector: bool,
    /// How often namespaces are looked at without cause.
    #[arg(long, default_value = "5m")]
    pub namespace_sync_period: Duration,

    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_ephemeralvolume_syncs: usize,
    #[arg(long, default_value_t = 50)]
    pub concurrent_resourceclaim_syncs: usize,
    #[arg(long, default_value_t = 8)]
    pub concurrent_device_taint_eviction_syncs: usize,
    /// How long a token that was made without being asked for may go unused.
    #[arg(long, default_value = "8760h")]
    pub legacy_service_account_token_clean_up_period: Duration,
    /// Keeps volumes attached to nodes that are not healthy for as long as they seem to be mounted there.
    #[arg(long)]
    pub disable_force_detach_on_timeout: bool,
    /// Whether volumes are provisioned for claims whose class says how.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_dynamic_provisioning: bool,
    /// How often claims and volumes that wait for something are looked at.
    #[arg(long, default_value = "15s")]
    pub pvclaimbinder_sync_period: Duration,
    #[arg(long, default_value_t = 5)]
    pub concurrent_disruption_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    /// How often metrics are looked at.
    #[arg(long, default_value = "15s")]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    /// How long a number that was asked for keeps fewer pods from being wanted.
    #[arg(long, default_value = "5m")]
    pub horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// How far use may be from its target, as a share of it, without a change.
    #[arg(long, default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// How long after a pod's start its use of CPU does not count unless it is ready.
    #[arg(long, default_value = "5m")]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    /// How long after its start a pod that becomes ready is taken for one that was not ready before.
    #[arg(long, default_value = "30s")]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Duration,
    #[arg(long, default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    /// How often the use of quotas is counted without cause.
    #[arg(long, default_value = "5m")]
    pub resource_quota_sync_period: Duration,
    #[arg(long, default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    /// How long changes of endpoints are collected before slices are written.
    #[arg(long, default_value = "0s")]
    pub mirroring_endpointslice_updates_batch_period: Duration,
    /// Endpoints of a subset that are mirrored.
    #[arg(long, default_value_t = 1000)]
    pub mirroring_max_endpoints_per_subset: usize,
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_validating_admission_policy_status_syncs: usize,
}

/// The authorities that certificates are signed with: one for all signers, or one each.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClusterSigning {
    #[arg(long = "cluster-signing-cert-file", default_value = "", value_parser = daemon::flags::path())]
    pub cert: PathBuf,
    #[arg(long = "cluster-signing-key-file", default_value = "", value_parser = daemon::flags::path())]
    pub key: PathBuf,
    #[arg(long = "cluster-signing-kubelet-serving-cert-file", default_value = "", value_parser = daemon::flags::path())]
    pub kubelet_serving_cert: PathBuf,
    #[arg(long = "cluster-signing-kubelet-serving-key-file", default_value = "", value_parser = daemon::flags::path())]
    pub kubelet_serving_key: PathBuf,
    #[arg(long = "cluster-signing-kubelet-client-cert-file", default_value = "", value_parser = daemon::flags::path())]
    pub kubelet_client_cert: PathBuf,
    #[arg(long = "cluster-signing-kubelet-client-key-file", default_value = "", value_parser = daemon::flags::path())]
    pub kubelet_client_key: PathBuf,
    #[arg(long = "cluster-signing-kube-apiserver-client-cert-file", default_value = "", value_parser = daemon::flags::path())]
    pub kube_apiserver_client_cert: PathBuf,
    #[arg(long = "cluster-signing-kube-apiserver-client-key-file", default_value = "", value_parser = daemon::flags::path())]
    pub kube_apiserver_client_key: PathBuf,
    #[arg(long = "cluster-signing-legacy-unknown-cert-file", default_value = "", value_parser = daemon::flags::path())]
    pub legacy_unknown_cert: PathBuf,
    #[arg(long = "cluster-signing-legacy-unknown-key-file", default_value = "", value_parser = daemon::flags::path())]
    pub legacy_unknown_key: PathBuf,
}

impl Options {
    /// What is wrong, in upstream's words.
    pub fn check(&self) -> Result<(), String> {
        if self.leader_elect_resource_lock != "leases" {
            return Err("resourceLock value must be \"leases\"".to_owned());
        }
        let key = &self.service_account_private_key_file;
        if !key.as_os_str().is_empty() {
            let failed =
                |why: String| format!("error reading key for service account token controller: {why}");
            let text = std::fs::read_to_string(key).map_err(|error| {
                failed(match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        format!("open {}: no such file or directory", key.display())
                    }
                    _ => format!("open {}: {error}", key.display()),
                })
            })?;
            let begins = ["RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"];
            if !begins.iter().any(|kind| text.contains(&format!("-----BEGIN {kind}-----"))) {
                return Err(failed(format!(
                    "error reading private key file {}: data does not contain a valid RSA or ECDSA private key",
                    key.display()
                )));
            }
        }
        Ok(())
    }

    /// How fast each controller may ask, where that is limited.
    pub fn rate(&self) -> Option<Rate> {
        Rate::given(self.kube_api_qps, self.kube_api_burst, Rate { per_second: 20.0, burst: 30 })
    }

    /// Flags that are set to something that is not done.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let set = [
            // only cloud load balancers and routes carry the cluster's name
            ("cluster-name", self.cluster_name != "kubernetes"),
        ];
        set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }
}

impl Default for Options {
    fn default() -> Self {
        <Options as clap::Parser>::parse_from(["kube-controller-manager"])
    }
}

const fn value(name: &'static str) -> Unsupported {
    Unsupported { name, boolean: false }
}

const fn switch(name: &'static str) -> Unsupported {
    Unsupported { name, boolean: true }
}

/// Upstream's flags that are taken and change nothing here.
pub const WITHOUT_EFFECT: [Unsupported; 35] = [
    switch("contention-profiling"),
    switch("profiling"),
    switch("enable-leader-migration"),
    value("leader-migration-config"),
    value("cidr-allocator-type"),
    value("cloud-config"),
    value("cloud-provider"),
    switch("configure-cloud-routes"),
    value("controller-start-interval"),
    value("emulated-version"),
    value("external-cloud-volume-plugin"),
    value("kube-api-content-type"),
    value("min-compatibility-version"),
    value("min-resync-period"),
    value("route-reconciliation-period"),
    value("tls-curve-preferences"),
    value("tls-sni-cert-key"),
    switch("authentication-tolerate-lookup-failure"),
    value("attach-detach-reconcile-sync-period"),
    switch("disable-attach-detach-reconcile-sync"),
    switch("enable-hostpath-provisioner"),
    value("flex-volume-plugin-dir"),
    value("pv-recycler-increment-timeout-nfs"),
    value("pv-recycler-minimum-timeout-hostpath"),
    value("pv-recycler-minimum-timeout-nfs"),
    value("pv-recycler-pod-template-filepath-hostpath"),
    value("pv-recycler-pod-template-filepath-nfs"),
    value("pv-recycler-timeout-increment-hostpath"),
    value("concurrent-service-syncs"),
    value("log-backtrace-at"),
    value("log-dir"),
    switch("show-hidden-metrics-for-version"),
    value("allow-metric-labels"),
    value("allow-metric-labels-manifest"),
    value("disabled-metrics"),
];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn rates() {
        let rate = |flags: &[&str]| {
            let arguments = ["kube-controller-manager"].iter().chain(flags);
            Options::parse_from(arguments).rate().map(|rate| (rate.per_second, rate.burst))
        };
        assert_eq!(rate(&[]), None);
        assert_eq!(rate(&["--kube-api-qps=50"]), Some((50.0, 30)));
        assert_eq!(rate(&["--kube-api-burst=100"]), Some((20.0, 100)));
        assert_eq!(rate(&["--kube-api-qps=-1", "--kube-api-burst=7"]), None);
    }

    #[test]
    fn wrong_values_are_refused_in_upstreams_words() {
        let lock = Options { leader_elect_resource_lock: "endpoints".into(), ..Options::default() };
        assert_eq!(lock.check().unwrap_err(), "resourceLock value must be \"leases\"");
        let key = |path: &str| {
            Options { service_account_private_key_file: path.into(), ..Options::default() }.check()
        };
        assert_eq!(
            key("/nowhere").unwrap_err(),
            "error reading key for service account token controller: open /nowhere: no such file or directory"
        );
        assert!(
            key("/proc/self/status")
                .unwrap_err()
                .ends_with("data does not contain a valid RSA or ECDSA private key")
        );
        assert_eq!(Options::default().check(), Ok(()));
        assert!(Options::default().without_effect().is_empty());
    }
}
