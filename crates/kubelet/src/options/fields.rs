//! Flags that set a field of the configuration: a table, from which the command line is made and by which the file is amended.

use clap::{Arg, ArgAction, ArgMatches, Command};
use daemon::flags::Duration;
use k8s_openapi::api::core::v1::Taint;
use serde_json::{Map, Value, json};

/// How a flag's text becomes the field's value.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    Int,
    Bool,
    Duration,
    /// a,b
    Texts,
    /// key=value, or the sign and value, between commas.
    Pairs(char),
    /// key=true,…
    Switches,
    /// key=value:effect,…
    Taints,
}

use Shape::{Bool, Int, Pairs, Switches, Taints, Text, Texts};

struct Row {
    flag: &'static str,
    /// The field's path in the file.
    field: &'static str,
    shape: Shape,
}

const fn row(flag: &'static str, field: &'static str, shape: Shape) -> Row {
    Row { flag, field, shape }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("address", "address", Text),
    row("allowed-unsafe-sysctls", "allowedUnsafeSysctls", Texts),
    row("anonymous-auth", "authentication.anonymous.enabled", Bool),
    row("authentication-token-webhook", "authentication.webhook.enabled", Bool),
    row("authentication-token-webhook-cache-ttl", "authentication.webhook.cacheTTL", Shape::Duration),
    row("authorization-mode", "authorization.mode", Text),
    row("authorization-webhook-cache-authorized-ttl", "authorization.webhook.cacheAuthorizedTTL", Shape::Duration),
    row("authorization-webhook-cache-unauthorized-ttl", "authorization.webhook.cacheUnauthorizedTTL", Shape::Duration),
    row("cgroup-driver", "cgroupDriver", Text),
    row("cgroup-root", "cgroupRoot", Text),
    row("cgroups-per-qos", "cgroupsPerQOS", Bool),
    row("client-ca-file", "authentication.x509.clientCAFile", Text),
    row("cluster-dns", "clusterDNS", Texts),
    row("cluster-domain", "clusterDomain", Text),
    row("container-log-max-files", "containerLogMaxFiles", Int),
    row("container-log-max-size", "containerLogMaxSize", Text),
    row("container-runtime-endpoint", "containerRuntimeEndpoint", Text),
    row("cpu-cfs-quota", "cpuCFSQuota", Bool),
    row("cpu-cfs-quota-period", "cpuCFSQuotaPeriod", Shape::Duration),
    row("cpu-manager-policy", "cpuManagerPolicy", Text),
    row("cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", Shape::Duration),
    row("enable-debugging-handlers", "enableDebuggingHandlers", Bool),
    row("enable-server", "enableServer", Bool),
    row("enforce-node-allocatable", "enforceNodeAllocatable", Texts),
    row("event-burst", "eventBurst", Int),
    row("event-qps", "eventRecordQPS", Int),
    row("eviction-hard", "evictionHard", Pairs('<')),
    row("eviction-pressure-transition-period", "evictionPressureTransitionPeriod", Shape::Duration),
    row("eviction-soft", "evictionSoft", Pairs('<')),
    row("fail-cgroupv1", "failCgroupV1", Bool),
    row("fail-swap-on", "failSwapOn", Bool),
    row("feature-gates", "featureGates", Switches),
    row("file-check-frequency", "fileCheckFrequency", Shape::Duration),
    row("hairpin-mode", "hairpinMode", Text),
    row("healthz-bind-address", "healthzBindAddress", Text),
    row("healthz-port", "healthzPort", Int),
    row("image-gc-high-threshold", "imageGCHighThresholdPercent", Int),
    row("image-gc-low-threshold", "imageGCLowThresholdPercent", Int),
    row("image-service-endpoint", "imageServiceEndpoint", Text),
    row("kube-api-burst", "kubeAPIBurst", Int),
    row("kube-api-content-type", "contentType", Text),
    row("kube-api-qps", "kubeAPIQPS", Int),
    row("kube-reserved", "kubeReserved", Pairs('=')),
    row("kube-reserved-cgroup", "kubeReservedCgroup", Text),
    row("kubelet-cgroups", "kubeletCgroups", Text),
    row("make-iptables-util-chains", "makeIPTablesUtilChains", Bool),
    row("max-open-files", "maxOpenFiles", Int),
    row("max-pods", "maxPods", Int),
    row("minimum-image-ttl-duration", "imageMinimumGCAge", Shape::Duration),
    row("node-status-max-images", "nodeStatusMaxImages", Int),
    row("node-status-update-frequency", "nodeStatusUpdateFrequency", Shape::Duration),
    row("oom-score-adj", "oomScoreAdj", Int),
    row("pod-cidr", "podCIDR", Text),
    row("pod-manifest-path", "staticPodPath", Text),
    row("pod-max-pids", "podPidsLimit", Int),
    row("pods-per-core", "podsPerCore", Int),
    row("port", "port", Int),
    row("protect-kernel-defaults", "protectKernelDefaults", Bool),
    row("provider-id", "providerID", Text),
    row("read-only-port", "readOnlyPort", Int),
    row("register-node", "registerNode", Bool),
    row("register-with-taints", "registerWithTaints", Taints),
    row("registry-burst", "registryBurst", Int),
    row("registry-qps", "registryPullQPS", Int),
    row("resolv-conf", "resolvConf", Text),
    row("rotate-certificates", "rotateCertificates", Bool),
    row("rotate-server-certificates", "serverTLSBootstrap", Bool),
    row("runtime-request-timeout", "runtimeRequestTimeout", Shape::Duration),
    row("seccomp-default", "seccompDefault", Bool),
    row("serialize-image-pulls", "serializeImagePulls", Bool),
    row("streaming-connection-idle-timeout", "streamingConnectionIdleTimeout", Shape::Duration),
    row("sync-frequency", "syncFrequency", Shape::Duration),
    row("system-cgroups", "systemCgroups", Text),
    row("system-reserved", "systemReserved", Pairs('=')),
    row("system-reserved-cgroup", "systemReservedCgroup", Text),
    row("tls-cert-file", "tlsCertFile", Text),
    row("tls-cipher-suites", "tlsCipherSuites", Texts),
    row("tls-min-version", "tlsMinVersion", Text),
    row("tls-private-key-file", "tlsPrivateKeyFile", Text),
    row("topology-manager-policy", "topologyManagerPolicy", Text),
    row("topology-manager-scope", "topologyManagerScope", Text),
    row("volume-plugin-dir", "volumePluginDir", Text),
    row("volume-stats-agg-period", "volumeStatsAggPeriod", Shape::Duration),
];

