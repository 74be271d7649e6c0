//! An APIService as the aggregator reads it.

use api::Tree;
use base64::Engine as _;
use registry::tree::{flag, get, has, list, number, text};

use super::priorities::Priorities;

/// A group and version, and who answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiService {
    pub name: String,
    pub group: String,
    pub version: String,
    pub priorities: Priorities,
    /// `None`: this server itself.
    pub backend: Option<Backend>,
    pub available: bool,
}

/// Another server, behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// Whoever answers is believed.
    pub insecure: bool,
    /// Whose certificates are believed, in PEM; empty for the system's.
    pub authority: Vec<u8>,
}

impl Backend {
    /// The name in its certificate.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

impl ApiService {
    pub fn read(object: &Tree) -> ApiService {
        let spec = get(object, "spec");
        let backend = has(spec, "service").then(|| Backend {
            namespace: text(spec, "service.namespace").to_owned(),
            service: text(spec, "service.name").to_owned(),
            port: u16::try_from(number(spec, "service.port")).ok().filter(|port| *port > 0).unwrap_or(443),
            insecure: flag(spec, "insecureSkipTLSVerify"),
            authority: base64::engine::general_purpose::STANDARD
                .decode(text(spec, "caBundle"))
                .unwrap_or_default(),
        });
        ApiService {
            name: text(object, "metadata.name").to_owned(),
            group: text(spec, "group").to_owned(),
            version: text(spec, "version").to_owned(),
            priorities: Priorities {
                group: number(spec, "groupPriorityMinimum"),
                version: number(spec, "versionPriority"),
            },
            backend,
            available: available(object),
        }
    }

    /// Where it is served: the core group's is all of `/api`.
    pub fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }
}

/// Whether the condition says so.
pub fn available(object: &Tree) -> bool {
    let mut conditions = list(object, "status.conditions").iter();
    conditions.any(|own| text(own, "type") == "Available" && text(own, "status") == "True")
}
