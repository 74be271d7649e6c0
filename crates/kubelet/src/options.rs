//! The command line. A flag that names a field of the configuration file wins over the file.

mod dropins;
mod fields;

use crate::config::{API_VERSION, KIND, KubeletConfiguration};
use clap::Parser;
use daemon::flags::{Logging, Unsupported};
use fields::ConfigurationFlags;
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
    /// A folder of files *.conf that amend the configuration, in the order of their names.
    #[arg(long, default_value = "")]
    pub config_dir: String,
    /// `external`: a cloud controller manager completes the node.
    #[arg(long, default_value = "")]
    pub cloud_provider: String,
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
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    #[command(flatten)]
    pub fields: ConfigurationFlags,
}

const fn flag(name: &'static str, boolean: bool) -> Unsupported {
    Unsupported { name, boolean }
}

/// Upstream's flags that are accepted and change nothing. Not among them: `--runonce`, which is refused.
pub const WITHOUT_EFFECT: &[Unsupported] = &[
    flag("contention-profiling", true),
    flag("cpu-manager-policy-options", false),
    flag("enable-controller-attach-detach", true),
    flag("eviction-max-pod-grace-period", false),
    flag("eviction-minimum-reclaim", false),
    flag("eviction-soft-grace-period", false),
    flag("exit-on-lock-contention", true),
    flag("experimental-allocatable-ignore-eviction", true),
    flag("experimental-mounter-path", false),
    flag("housekeeping-interval", false),
    flag("http-check-frequency", false),
    flag("image-credential-provider-bin-dir", false),
    flag("image-credential-provider-config", false),
    flag("kernel-memcg-notification", true),
    flag("local-storage-capacity-isolation", true),
    flag("lock-file", false),
    flag("manifest-url", false),
    flag("manifest-url-header", false),
    flag("maximum-dead-containers", false),
    flag("maximum-dead-containers-per-container", false),
    flag("memory-manager-policy", false),
    flag("minimum-container-ttl-duration", false),
    flag("qos-reserved", false),
    flag("reserved-cpus", false),
    flag("reserved-memory", false),
    flag("runtime-cgroups", false),
    flag("topology-manager-policy-options", false),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to set feature gates from initial flags-based config: {0}")]
    FeatureGates(#[from] daemon::features::Error),
    #[error(transparent)]
    Config(#[from] daemon::config::Error),
    /// A number that the field cannot hold.
    #[error("invalid argument: {0}")]
    Value(#[from] serde_json::Error),
    #[error("{0}")]
    Dropins(String),
    #[error("failed to validate kubelet configuration, error: {0}")]
    Invalid(String),
    #[error("failed to run Kubelet: {0}")]
    Late(String),
    #[error("invalid argument {value:?} for \"--node-labels\" flag: {message}")]
    NodeLabels { value: String, message: String },
}

impl Options {
    /// The configuration file, or upstream's defaults, with the drop-in files and then the flags on top.
    pub fn configuration(&self) -> Result<KubeletConfiguration, Error> {
        let file = match self.config.as_str() {
            "" => KubeletConfiguration::default(),
            path => daemon::config::load(Path::new(path), API_VERSION, KIND)?,
        };
        let mut tree = serde_json::to_value(file)?;
        if !self.config_dir.is_empty() {
            dropins::merge(Path::new(&self.config_dir), &mut tree).map_err(Error::Dropins)?;
        }
        self.fields.amend(&mut tree);
        let mut config: KubeletConfiguration = serde_json::from_value(tree)?;
        daemon::features::FeatureGates::default().set_all(&config.feature_gates)?;
        config.fill_durations();
        if config.image_service_endpoint.is_empty() {
            config.image_service_endpoint.clone_from(&config.container_runtime_endpoint);
        }
        match config.mistakes().as_slice() {
            [] => {}
            [only] => return Err(Error::Invalid(only.clone())),
            all => return Err(Error::Invalid(format!("[{}]", all.join(", ")))),
        }
        if let Some(mistake) = config.late_mistake() {
            return Err(Error::Late(mistake));
        }
        Ok(config)
    }

    pub fn labels(&self) -> Result<BTreeMap<String, String>, Error> {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        self.node_labels
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| fields::pair(part, '=').map(owned))
            .collect::<Result<_, String>>()
            .map_err(|message| Error::NodeLabels { value: self.node_labels.clone(), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_gate_that_there_is_not_is_refused() {
        let options = Options::parse_from(["kubelet", "--feature-gates=NoSuch=true"]);
        let error = options.configuration().unwrap_err().to_string();
        let text =
            "failed to set feature gates from initial flags-based config: unrecognized feature gate: NoSuch";
        assert_eq!(error, text);
        assert!(Options::parse_from(["kubelet", "--feature-gates=NodeSwap=true"]).configuration().is_ok());
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(
            &file,
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 5\nclusterDNS: [10.0.0.10]\nfailCgroupV1: false\nevictionHard: {memory.available: 100Mi}\n",
        )
        .unwrap();
        let dropins = folder.path().join("dropins");
        std::fs::create_dir(&dropins).unwrap();
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 6\npodsPerCore: 3\n";
        std::fs::write(dropins.join("10-pods.conf"), text).unwrap();
        let options = Options::parse_from([
            "kubelet",
            &format!("--config={}", file.display()),
            "--max-pods=7",
            "--register-with-taints=a=b:NoSchedule,c:NoExecute",
            "--node-labels=x=y",
            &format!("--config-dir={}", dropins.display()),
        ]);
        let config = options.configuration().unwrap();
        assert_eq!((config.max_pods, config.pods_per_core), (7, 3));
        assert_eq!(config.cluster_dns, ["10.0.0.10"]);
        assert!(!config.fail_cgroup_v1);
        assert_eq!(config.register_with_taints[0].value.as_deref(), Some("b"));
        assert_eq!(config.register_with_taints[1].effect, "NoExecute");
        assert_eq!(options.labels().unwrap()["x"], "y");
    }
}
