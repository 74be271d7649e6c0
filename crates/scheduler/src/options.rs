//! The command line, with upstream's names and defaults.

use daemon::flags::{Duration, Logging, SecureServing, Unsupported};

#[derive(clap::Parser, Clone, Debug)]
#[command(name = "kube-scheduler")]
pub struct Options {
    /// The path to the configuration file.
    #[arg(long, default_value = "")]
    pub config: String,
    /// Where to write the configuration and exit.
    #[arg(long, default_value = "")]
    pub write_config_to: String,
    /// The address of the Kubernetes API server (overrides any value in kubeconfig).
    #[arg(long, default_value = "")]
    pub master: String,
    /// DEPRECATED: path to kubeconfig file with authorization and master location information.
    /// Ignored where `--config` names one.
    #[arg(long, default_value = "")]
    pub kubeconfig: String,
    #[arg(long, default_value = "")]
    pub authentication_kubeconfig: String,
    #[arg(long)]
    pub authentication_skip_lookup: bool,
    #[arg(long, default_value = "10s")]
    pub authentication_token_webhook_cache_ttl: Duration,
    #[arg(long, default_value = "")]
    pub client_ca_file: String,
    #[arg(long, default_value = "")]
    pub authorization_kubeconfig: String,
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
    #[arg(long, default_value = "10s")]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    #[arg(long, default_value = "10s")]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// Start a leader election client and gain leadership before executing the main loop.
    #[arg(long)]
    pub leader_elect: Option<bool>,
    #[arg(long)]
    pub leader_elect_lease_duration: Option<Duration>,
    #[arg(long)]
    pub leader_elect_renew_deadline: Option<Duration>,
    #[arg(long)]
    pub leader_elect_retry_period: Option<Duration>,
    /// The kind of the lock; only leases.
    #[arg(long)]
    pub leader_elect_resource_lock: Option<String>,
    #[arg(long)]
    pub leader_elect_resource_name: Option<String>,
    #[arg(long)]
    pub leader_elect_resource_namespace: Option<String>,
    /// name=true|false pairs; no gate changes anything here.
    #[arg(long, default_value = "")]
    pub feature_gates: String,
    #[command(flatten)]
    pub request_header: daemon::flags::RequestHeader,
    #[command(flatten)]
    pub serving: SecureServing,
    /// Requests per second to the API server, negative for no limit; without this and the burst there is none either.
    /// Ignored with --config.
    #[arg(long, allow_hyphen_values = true)]
    pub kube_api_qps: Option<f32>,
    /// Requests that may come at once where there is a limit per second. Ignored with --config.
    #[arg(long, allow_hyphen_values = true)]
    pub kube_api_burst: Option<i32>,
    #[command(flatten)]
    pub logging: Logging,
}

const fn value(name: &'static str) -> Unsupported {
    Unsupported { name, boolean: false }
}

const fn boolean(name: &'static str) -> Unsupported {
    Unsupported { name, boolean: true }
}

/// Upstream's flags that are taken without effect.
pub const WITHOUT_EFFECT: &[Unsupported] = &[
    boolean("authentication-tolerate-lookup-failure"),
    boolean("contention-profiling"),
    boolean("profiling"),
    value("kube-api-content-type"),
    value("pod-max-in-unschedulable-pods-duration"),
    value("emulated-version"),
    value("min-compatibility-version"),
    value("allow-metric-labels"),
    value("allow-metric-labels-manifest"),
    value("disabled-metrics"),
    value("show-hidden-metrics-for-version"),
    value("tls-curve-preferences"),
    value("tls-sni-cert-key"),
];
