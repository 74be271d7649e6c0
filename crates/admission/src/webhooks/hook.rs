//! One webhook of a configuration, in the form in which it is asked.

use std::time::Duration;

use api::Tree;
use base64::Engine as _;
use cel::admission::{Compiler, Given};
use registry::tree::{get, has, list, text, texts};

use crate::criteria::Criteria;
use crate::expressions::Conditions;

/// What match conditions may refer to.
const GIVEN: Given = Given { params: false, authorizer: true, patches: false };

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    pub configuration: String,
    pub name: String,
    pub client: ClientConfig,
    pub(super) criteria: Criteria,
    pub(super) ignores_failures: bool,
    /// Whether it changes nothing elsewhere when it is asked in a dry run.
    pub(super) runs_dry: bool,
    pub(super) timeout: Duration,
    /// Whether it is asked again when others have changed the object after it.
    pub(super) reinvoked: bool,
    /// Versions of the review that it reads.
    pub(super) versions: Vec<String>,
    pub(super) conditions: Conditions,
}

/// Where a webhook is, and whom to believe that it is the one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    pub url: String,
    pub service: Option<ServiceReference>,
    /// Certificates in PEM.
    pub authority: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceReference {
    pub namespace: String,
    pub name: String,
    pub path: String,
    pub port: u16,
}

impl Hook {
    /// The webhooks of a configuration, in its order.
    pub fn all(configuration: &Tree) -> Vec<Hook> {
        let name = text(configuration, "metadata.name");
        list(configuration, "webhooks").iter().map(|hook| Hook::new(name, hook)).collect()
    }

    fn new(configuration: &str, hook: &Tree) -> Hook {
        let seconds = get(hook, "timeoutSeconds").as_u64().unwrap_or(10);
        Hook {
            configuration: configuration.to_owned(),
            name: text(hook, "name").to_owned(),
            client: ClientConfig::of(get(hook, "clientConfig")),
            criteria: Criteria::of_hook(hook),
            ignores_failures: text(hook, "failurePolicy") == "Ignore",
            runs_dry: matches!(text(hook, "sideEffects"), "None" | "NoneOnDryRun"),
            timeout: Duration::from_secs(seconds),
            reinvoked: text(hook, "reinvocationPolicy") == "IfNeeded",
            versions: texts(hook, "admissionReviewVersions").map(str::to_owned).collect(),
            conditions: Conditions::of(list(hook, "matchConditions"), &Compiler::default(), GIVEN),
        }
    }
}

impl ClientConfig {
    /// As a configuration has it, or a definition of custom resources.
    pub fn of(tree: &Tree) -> ClientConfig {
        let service = has(tree, "service").then(|| ServiceReference {
            namespace: text(tree, "service.namespace").to_owned(),
            name: text(tree, "service.name").to_owned(),
            path: text(tree, "service.path").to_owned(),
            port: get(tree, "service.port").as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
        });
        let authority = base64::engine::general_purpose::STANDARD.decode(text(tree, "caBundle"));
        ClientConfig { url: text(tree, "url").to_owned(), service, authority: authority.unwrap_or_default() }
    }
}
