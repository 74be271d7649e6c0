//! The configuration of extenders: who is asked about nodes besides the plugins.

use std::collections::BTreeSet;

use base64::Engine as _;
use daemon::flags;
use machinery::names::qualified_name;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderConfiguration {
    pub url_prefix: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_verb: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preempt_verb: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prioritize_verb: String,
    pub weight: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bind_verb: String,
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<ExtenderTls>,
    /// Zero for five seconds.
    pub http_timeout: flags::Duration,
    pub node_cache_capable: bool,
    pub managed_resources: Vec<ManagedResource>,
    pub ignorable: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedResource {
    pub name: String,
    pub ignored_by_scheduler: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderTls {
    pub insecure: bool,
    pub server_name: String,
    pub cert_file: String,
    pub key_file: String,
    #[serde(rename = "caFile")]
    pub ca_file: String,
    /// In base64; these take precedence over the files.
    pub cert_data: String,
    // The configuration is shown on the port.
    #[serde(skip_serializing)]
    pub key_data: String,
    #[serde(rename = "caData")]
    pub ca_data: String,
}

impl ExtenderTls {
    /// Inline data where there is any, else the file.
    pub fn material(data: &str, file: &str) -> Result<Option<client::Material>, String> {
        if !data.is_empty() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(data);
            return bytes
                .map(|bytes| Some(client::Material::Inline(bytes)))
                .map_err(|error| error.to_string());
        }
        Ok((!file.is_empty()).then(|| client::Material::File(file.into())))
    }
}

/// Resources that the scheduler leaves to the extenders; upstream's file may name them in the plugin's arguments instead.
pub fn ignored_resources(extenders: &[ExtenderConfiguration]) -> Vec<&str> {
    let managed = extenders.iter().flat_map(|extender| &extender.managed_resources);
    managed.filter(|resource| resource.ignored_by_scheduler).map(|resource| resource.name.as_str()).collect()
}

/// In upstream's words and order.
pub(super) fn check(extenders: &[ExtenderConfiguration], errors: &mut Vec<String>) {
    let mut managed = BTreeSet::new();
    for (place, extender) in extenders.iter().enumerate() {
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            errors.push(format!(
                "extenders[{place}].weight: Invalid value: {}: must have a positive weight applied to it",
                extender.weight
            ));
        }
        for (at, resource) in extender.managed_resources.iter().enumerate() {
            let invalid = |message: &str| {
                format!(
                    "extenders[{place}].managedResources[{at}].name: Invalid value: {:?}: {message}",
                    resource.name
                )
            };
            let not_qualified = qualified_name(&resource.name);
            errors.extend(not_qualified.iter().map(|message| invalid(message)));
            if not_qualified.is_empty() && !is_extended(&resource.name) {
                errors.push(invalid("is an invalid extended resource name"));
            }
            if !managed.insert(&resource.name) {
                errors.push(invalid("duplicate extender managed resource name"));
            }
        }
    }
    let binders = extenders.iter().filter(|extender| !extender.bind_verb.is_empty()).count();
    if binders > 1 {
        errors.push(format!(
            "extenders: Invalid value: \"found {binders} extenders implementing bind\": only one extender can implement bind"
        ));
    }
}

fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && qualified_name(&format!("requests.{name}")).is_empty()
}
