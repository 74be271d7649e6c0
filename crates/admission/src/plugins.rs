//! The plugins, in upstream's order.

mod always;
mod anti_affinity;
mod certificates;
mod claim_resize;
mod declared_features;
mod default_class;
mod event_rates;
mod extended_tolerations;
mod external_ips;
mod lifecycle;
mod limit_ranger;
mod namespaces;
mod node_restriction;
mod node_selector;
mod node_taints;
mod owner_references;
mod pod_resize;
mod pod_security;
mod priority;
mod protection;
mod pull_images;
mod requester;
mod resource_quota;
mod runtime_class;
mod service_account;
mod settings;
mod toleration_restriction;
mod tolerations;
mod topology_labels;

use std::sync::Arc;

use crate::policies::{MutatingAdmissionPolicy, ValidatingAdmissionPolicy};
use crate::webhooks::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook};
use crate::{Chain, Plugin, Services};
pub use event_rates::{EventLimit, EventSource};
pub use pod_security::{Level, LevelVersion, PodSecuritySettings, Policy, Version};
pub use resource_quota::{Limited, ScopeExpression};
pub use settings::Settings;
pub use toleration_restriction::TolerationSettings;

/// A plugin of upstream's.
pub struct Entry {
    /// As flags name it.
    pub name: &'static str,
    /// Whether it runs without being asked for.
    pub by_default: bool,
    /// `None` while it is absent here.
    make: Option<Make>,
}

type Make = fn(&Parts<'_>) -> Box<dyn Plugin>;

/// What plugins are made of.
struct Parts<'a> {
    services: &'a Arc<dyn Services>,
    settings: &'a Settings,
}

impl Parts<'_> {
    fn services(&self) -> Arc<dyn Services> {
        Arc::clone(self.services)
    }
}

impl Entry {
    pub fn is_absent(&self) -> bool {
        self.make.is_none()
    }
}

const fn default(name: &'static str, make: Make) -> Entry {
    Entry { name, by_default: true, make: Some(make) }
}

const fn optional(name: &'static str, make: Make) -> Entry {
    Entry { name, by_default: false, make: Some(make) }
}

const fn absent(name: &'static str, by_default: bool) -> Entry {
    Entry { name, by_default, make: None }
}

