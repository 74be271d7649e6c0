//! Admission: plugins that look at a write before it is stored, and may change it. They read other objects through a
//! [`Lookup`] of cached ones and do no I/O of their own.

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

use std::collections::BTreeMap;
use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;
use jiff::Timestamp;

pub use certificates::{
    CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest,
};
pub use lifecycle::NamespaceLifecycle;
pub use limit_ranger::LimitRanger;
pub use node_restriction::NodeRestriction;
pub use node_taints::TaintNodesByCondition;
pub use pod_resize::PodResizeValidator;
pub use priority::Priority;
pub use protection::StorageObjectInUseProtection;
pub use requester::CertificateRequester;
pub use runtime_class::RuntimeClass;
pub use service_account::ServiceAccount;
pub use tolerations::DefaultTolerationSeconds;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As refusals and reviews of admission name it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    pub name: &'a str,
    pub uid: &'a str,
    pub groups: &'a [String],
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// The request, but for the object.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: User<'a>,
    pub operation: Operation,
    pub resource: &'a Resource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    pub name: &'a str,
    /// The stored object, for updates and deletes.
    pub old: Option<&'a Tree>,
    /// `CreateOptions`, `DeleteOptions`, …
    pub options: &'a Tree,
    pub dry_run: bool,
    pub now: Timestamp,
}

impl Attributes<'_> {
    /// The resource itself, of this group.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// `why` as the refusal of this request.
    pub fn forbid(&self, why: &str) -> Status {
        let name = if self.name.is_empty() && self.subresource.is_empty() { "Unknown" } else { self.name };
        Status::forbidden(&self.resource.group, &self.resource.plural, name, why)
    }
}

/// Objects as the watch cache has them.
#[async_trait]
pub trait Lookup: Send + Sync {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Tree>>;

    /// All objects of a resource.
    fn list(&self, group: &str, plural: &str) -> Vec<Arc<Tree>>;

    /// As [`Lookup::get`], when the cache is as new as the store. For what may just have been created.
    async fn fresh(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Tree>> {
        self.get(group, plural, namespace, name)
    }
}

/// Something else that the asking user would have to be allowed to do.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    /// Empty for what is in no namespace.
    pub namespace: &'a str,
    pub name: &'a str,
}

/// Authorization, for plugins that ask for a right of their own.
#[async_trait]
pub trait Authorize: Send + Sync {
    async fn allows(&self, user: &User<'_>, question: &Question<'_>) -> bool;
}

#[async_trait]
pub trait Plugin: Send + Sync {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;

    /// May change the object. Deletes have none: it is null, and `attributes.old` is what goes.
    async fn admit(&self, _attributes: &Attributes<'_>, _object: &mut Tree) -> Result<(), Status> {
        Ok(())
    }

    /// Sees the object as it will be stored.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: &Tree) -> Result<(), Status> {
        Ok(())
    }
}

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

/// Plugins in the order in which they run.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Chain {
        Chain { plugins }
    }

    /// The chain of the plugins that are enabled by default, in upstream's order, with `NodeRestriction` where it is enabled.
    pub fn standard(
        lookup: Arc<dyn Lookup>,
        authorize: Arc<dyn Authorize>,
        settings: Settings,
        enabled: impl Fn(&str) -> bool,
    ) -> Chain {
        let all: Vec<Box<dyn Plugin>> = vec![
            Box::new(NamespaceLifecycle::new(lookup.clone())),
            Box::new(LimitRanger::new(lookup.clone())),
            Box::new(ServiceAccount::new(lookup.clone())),
            Box::new(NodeRestriction::new(lookup.clone(), authorize.clone())),
            Box::new(TaintNodesByCondition),
            Box::new(Priority::new(lookup.clone())),
            Box::new(DefaultTolerationSeconds::new(settings.not_ready_seconds, settings.unreachable_seconds)),
            Box::new(StorageObjectInUseProtection),
            Box::new(RuntimeClass::new(lookup.clone())),
            Box::new(CertificateApproval::new(authorize.clone())),
            Box::new(CertificateSigning::new(authorize.clone())),
            Box::new(ClusterTrustBundleAttest::new(authorize)),
            Box::new(CertificateSubjectRestriction),
            Box::new(CertificateRequester),
            Box::new(PodResizeValidator::new(lookup)),
        ];
        Chain { plugins: all.into_iter().filter(|plugin| enabled(plugin.name())).collect() }
    }

    /// Names of the plugins that run, as flags name them.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|plugin| plugin.name())
    }

    pub async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.admit(attributes, object).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(attributes, object).await?;
        }
        Ok(())
    }
}

/// Whether a plugin runs without being asked for.
pub fn on_by_default(name: &str) -> bool {
    name != "NodeRestriction"
}

/// The annotation by which a kubelet's static pods are known.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

pub(crate) fn is_mirror(pod: &Tree) -> bool {
    crate::tree::get(pod, "metadata.annotations").get(MIRROR).is_some()
}

#[cfg(test)]
mod tests;
