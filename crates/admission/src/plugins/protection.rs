//! `StorageObjectInUseProtection` and `PodGroupProtection`: new objects get a finalizer, which a controller takes away when they are
//! deleted and no longer in use.

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Plugin, Point};
use registry::tree::ensure;

pub(super) const IN_USE: &str = "StorageObjectInUseProtection";
pub(super) const POD_GROUP: &str = "PodGroupProtection";

/// Group, plural and finalizer of what is protected.
type Protected = (&'static str, &'static str, &'static str);

pub struct Protection {
    name: &'static str,
    protected: &'static [Protected],
}

impl Protection {
    pub fn of_storage() -> Self {
        const PROTECTED: &[Protected] = &[
            ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
            ("", "persistentvolumes", "kubernetes.io/pv-protection"),
            ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
        ];
        Self { name: IN_USE, protected: PROTECTED }
    }

    pub fn of_pod_groups() -> Self {
        const PROTECTED: &[Protected] =
            &[("scheduling.k8s.io", "podgroups", "scheduling.k8s.io/podgroup-protection")];
        Self { name: POD_GROUP, protected: PROTECTED }
    }

    fn finalizer(&self, resource: &Resource) -> Option<&'static str> {
        let is_own = |(group, plural, _): &&Protected| resource.group == *group && resource.plural == *plural;
        self.protected.iter().find(is_own).map(|(_, _, finalizer)| *finalizer)
    }
}

#[async_trait]
impl Plugin for Protection {
    fn name(&self) -> &'static str {
        self.name
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.creates() && point.subresource.is_empty() && self.finalizer(point.resource).is_some()
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let Some(finalizer) = self.finalizer(attributes.resource) else { return Ok(()) };
        let finalizers = ensure(object, "metadata").entry("finalizers").or_insert(Tree::Null);
        match finalizers {
            Tree::Array(all) if all.iter().any(|own| own == finalizer) => {}
            Tree::Array(all) => all.push(finalizer.into()),
            other => *other = Tree::Array(vec![finalizer.into()]),
        }
        Ok(())
    }
}
