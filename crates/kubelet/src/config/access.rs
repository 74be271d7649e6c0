//! Who may speak to the kubelet's server.

use super::seconds;
use daemon::flags::Duration;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: WebhookAuthentication,
    pub anonymous: Anonymous,
}

impl Default for Authentication {
    fn default() -> Self {
        let cache_ttl = seconds(120);
        Self {
            x509: X509::default(),
            webhook: WebhookAuthentication { enabled: true, cache_ttl },
            anonymous: Anonymous::default(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
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

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Anonymous {
    pub enabled: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
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

#[derive(Clone, Debug, Deserialize, Serialize)]
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
