//! The command line. A flag that names a field of the configuration file wins over the file.

use crate::config::{API_VERSION, KIND, KubeletConfiguration};
use clap::Parser;
use daemon::flags::{Duration, Logging, Unsupported};
use k8s_openapi::api::core::v1::Taint;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Parser)]
#[command(name = "kubelet")]
pub struct Options {
    #[command(flatten)]
    pub logging: Logging,
    /// The kubelet's initial configuration: a file of kind KubeletConfiguration.
    #[arg(long, default_value = "")]
    pub config: String,
    /// How to reach the API server. Without it the kubelet runs static pods alone.
    #[arg(long, default_value = "")]
    pub kubeconfig: String,
    /// A kubeconfig to get a client certificate with, where --kubeconfig's file does not exist.
    #[arg(long, default_value = "")]
    pub bootstrap_kubeconfig: String,
    /// The node's addresses: one, or one of each family, separated by a comma.
    #[arg(long, default_value = "")]
    pub node_ip: String,
    /// The node's name, where it is not the host name.
    #[arg(long, default_value = "")]
    pub hostname_override: String,
    /// Labels to register the node with, key=value,…
    #[arg(long, default_value = "")]
    pub node_labels: String,
    /// Taints to register the node with, key=value:effect,…
    #[arg(long)]
    pub register_with_taints: Option<String>,
    #[arg(long)]
    pub register_node: Option<String>,
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    #[arg(long)]
    pub image_service_endpoint: Option<String>,
    #[arg(long)]
    pub cgroup_root: Option<String>,
    #[arg(long)]
    pub cgroup_driver: Option<String>,
    #[arg(long)]
    pub pod_manifest_path: Option<String>,
    #[arg(long)]
    pub address: Option<String>,
    #[arg(long)]
    pub port: Option<u16>,
    #[arg(long)]
    pub healthz_bind_address: Option<String>,
    #[arg(long)]
    pub healthz_port: Option<i32>,
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Option<Vec<String>>,
    #[arg(long)]
    pub cluster_domain: Option<String>,
    #[arg(long)]
    pub resolv_conf: Option<String>,
    #[arg(long)]
    pub max_pods: Option<i32>,
    /// Processes and threads of a pod; -1 is no limit.
    #[arg(long, allow_hyphen_values = true)]
    pub pod_max_pids: Option<i64>,
    #[arg(long)]
    pub tls_min_version: Option<String>,
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Option<Vec<String>>,
    #[arg(long)]
    pub tls_cert_file: Option<String>,
    #[arg(long)]
    pub tls_private_key_file: Option<String>,
    #[arg(long)]
    pub client_ca_file: Option<String>,
    #[arg(long)]
    pub anonymous_auth: Option<String>,
    #[arg(long)]
    pub authorization_mode: Option<String>,
    #[arg(long)]
    pub authentication_token_webhook: Option<String>,
    #[arg(long)]
    pub fail_swap_on: Option<String>,
    #[arg(long)]
    pub serialize_image_pulls: Option<String>,
    #[arg(long)]
    pub node_status_update_frequency: Option<Duration>,
    #[arg(long)]
    pub sync_frequency: Option<Duration>,
    #[arg(long)]
    pub file_check_frequency: Option<Duration>,
    #[arg(long)]
    pub runtime_request_timeout: Option<Duration>,
    /// key=value,…
    #[arg(long)]
    pub eviction_hard: Option<String>,
    #[arg(long)]
    pub system_reserved: Option<String>,
    #[arg(long)]
    pub kube_reserved: Option<String>,
    #[arg(long)]
    pub provider_id: Option<String>,
    #[arg(long)]
    pub seccomp_default: Option<String>,
    #[arg(long)]
    pub volume_plugin_dir: Option<String>,
    #[arg(long)]
    pub feature_gates: Option<String>,
    #[arg(long)]
    pub cgroups_per_qos: Option<String>,
    #[arg(long)]
    pub enforce_node_allocatable: Option<String>,
}

