//! `StorageObjectInUseProtection`: claims, volumes and classes of volumes get a finalizer, which a controller takes away when they
//! are deleted and no longer in use.

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Plugin, Point};
use registry::tree::ensure;

pub struct StorageObjectInUseProtection;

fn finalizer(resource: &Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.plural) {
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.creates() && point.subresource.is_empty() && finalizer(point.resource).is_some()
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let Some(finalizer) = finalizer(attributes.resource) else { return Ok(()) };
        let finalizers = ensure(object, "metadata").entry("finalizers").or_insert(Tree::Null);
        match finalizers {
            Tree::Array(all) if all.iter().any(|own| own == finalizer) => {}
            Tree::Array(all) => all.push(finalizer.into()),
            other => *other = Tree::Array(vec![finalizer.into()]),
        }
        Ok(())
    }
}
