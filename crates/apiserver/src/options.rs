//! The command line of `kube-apiserver`, by upstream's names and defaults.

mod authentication;
mod authorization;
mod guards;
mod plugins;
mod unsupported;

use std::net::IpAddr;
use std::path::PathBuf;

use access::authn::Anonymous;
use clap::{ArgAction, Parser};
use daemon::flags::{self, Duration};
use ipnet::IpNet;

use crate::served::Served;

pub use guards::Guards;
pub use plugins::Plugins;
pub use unsupported::UNSUPPORTED;

/// What `--storage-media-type` may be.
const STORED_AS: [&str; 3] = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];

/// The Kubernetes API server: validates and stores the cluster's objects and serves them to everyone.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-apiserver")]
pub struct Options {
    #[command(flatten)]
    pub logging: flags::Logging,
    #[command(flatten)]
    pub serving: flags::SecureServing,

    /// The IP address on which members of the cluster reach this server.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    #[arg(long, default_value = "")]
    pub external_hostname: String,
    /// lease, master-count or none.
    #[arg(long, default_value = "lease")]
    pub endpoint_reconciler_type: String,
    #[arg(long, default_value_t = 0)]
    pub kubernetes_service_node_port: u16,
    /// key=value pairs that describe feature gates.
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// API versions to turn on or off: apps/v1=true, api/all=false.
    #[arg(long, value_delimiter = ',')]
    pub runtime_config: Vec<String>,
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    #[arg(long, default_value = "1m0s")]
    pub request_timeout: Duration,
    #[arg(long, default_value_t = 1800)]
    pub min_request_timeout: i64,
    #[arg(long, default_value = "0s")]
    pub shutdown_delay_duration: Duration,
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub profiling: bool,

    /// etcd's addresses, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// Interval between compactions of etcd's history; 0 leaves compaction to others.
    #[arg(long, default_value = "5m0s")]
    pub etcd_compaction_interval: Duration,
    #[arg(long, default_value = "etcd3")]
    pub storage_backend: String,
    #[arg(long, default_value = "application/vnd.kubernetes.protobuf")]
    pub storage_media_type: String,
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub watch_cache: bool,
    #[arg(long, default_value = "1h0m0s")]
    pub event_ttl: Duration,
    #[arg(long, default_value_t = 1)]
    pub delete_collection_workers: u32,
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub enable_garbage_collector: bool,

    /// Authorities of client certificates: the common name is the user, the organizations are the groups.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Requests without credentials are those of system:anonymous; on unless said otherwise.
    #[arg(long, action = ArgAction::Set)]
    pub anonymous_auth: Option<bool>,
    /// The effective setting of that and of --authentication-config.
    #[arg(skip)]
    pub anonymous: Anonymous,
    /// Tokens from secrets of type bootstrap.kubernetes.io/token in kube-system.
    #[arg(long)]
    pub enable_bootstrap_token_auth: bool,
    /// CSV of token,user,uid,groups.
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// The first issues tokens, all are accepted.
    #[arg(long)]
    pub service_account_issuer: Vec<String>,
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    #[arg(long, default_value = "")]
    pub service_account_jwks_uri: String,
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub service_account_lookup: bool,
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub service_account_extend_token_expiration: bool,
    #[arg(long, default_value = "0s")]
    pub service_account_max_token_expiration: Duration,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,

    /// Node, RBAC, AlwaysAllow, AlwaysDeny, in the order in which they are asked.
    #[arg(long, value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    #[command(flatten)]
    pub guards: Guards,

    #[command(flatten)]
    pub admission: Plugins,
    /// What the files say to admission plugins.
    #[arg(skip)]
    pub plugin_settings: admission::Settings,
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
    /// Allow privileged containers.
    #[arg(long)]
    pub allow_privileged: bool,

    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    pub kubelet_preferred_address_types: Vec<String>,
    #[arg(long, default_value = "5s")]
    pub kubelet_timeout: Duration,

    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    /// Services are reached at one of their endpoints, not at their cluster address.
    #[arg(long)]
    pub enable_aggregator_routing: bool,
    /// Redirects of aggregated APIs are not passed on.
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub aggregator_reject_forwarding_redirect: bool,