/// What the command line says of the configuration: values by the path of their field.
#[derive(Clone, Debug, Default)]
pub struct ConfigurationFlags(Vec<(&'static str, Value)>);

impl ConfigurationFlags {
    /// Puts the values into a configuration.
    pub fn amend(&self, configuration: &mut Value) {
        for (field, value) in &self.0 {
            let mut place = &mut *configuration;
            for name in field.split('.') {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                place = &mut place[name];
            }
            *place = value.clone();
        }
    }
}

impl clap::Args for ConfigurationFlags {
    fn augment_args(command: Command) -> Command {
        command.args(ROWS.iter().map(|row| {
            let argument = Arg::new(row.flag)
                .long(row.flag)
                .action(ArgAction::Set)
                .allow_hyphen_values(true)
                .help(format!("{} of the configuration.", row.field));
            match row.shape {
                Bool => argument.value_parser(clap::value_parser!(bool)),
                Int => argument.value_parser(clap::value_parser!(i64)),
                shape => argument.value_parser(move |text: &str| parse(shape, text)),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ConfigurationFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |row: &Row| match row.shape {
            Bool => matches.get_one::<bool>(row.flag).map(|value| json!(value)),
            Int => matches.get_one::<i64>(row.flag).map(|value| json!(value)),
            _ => matches.get_one::<Value>(row.flag).cloned(),
        };
        Ok(Self(ROWS.iter().filter_map(|row| Some((row.field, value(row)?))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn parse(shape: Shape, text: &str) -> Result<Value, String> {
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    match shape {
        Text | Int | Bool => Ok(text.into()),
        Shape::Duration => text.parse::<Duration>().map(|_| text.into()).map_err(|error| error.to_string()),
        Texts => Ok(parts().collect()),
        Pairs(sign) => Ok(Value::Object(
            parts()
                .map(|part| {
                    let (key, value) = pair(part, sign)?;
                    Ok((key.to_owned(), value.into()))
                })
                .collect::<Result<_, String>>()?,
        )),
        Switches => Ok(Value::Object(
            parts()
                .map(|part| {
                    let (key, value) = pair(part, '=')?;
                    let on = daemon::flags::go_bool(value)
                        .ok_or_else(|| format!("invalid value of {key}: {value}, err: invalid syntax"))?;
                    Ok((key.to_owned(), on.into()))
                })
                .collect::<Result<_, String>>()?,
        )),
        Taints => parts()
            .map(|part| serde_json::to_value(taint(part)?).map_err(|error| error.to_string()))
            .collect(),
    }
}

/// `key=value`, or with another sign; spaces around either do not count.
pub(super) fn pair(text: &str, sign: char) -> Result<(&str, &str), String> {
    let (key, value) = text
        .split_once(sign)
        .or_else(|| text.split_once('='))
        .ok_or_else(|| format!("malformed pair, expect string{sign}string"))?;
    Ok((key.trim(), value.trim()))
}

fn taint(text: &str) -> Result<Taint, String> {
    let (rest, effect) = text.rsplit_once(':').ok_or_else(|| format!("invalid taint spec: {text}"))?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    Ok(Taint {
        key: key.into(),
        value: Some(value.to_owned()).filter(|value| !value.is_empty()),
        effect: effect.into(),
        time_added: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KubeletConfiguration;

    #[test]
    fn every_field_is_the_configurations() {
        let configuration = serde_json::to_value(KubeletConfiguration::default()).unwrap();
        for row in ROWS {
            let pointer = format!("/{}", row.field.replace('.', "/"));
            assert!(configuration.pointer(&pointer).is_some(), "{} has no field {}", row.flag, row.field);
        }
    }

    #[test]
    fn texts_become_values() {
        for (shape, text, value) in [
            (Texts, "a, b,", json!(["a", "b"])),
            (Shape::Duration, "1m30s", json!("1m30s")),
            (
                Pairs('<'),
                "memory.available<1Gi,nodefs.available=5%",
                json!({"memory.available": "1Gi", "nodefs.available": "5%"}),
            ),
            (Pairs('='), "", json!({})),
            (Switches, "A=true,B=0", json!({"A": true, "B": false})),
            (
                Taints,
                "a=b:NoSchedule,c:NoExecute",
                json!([
                {"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute"}]),
            ),
        ] {
            assert_eq!(parse(shape, text).unwrap(), value, "{text}");
        }
        for (shape, text) in [
            (Shape::Duration, "3"),
            (Pairs('='), "cpu"),
            (Switches, "A=maybe"),
            (Taints, "a=b"),
            (Taints, "a=b:Never"),
        ] {
            assert!(parse(shape, text).is_err(), "{text}");
        }
    }
}