const fn flag(name: &'static str, boolean: bool) -> Unsupported {
    Unsupported { name, boolean }
}

/// Upstream's flags that are accepted and change nothing.
pub const WITHOUT_EFFECT: &[Unsupported] = &[
    flag("cloud-provider", false),
    flag("cloud-config", false),
    flag("config-dir", false),
    flag("container-hints", false),
    flag("cpu-manager-policy", false),
    flag("event-burst", false),
    flag("event-qps", false),
    flag("exit-on-lock-contention", true),
    flag("kube-api-burst", false),
    flag("kube-api-qps", false),
    flag("kube-api-content-type", false),
    flag("image-credential-provider-bin-dir", false),
    flag("image-credential-provider-config", false),
    flag("lock-file", false),
    flag("log-text-split-stream", true),
    flag("minimum-container-ttl-duration", false),
    flag("oom-score-adj", false),
    flag("pod-infra-container-image", false),
    flag("protect-kernel-defaults", true),
    flag("read-only-port", false),
    flag("rotate-certificates", true),
    flag("rotate-server-certificates", true),
    flag("runtime-cgroups", false),
    flag("kubelet-cgroups", false),
    flag("system-cgroups", false),
    flag("topology-manager-policy", false),
    flag("cpu-cfs-quota", true),
    flag("hairpin-mode", false),
    flag("streaming-connection-idle-timeout", false),
    flag("image-gc-high-threshold", false),
    flag("image-gc-low-threshold", false),
    flag("experimental-mounter-path", false),
    flag("make-iptables-util-chains", true),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] daemon::config::Error),
    #[error("invalid value {value:?} for flag --{flag}")]
    Flag { flag: &'static str, value: String },
}

