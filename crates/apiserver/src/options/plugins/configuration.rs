//! The configurations of single plugins.

use std::collections::{BTreeMap, HashSet};

use admission::{
    EventLimit, EventSource, Level, LevelVersion, Limited, PodSecuritySettings, Policy, ScopeExpression,
    Settings, TolerationSettings, Version,
};
use api::status::Cause;
use daemon::config::strict;
use machinery::fieldpath::{Path, aggregate};
use machinery::names;
use serde::Deserialize;

/// Sources of events that are remembered where the configuration says nothing.
const SOURCES: usize = 4096;

/// Why a plugin cannot be configured. Upstream words differently what it finds after all plugins were made.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("{0}")]
    Early(String),
    #[error("{0}")]
    Late(String),
}

impl From<String> for Mistake {
    fn from(text: String) -> Mistake {
        Mistake::Early(text)
    }
}

impl Mistake {
    pub(super) fn of_plugin(&self, name: &str) -> String {
        match self {
            Mistake::Early(text) => format!("couldn't init admission plugin {name:?}: {text}"),
            Mistake::Late(text) => format!("failed to initialize admission plugin {name:?}: {name} {text}"),
        }
    }
}

/// Reads a plugin's configuration, `text`, into the settings. Plugins without one take any.
pub(super) fn configure(plugin: &str, text: Option<&str>, settings: &mut Settings) -> Result<(), Mistake> {
    match (plugin, text) {
        ("EventRateLimit", text) => settings.event_limits = event_limits(text)?,
        (_, None) => {}
        ("PodSecurity", Some(text)) => settings.pod_security = pod_security(text)?,
        ("ResourceQuota", Some(text)) => settings.limited = limited(text)?,
        ("PodTolerationRestriction", Some(text)) => settings.tolerations = tolerations(text)?,
        ("PodNodeSelector", Some(text)) => settings.node_selectors = node_selectors(text),
        ("MutatingAdmissionWebhook" | "ValidatingAdmissionWebhook", Some(text)) => webhooks(text)?,
        _ => {}
    }
    Ok(())
}