/// All of upstream's, in the order in which they run.
pub const ALL: &[Entry] = &[
    optional("AlwaysAdmit", |_| Box::new(always::AlwaysAdmit)),
    optional("NamespaceAutoProvision", |p| Box::new(namespaces::NamespaceAutoProvision::new(p.services()))),
    default("NamespaceLifecycle", |p| Box::new(lifecycle::NamespaceLifecycle::new(p.services()))),
    optional("NamespaceExists", |p| Box::new(namespaces::NamespaceExists::new(p.services()))),
    optional("LimitPodHardAntiAffinityTopology", |_| {
        Box::new(anti_affinity::LimitPodHardAntiAffinityTopology)
    }),
    default("LimitRanger", |p| Box::new(limit_ranger::LimitRanger::new(p.services()))),
    default("ServiceAccount", |p| Box::new(service_account::ServiceAccount::new(p.services()))),
    optional("NodeRestriction", |p| Box::new(node_restriction::NodeRestriction::new(p.services()))),
    default("TaintNodesByCondition", |_| Box::new(node_taints::TaintNodesByCondition)),
    optional("AlwaysPullImages", |_| Box::new(pull_images::AlwaysPullImages)),
    absent("ImagePolicyWebhook", false),
    default("PodSecurity", |p| {
        Box::new(pod_security::PodSecurity::new(p.services(), p.settings.pod_security.clone()))
    }),
    optional("PodNodeSelector", |p| {
        Box::new(node_selector::PodNodeSelector::new(p.services(), p.settings.node_selectors.clone()))
    }),
    default("Priority", |p| Box::new(priority::Priority::new(p.services()))),
    default("DefaultTolerationSeconds", |p| {
        let Settings { not_ready_seconds, unreachable_seconds, .. } = p.settings;
        Box::new(tolerations::DefaultTolerationSeconds::new(*not_ready_seconds, *unreachable_seconds))
    }),
    optional("PodTolerationRestriction", |p| {
        let settings = p.settings.tolerations.clone();
        Box::new(toleration_restriction::PodTolerationRestriction::new(p.services(), settings))
    }),
    optional("EventRateLimit", |p| Box::new(event_rates::EventRateLimit::new(&p.settings.event_limits))),
    optional("ExtendedResourceToleration", |_| Box::new(extended_tolerations::ExtendedResourceToleration)),
    default("DefaultStorageClass", |p| Box::new(default_class::DefaultClass::of_storage(p.services()))),
    default(protection::IN_USE, |_| Box::new(protection::Protection::of_storage())),
    default(protection::POD_GROUP, |_| Box::new(protection::Protection::of_pod_groups())),
    optional("OwnerReferencesPermissionEnforcement", |p| {
        Box::new(owner_references::OwnerReferencesPermissionEnforcement::new(p.services()))
    }),
    default("PersistentVolumeClaimResize", |p| {
        Box::new(claim_resize::PersistentVolumeClaimResize::new(p.services()))
    }),
    default("RuntimeClass", |p| Box::new(runtime_class::RuntimeClass::new(p.services()))),
    default("CertificateApproval", |p| Box::new(certificates::CertificateApproval::new(p.services()))),
    default("CertificateSigning", |p| Box::new(certificates::CertificateSigning::new(p.services()))),
    default("ClusterTrustBundleAttest", |p| {
        Box::new(certificates::ClusterTrustBundleAttest::new(p.services()))
    }),
    default("CertificateSubjectRestriction", |_| Box::new(certificates::CertificateSubjectRestriction)),
    default("DefaultIngressClass", |p| Box::new(default_class::DefaultClass::of_ingress(p.services()))),
    optional("DenyServiceExternalIPs", |_| Box::new(external_ips::DenyServiceExternalIPs)),
    default("PodTopologyLabels", |p| Box::new(topology_labels::PodTopologyLabels::new(p.services()))),
    default("NodeDeclaredFeatureValidator", |p| {
        Box::new(declared_features::NodeDeclaredFeatureValidator::new(p.services()))
    }),
    default("PodResizeValidator", |p| Box::new(pod_resize::PodResizeValidator::new(p.services()))),
    default("MutatingAdmissionPolicy", |p| Box::new(MutatingAdmissionPolicy::new(p.services()))),
    default("MutatingAdmissionWebhook", |p| Box::new(MutatingAdmissionWebhook::new(p.services()))),
    default("ValidatingAdmissionPolicy", |p| Box::new(ValidatingAdmissionPolicy::new(p.services()))),
    default("ValidatingAdmissionWebhook", |p| Box::new(ValidatingAdmissionWebhook::new(p.services()))),
    default("ResourceQuota", |p| {
        Box::new(resource_quota::ResourceQuota::new(p.services(), p.settings.limited.clone()))
    }),
    optional("AlwaysDeny", |_| Box::new(always::AlwaysDeny)),
];

/// The plugins that are enabled, in upstream's order.
pub fn standard(services: &Arc<dyn Services>, settings: &Settings, enabled: impl Fn(&str) -> bool) -> Chain {
    let parts = Parts { services, settings };
    let upstreams = ALL.iter().filter(|entry| enabled(entry.name)).filter_map(|entry| entry.make);
    // upstream's strategy does what this one does: it is nothing that flags turn off
    let own: Box<dyn Plugin> = Box::new(requester::CertificateRequester);
    Chain::new(std::iter::once(own).chain(upstreams.map(|make| make(&parts))).collect())
}

/// Whether a plugin runs without being asked for.
pub fn on_by_default(name: &str) -> bool {
    ALL.iter().any(|entry| entry.name == name && entry.by_default)
}

#[cfg(test)]
mod tests;
