//! The plugins, in upstream's order.

mod certificates;
mod lifecycle;
mod limit_ranger;
mod node_restriction;
mod node_taints;
mod pod_resize;
mod priority;
mod protection;
mod requester;
mod runtime_class;
mod service_account;
mod tolerations;

use std::sync::Arc;

use crate::webhooks::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook};
use crate::{Chain, Plugin, Services};

/// What flags say to plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--default-not-ready-toleration-seconds`.
    pub not_ready_seconds: i64,
    /// `--default-unreachable-toleration-seconds`.
    pub unreachable_seconds: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { not_ready_seconds: 300, unreachable_seconds: 300 }
    }
}

/// The plugins that are enabled, in upstream's order.
pub fn standard(services: &Arc<dyn Services>, settings: Settings, enabled: impl Fn(&str) -> bool) -> Chain {
    let services = || Arc::clone(services);
    let all: Vec<Box<dyn Plugin>> = vec![
        Box::new(lifecycle::NamespaceLifecycle::new(services())),
        Box::new(limit_ranger::LimitRanger::new(services())),
        Box::new(service_account::ServiceAccount::new(services())),
        Box::new(node_restriction::NodeRestriction::new(services())),
        Box::new(node_taints::TaintNodesByCondition),
        Box::new(priority::Priority::new(services())),
        Box::new(tolerations::DefaultTolerationSeconds::new(
            settings.not_ready_seconds,
            settings.unreachable_seconds,
        )),
        Box::new(protection::StorageObjectInUseProtection),
        Box::new(runtime_class::RuntimeClass::new(services())),
        Box::new(certificates::CertificateApproval::new(services())),
        Box::new(certificates::CertificateSigning::new(services())),
        Box::new(certificates::ClusterTrustBundleAttest::new(services())),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(requester::CertificateRequester),
        Box::new(pod_resize::PodResizeValidator::new(services())),
        Box::new(MutatingAdmissionWebhook::new(services())),
        Box::new(ValidatingAdmissionWebhook::new(services())),
    ];
    Chain::new(all.into_iter().filter(|plugin| enabled(plugin.name())).collect())
}

/// Whether a plugin runs without being asked for.
pub fn on_by_default(name: &str) -> bool {
    name != "NodeRestriction"
}