    /// Service addresses: one range, or one of each family.
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<IpNet>,
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: PortRange,
}

/// `30000-32767`, ends included; also `base+size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<PortRange, String> {
        let invalid = || format!("unable to parse port range: {text}");
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| invalid());
        let (first, last) = if let Some((first, last)) = text.split_once('-') {
            (number(first)?, number(last)?)
        } else if let Some((first, size)) = text.split_once('+') {
            let first = number(first)?;
            (first, first.saturating_add(number(size)?))
        } else {
            let only = number(text)?;
            (only, only)
        };
        if first > last { Err(invalid()) } else { Ok(PortRange { first, last }) }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Options {
    /// Fills what follows from other flags, and names everything that is wrong in upstream's words.
    pub fn complete(mut self) -> Result<Options, String> {
        let mut errors = Vec::new();
        if self.etcd_servers.is_empty() {
            errors.push("--etcd-servers must be specified".to_owned());
        }
        if self.service_account_issuer.is_empty() {
            errors.push("service-account-issuer is a required flag".to_owned());
        }
        if self.service_account_key_file.is_empty() {
            match &self.service_account_signing_key_file {
                Some(key) => self.service_account_key_file.push(key.clone()),
                None => errors.push(
                    "either `--service-account-key-file` or `--service-account-signing-endpoint` must be set"
                        .to_owned(),
                ),
            }
        }
        if self.service_account_signing_key_file.is_none() || self.service_account_issuer.is_empty() {
            errors.push(
                "--service-account-signing-key-file and --service-account-issuer are required flags"
                    .to_owned(),
            );
        }
        match self.guards.authorizers(&self.authorization_mode) {
            Ok(modes) => self.authorization_mode = modes,
            Err(mistakes) => errors.extend(mistakes),
        }
        match self.guards.anonymous(self.anonymous_auth, &self.authorization_mode) {
            Ok(anonymous) => self.anonymous = anonymous,
            Err(mistake) => errors.push(mistake),
        }
        errors.extend(self.guards.mistakes());
        errors.extend(self.admission.mistakes());
        if self.min_request_timeout < 0 {
            errors.push("--min-request-timeout can not be negative value".to_owned());
        }
        if !matches!(self.storage_backend.as_str(), "" | "etcd3") {
            errors.push(
                "--storage-backend invalid, allowed values: etcd3. If not specified, it will default to 'etcd3'"
                    .to_owned(),
            );
        }
        if !STORED_AS.contains(&self.storage_media_type.as_str()) {
            let allowed = STORED_AS.join(", ");
            errors.push(format!(
                "--storage-media-type {:?} invalid, allowed values: {allowed}",
                self.storage_media_type
            ));
        }
        if self.etcd_prefix.trim_end_matches('/') != "/registry" {
            errors.push(format!("--etcd-prefix {:?} is not supported yet, only /registry", self.etcd_prefix));
        }
        if let Err(mistakes) = Served::parse(&self.runtime_config) {
            errors.extend(mistakes);
        }
        if errors.is_empty() {
            errors.extend(self.guards.refusal());
        }
        if errors.is_empty() {
            match self.admission.settings() {
                Ok(settings) => self.plugin_settings = settings,
                Err(mistake) => errors.push(mistake),
            }
        }
        if !errors.is_empty() {
            return Err(match errors.as_slice() {
                [only] => only.clone(),
                all => format!("[{}]", all.join(", ")),
            });
        }
        if self.api_audiences.is_empty() {
            self.api_audiences.clone_from(&self.service_account_issuer);
        }
        if self.service_cluster_ip_range.is_empty() {
            self.service_cluster_ip_range.push(IpNet::V4(
                ipnet::Ipv4Net::new([10, 0, 0, 0].into(), 24).map_err(|error| error.to_string())?,
            ));
        }
        if self.serving.cert_dir.as_os_str().is_empty() {
            self.serving.cert_dir = "/var/run/kubernetes".into();
        }
        if !self.serving.bind_address.is_unspecified() {
            self.advertise_address.get_or_insert(self.serving.bind_address);
        }
        Ok(self)
    }

    /// The versions that `--runtime-config` enables; [`Options::complete`] has refused an invalid value.
    pub fn served(&self) -> Served {
        Served::parse(&self.runtime_config).unwrap_or_default()
    }

    /// Objects are to be stored as JSON.
    pub fn stores_json(&self) -> bool {
        self.storage_media_type == "application/json"
    }

    /// Flags that are set to something that is not done.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let set = [
            ("watch-cache=false", !self.watch_cache),
            ("storage-media-type=application/yaml", self.storage_media_type == "application/yaml"),
            ("audit-policy-file", !self.guards.audit_policy_file.is_empty()),
            ("tracing-config-file", !self.guards.tracing_config_file.is_empty()),
        ];
        set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }

    /// `host:port` at which this server reaches itself.
    pub fn own_place(&self) -> String {
        let host = match self.serving.bind_address {
            IpAddr::V4(any) if any.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(any) if any.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            bound => bound,
        };
        std::net::SocketAddr::new(host, self.secure_port()).to_string()
    }

    /// The port of the secure listener.
    pub fn secure_port(&self) -> u16 {
        self.serving.secure_port.unwrap_or(6443)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        let range = |text: &str| text.parse::<PortRange>();
        assert_eq!(range("30000-32767").unwrap(), PortRange { first: 30000, last: 32767 });
        assert_eq!(range("100+5").unwrap(), PortRange { first: 100, last: 105 });
        assert!(range("5-4").is_err() && range("x").is_err());
    }

    #[test]
    fn missing_flags_are_named_in_upstreams_words() {
        let options = Options::parse_from(["kube-apiserver"]);
        assert_eq!(
            options.complete().unwrap_err(),
            "[--etcd-servers must be specified, service-account-issuer is a required flag, either `--service-account-key-file` or `--service-account-signing-endpoint` must be set, --service-account-signing-key-file and --service-account-issuer are required flags]"
        );
    }

    fn complete(more: &[&str]) -> Result<Options, String> {
        let needed = [
            "kube-apiserver",
            "--etcd-servers=x",
            "--service-account-issuer=x",
            "--service-account-key-file=x",
            "--service-account-signing-key-file=x",
        ];
        Options::parse_from(needed.iter().chain(more)).complete()
    }

    #[test]
    fn wrong_values_are_refused_in_upstreams_words() {
        let check = |flag: &str, expected: &str| assert_eq!(complete(&[flag]).unwrap_err(), expected);
        check(
            "--storage-backend=etcd2",
            "--storage-backend invalid, allowed values: etcd3. If not specified, it will default to 'etcd3'",
        );
        check(
            "--storage-media-type=foo",
            "--storage-media-type \"foo\" invalid, allowed values: application/json, application/vnd.kubernetes.protobuf, application/yaml",
        );
        check("--min-request-timeout=-1", "--min-request-timeout can not be negative value");
        check("--runtime-config=foo/v1=true", "unknown api groups foo/v1");
    }

    #[test]
    fn flags_without_effect_are_named() {
        assert!(complete(&[]).unwrap().without_effect().is_empty());
        let given = ["--tracing-config-file=x", "--watch-cache=false"].map(str::to_owned);
        match flags::parse_from::<Options>(given, &[]) {
            flags::Outcome::Run { options, .. } => {
                assert_eq!(options.without_effect(), ["watch-cache=false", "tracing-config-file"]);
            }
            other => panic!("{other:?}"),
        }
        let options = complete(&["--disable-admission-plugins=MutatingAdmissionPolicy"]).unwrap();
        assert!(!options.admission.absent().contains(&"MutatingAdmissionPolicy"));
    }
}