impl Options {
    /// The configuration file, or upstream's defaults, with flags on top.
    pub fn configuration(&self) -> Result<KubeletConfiguration, Error> {
        let mut config = match self.config.as_str() {
            "" => KubeletConfiguration::default(),
            path => daemon::config::load(Path::new(path), API_VERSION, KIND)?,
        };
        config.fill_durations();
        let set = |target: &mut String, flag: &Option<String>| {
            if let Some(value) = flag {
                target.clone_from(value);
            }
        };
        set(&mut config.container_runtime_endpoint, &self.container_runtime_endpoint);
        set(&mut config.image_service_endpoint, &self.image_service_endpoint);
        set(&mut config.cgroup_root, &self.cgroup_root);
        set(&mut config.cgroup_driver, &self.cgroup_driver);
        set(&mut config.static_pod_path, &self.pod_manifest_path);
        set(&mut config.address, &self.address);
        set(&mut config.healthz_bind_address, &self.healthz_bind_address);
        set(&mut config.cluster_domain, &self.cluster_domain);
        set(&mut config.tls_cert_file, &self.tls_cert_file);
        set(&mut config.tls_private_key_file, &self.tls_private_key_file);
        set(&mut config.authentication.x509.client_ca_file, &self.client_ca_file);
        set(&mut config.authorization.mode, &self.authorization_mode);
        set(&mut config.provider_id, &self.provider_id);
        set(&mut config.volume_plugin_dir, &self.volume_plugin_dir);
        let bools: [(&mut bool, &'static str, &Option<String>); 7] = [
            (&mut config.register_node, "register-node", &self.register_node),
            (&mut config.authentication.anonymous.enabled, "anonymous-auth", &self.anonymous_auth),
            (
                &mut config.authentication.webhook.enabled,
                "authentication-token-webhook",
                &self.authentication_token_webhook,
            ),
            (&mut config.fail_swap_on, "fail-swap-on", &self.fail_swap_on),
            (&mut config.serialize_image_pulls, "serialize-image-pulls", &self.serialize_image_pulls),
            (&mut config.seccomp_default, "seccomp-default", &self.seccomp_default),
            (&mut config.cgroups_per_qos, "cgroups-per-qos", &self.cgroups_per_qos),
        ];
        for (target, flag, value) in bools {
            if let Some(value) = value {
                *target = value.parse().map_err(|_| Error::Flag { flag, value: value.clone() })?;
            }
        }
        config.port = self.port.unwrap_or(config.port);
        config.healthz_port = self.healthz_port.unwrap_or(config.healthz_port);
        config.pod_pids_limit = self.pod_max_pids.unwrap_or(config.pod_pids_limit);
        set(&mut config.tls_min_version, &self.tls_min_version);
        if let Some(value) = &self.tls_cipher_suites {
            config.tls_cipher_suites.clone_from(value);
        }
        config.max_pods = self.max_pods.unwrap_or(config.max_pods);
        if let Some(value) = &self.cluster_dns {
            config.cluster_dns.clone_from(value);
        }
        if let Some(value) = &self.resolv_conf {
            config.resolv_conf = Some(value.clone());
        }
        let durations = [
            (&mut config.node_status_update_frequency, self.node_status_update_frequency),
            (&mut config.sync_frequency, self.sync_frequency),
            (&mut config.file_check_frequency, self.file_check_frequency),
            (&mut config.runtime_request_timeout, self.runtime_request_timeout),
        ];
        for (target, value) in durations {
            *target = value.unwrap_or(*target);
        }
        let map = |target: &mut BTreeMap<String, String>, flag, value: &Option<String>, separator| {
            if let Some(value) = value {
                *target =
                    pairs(value, separator).ok_or_else(|| Error::Flag { flag, value: value.clone() })?;
            }
            Ok::<_, Error>(())
        };
        map(&mut config.eviction_hard, "eviction-hard", &self.eviction_hard, '<')?;
        map(&mut config.system_reserved, "system-reserved", &self.system_reserved, '=')?;
        map(&mut config.kube_reserved, "kube-reserved", &self.kube_reserved, '=')?;
        if let Some(value) = &self.register_with_taints {
            let flag = "register-with-taints";
            config.register_with_taints =
                taints(value).ok_or_else(|| Error::Flag { flag, value: value.clone() })?;
        }
        if config.image_service_endpoint.is_empty() {
            config.image_service_endpoint.clone_from(&config.container_runtime_endpoint);
        }
        Ok(config)
    }

    pub fn labels(&self) -> Result<BTreeMap<String, String>, Error> {
        let value = &self.node_labels;
        pairs(value, '=').ok_or_else(|| Error::Flag { flag: "node-labels", value: value.clone() })
    }
}

fn pairs(text: &str, separator: char) -> Option<BTreeMap<String, String>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once(separator).or_else(|| part.split_once('=')))
        .map(|pair| pair.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())))
        .collect()
}

fn taints(text: &str) -> Option<Vec<Taint>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (rest, effect) = part.rsplit_once(':')?;
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            Some(Taint {
                key: key.into(),
                value: Some(value.to_owned()).filter(|value| !value.is_empty()),
                effect: effect.into(),
                time_added: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(
            &file,
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 5\nclusterDNS: [10.0.0.10]\nfailCgroupV1: false\nevictionHard: {memory.available: 100Mi}\n",
        )
        .unwrap();
        let options = Options::parse_from([
            "kubelet",
            &format!("--config={}", file.display()),
            "--max-pods=7",
            "--register-with-taints=a=b:NoSchedule,c:NoExecute",
            "--node-labels=x=y",
        ]);
        let config = options.configuration().unwrap();
        assert_eq!(config.max_pods, 7);
        assert_eq!(config.cluster_dns, ["10.0.0.10"]);
        assert!(!config.fail_cgroup_v1);
        assert_eq!(config.register_with_taints[0].value.as_deref(), Some("b"));
        assert_eq!(config.register_with_taints[1].effect, "NoExecute");
        assert_eq!(options.labels().unwrap()["x"], "y");
    }
}