fn all_right(causes: &[Cause]) -> Result<(), String> {
    if causes.is_empty() { Ok(()) } else { Err(aggregate(causes)) }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodSecurityConfiguration {
    defaults: Defaults,
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Exemptions {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

fn pod_security(text: &str) -> Result<PodSecuritySettings, Mistake> {
    let configuration: PodSecurityConfiguration = strict(
        text,
        "pod-security.admission.config.k8s.io",
        &["v1", "v1beta1", "v1alpha1"],
        "PodSecurityConfiguration",
    )?;
    let mut mistakes = Vec::new();
    let Defaults { enforce, enforce_version, audit, audit_version, warn, warn_version } =
        configuration.defaults;
    let mut mode = |name: &str, level: &str, version: &str| {
        let level = Level::parse(if level.is_empty() { "privileged" } else { level }).unwrap_or_else(|why| {
            mistakes.push(format!("{name}: {why}"));
            Level::default()
        });
        let version =
            Version::parse(if version.is_empty() { "latest" } else { version }).unwrap_or_else(|why| {
                mistakes.push(format!("{name}-version: {why}"));
                Version::default()
            });
        LevelVersion { level, version }
    };
    let enforce = mode("enforce", &enforce, &enforce_version);
    let audit = mode("audit", &audit, &audit_version);
    let warn = mode("warn", &warn, &warn_version);
    match mistakes.as_slice() {
        [] => {}
        [one] => return Err(Mistake::Late(format!("configuration error: {one}"))),
        all => return Err(Mistake::Late(format!("configuration error: [{}]", all.join(", ")))),
    }
    let mut causes = Vec::new();
    let exemptions = Path::new("exemptions");
    let mut set = |name: &str, values: Vec<String>, problems: fn(&str) -> Vec<String>| {
        let (path, mut set) = (exemptions.field(name), HashSet::new());
        for (index, value) in values.into_iter().enumerate() {
            let problems = problems(&value);
            if !problems.is_empty() {
                causes.push(path.index(index).invalid(value.as_str(), &problems.join(", ")));
            } else if set.contains(&value) {
                causes.push(path.index(index).duplicate(value.as_str()));
            } else {
                set.insert(value);
            }
        }
        set
    };
    let exempt_namespaces = set("namespaces", configuration.exemptions.namespaces, names::dns1123_label);
    let exempt_runtime_classes =
        set("runtimeClasses", configuration.exemptions.runtime_classes, names::dns1123_subdomain);
    let exempt_users = set("usernames", configuration.exemptions.usernames, |name| {
        if name.is_empty() { vec!["username must not be empty".to_owned()] } else { Vec::new() }
    });
    if !causes.is_empty() {
        return Err(Mistake::Late(format!("invalid: {}", aggregate(&causes))));
    }
    let defaults = Policy { enforce, audit, warn };
    Ok(PodSecuritySettings { defaults, exempt_users, exempt_namespaces, exempt_runtime_classes })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct QuotaConfiguration {
    limited_resources: Vec<LimitedResource>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LimitedResource {
    api_group: String,
    resource: String,
    match_contains: Vec<String>,
    match_scopes: Vec<MatchScope>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MatchScope {
    scope_name: String,
    operator: String,
    values: Vec<String>,
}

fn limited(text: &str) -> Result<Vec<Limited>, String> {
    let read = |group: &str, versions: &[&str], kind: &str| {
        strict::<QuotaConfiguration>(text, group, versions, kind)
    };
    let configuration =
        read("apiserver.config.k8s.io", &["v1"], "ResourceQuotaConfiguration").or_else(|error| {
            let old = read("resourcequota.admission.k8s.io", &["v1beta1", "v1alpha1"], "Configuration");
            old.map_err(|other| if other.starts_with("no kind") { error } else { other })
        })?;
    let path = Path::new("limitedResources");
    let limited = configuration.limited_resources;
    let unnamed = limited.iter().enumerate().filter(|(_, one)| one.resource.is_empty());
    let causes: Vec<Cause> =
        unnamed.map(|(index, _)| path.index(index).field("resource").required("")).collect();
    all_right(&causes)?;
    let expression = |scope: MatchScope| ScopeExpression {
        name: scope.scope_name,
        operator: scope.operator,
        values: scope.values,
    };
    let entry = |one: LimitedResource| Limited {
        group: one.api_group,
        resource: one.resource,
        contains: one.match_contains,
        scopes: one.match_scopes.into_iter().map(expression).collect(),
    };
    Ok(limited.into_iter().map(entry).collect())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventConfiguration {
    limits: Vec<LimitConfiguration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LimitConfiguration {
    r#type: String,
    qps: i32,
    burst: i32,
    cache_size: i32,
}

fn event_limits(text: Option<&str>) -> Result<Vec<EventLimit>, String> {
    let limits = match text {
        None => Vec::new(),
        Some(text) => {
            let group = "eventratelimit.admission.k8s.io";
            strict::<EventConfiguration>(text, group, &["v1alpha1"], "Configuration")?.limits
        }
    };
    let path = Path::new("limits");
    if limits.is_empty() {
        let shown = if text.is_some() { "[]" } else { "null" };
        return Err(format!("limits: Invalid value: {shown}: must not be empty"));
    }
    let (mut all, mut causes) = (Vec::new(), Vec::new());
    for (index, limit) in limits.iter().enumerate() {
        let at = path.index(index);
        let of = match limit.r#type.as_str() {
            "Server" => Some(EventSource::Server),
            "Namespace" => Some(EventSource::Namespace),
            "User" => Some(EventSource::User),
            "SourceAndObject" => Some(EventSource::SourceAndObject),
            other => {
                let types = ["Namespace", "Server", "SourceAndObject", "User"];
                causes.push(at.field("type").not_supported(other, &types));
                None
            }
        };
        for (field, value) in [("burst", limit.burst), ("qps", limit.qps)] {
            if value <= 0 {
                causes.push(at.field(field).invalid(i64::from(value), "must be positive"));
            }
        }
        if of != Some(EventSource::Server) && limit.cache_size < 0 {
            causes.push(at.field("cacheSize").invalid(i64::from(limit.cache_size), "must not be negative"));
        }
        let sources = usize::try_from(limit.cache_size).ok().filter(|size| *size > 0).unwrap_or(SOURCES);
        let (rate, burst) = (limit.qps.unsigned_abs(), limit.burst.unsigned_abs());
        all.extend(of.map(|of| EventLimit { of, rate, burst, sources }));
    }
    all_right(&causes)?;
    Ok(all)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TolerationConfiguration {
    default: Vec<Toleration>,
    whitelist: Vec<Toleration>,
}

#[derive(Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Toleration {
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    operator: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    toleration_seconds: Option<i64>,
}

fn tolerations(text: &str) -> Result<TolerationSettings, String> {
    let group = "podtolerationrestriction.admission.k8s.io";
    let configuration: TolerationConfiguration = strict(text, group, &["v1alpha1"], "Configuration")?;
    let root = Path::new("podtolerationrestriction");
    let mut causes = Vec::new();
    let mut read = |name: &str, all: &[Toleration]| -> Result<Vec<api::Tree>, String> {
        let trees = all.iter().map(api::Tree::of).collect::<Result<Vec<_>, _>>();
        let trees = trees.map_err(|error| error.to_string())?;
        registry::kinds::pod_spec::tolerations(&trees, &root.field(name), &mut causes);
        Ok(trees)
    };
    let defaults = read("default", &configuration.default)?;
    let allowed = read("whitelist", &configuration.whitelist)?;
    match causes.is_empty() {
        true => Ok(TolerationSettings { defaults, allowed }),
        false => {
            let texts: Vec<String> =
                causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            Err(format!("invalid config: [{}]", texts.join(" ")))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSelectorConfiguration {
    pod_node_selector_plugin_config: BTreeMap<String, String>,
}

/// Nothing about it is checked.
fn node_selectors(text: &str) -> BTreeMap<String, String> {
    let tree = daemon::config::yaml(text).unwrap_or_default();
    let configuration = serde_json::from_value::<NodeSelectorConfiguration>(tree).unwrap_or_default();
    configuration.pod_node_selector_plugin_config
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WebhookConfiguration {
    kube_config_file: String,
    static_manifests_dir: String,
}

fn webhooks(text: &str) -> Result<(), String> {
    let read = |group: &str, versions: &[&str], kind: &str| {
        strict::<WebhookConfiguration>(text, group, versions, kind)
    };
    let configuration =
        read("apiserver.config.k8s.io", &["v1"], "WebhookAdmissionConfiguration").or_else(|error| {
            let old = read("apiserver.config.k8s.io", &["v1alpha1"], "WebhookAdmission");
            old.map_err(|other| if other.starts_with("no kind") { error } else { other })
        })?;
    let file = &configuration.kube_config_file;
    if !file.is_empty() && !file.starts_with('/') {
        return Err(format!("kubeConfigFile: Invalid value: {file:?}: must be an absolute file path"));
    }
    match (file.is_empty(), configuration.static_manifests_dir.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err("kubeConfigFile is not supported yet".to_owned()),
        (true, false) => Err("staticManifestsDir is not supported yet".to_owned()),
    }
}
