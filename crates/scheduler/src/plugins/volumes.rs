//! Plugins about volumes: where bound ones can be reached, where others can be bound or provisioned, and how many a node
//! takes. Volumes of in-tree drivers are taken as they are: they are not translated to those of CSI drivers.

mod binding;
mod limits;
mod restrictions;
mod zone;

use std::sync::Arc;

use client::Key;

pub use binding::make as make_binding;
pub use limits::NodeVolumeLimits;
pub use restrictions::VolumeRestrictions;
pub use zone::VolumeZone;

use crate::cluster::Pod;
use crate::cluster::facts::Facts;
use crate::cluster::facts::storage::Claim;
use crate::cluster::pod::PodClaim;
use crate::cluster::row::claim_key;

/// A claim of the pod; otherwise upstream's message.
fn claim<'a>(facts: &'a Facts, pod: &Pod, claim: &PodClaim) -> Result<&'a Arc<Claim>, String> {
    let found = facts.claims.get(&claim_key(pod, &claim.name));
    found.ok_or_else(|| format!("persistentvolumeclaim {:?} not found", claim.name.as_str()))
}

/// Whether the pod uses this claim.
fn uses(pod: &Pod, key: &Key) -> bool {
    *key.namespace == *pod.key.namespace
        && pod.needs.claims.iter().any(|claim| *claim.name.as_str() == *key.name)
}
