//! Whether a volume is attached to a node, or detached from it.

use std::sync::Arc;

use controllers::views::{Node, PersistentVolume, PersistentVolumeClaim, Pod};

use super::{MANAGED, OUT_OF_SERVICE};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attachment {
    pub(super) is_attached: bool,
    pub(super) is_leaving: bool,
}

/// A volume on a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// A pod of the node uses it.
    pub(super) is_used: bool,
    /// The node leaves attaching to this controller.
    pub(super) is_managed: bool,
    /// The node's status says that it is attached.
    pub(super) is_listed: bool,
    /// The node's kubelet says that it is mounted.
    pub(super) is_in_use: bool,
    /// What the node says counts no more.
    pub(super) is_lost: bool,
    pub(super) attachment: Option<Attachment>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Act {
    Nothing,
    Attach,
    AwaitAttachment,
    /// Another node has it, and no two may.
    AwaitOthers,
    /// The kubelet has it mounted.
    AwaitRelease,
    /// The node's list has to be without it first.
    Unlist,
    Detach,
}

impl Place {
    pub(super) fn act(&self, is_elsewhere: bool) -> Act {
        match &self.attachment {
            None if !(self.is_used && self.is_managed) => Act::Nothing,
            None if is_elsewhere => Act::AwaitOthers,
            None => Act::Attach,
            Some(own) if own.is_leaving => Act::Nothing,
            Some(own) if self.is_used && own.is_attached => Act::Nothing,
            Some(_) if self.is_used => Act::AwaitAttachment,
            Some(_) if self.is_in_use && !self.is_lost => Act::AwaitRelease,
            Some(_) if self.is_listed => Act::Unlist,
            Some(_) => Act::Detach,
        }
    }

    /// Whether the node's status is to say that it is attached.
    pub(super) fn belongs_in_list(&self) -> bool {
        let is_attached = |own: &Attachment| own.is_attached && !own.is_leaving;
        let is_needed = self.is_used || (self.is_in_use && !self.is_lost);
        self.attachment.as_ref().is_some_and(is_attached) && is_needed
    }
}

/// What to do about each place of a volume. One that is attached now is taken for the places after it.
pub(super) fn acts<'a>(places: impl Iterator<Item = &'a Place> + Clone, shares: bool) -> Vec<Act> {
    let mut holders = places.clone().filter(|place| place.attachment.is_some()).count();
    let act = |place: &Place| {
        let others = holders - usize::from(place.attachment.is_some());
        let act = place.act(!shares && others > 0);
        holders += usize::from(act == Act::Attach);
        act
    };
    places.map(act).collect()
}

/// Whether the claim has the volume.
pub(super) fn are_bound(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let reference = volume.spec.claim_ref.as_ref();
    let is_its = reference.is_some_and(|reference| {
        reference.uid == claim.metadata.uid && reference.key() == claim.metadata.cache_key()
    });
    is_its && claim.status.phase == "Bound" && claim.spec.volume_name == volume.metadata.name
}

pub(super) fn is_out(node: &Node) -> bool {
    node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Whether a change of a node may change what is attached to it.
pub(super) fn differs(old: &Node, new: &Node) -> bool {
    old.status.volumes_attached != new.status.volumes_attached
        || old.status.volumes_in_use != new.status.volumes_in_use
        || old.is_ready() != new.is_ready()
        || is_out(old) != is_out(new)
        || old.metadata.annotation(MANAGED) != new.metadata.annotation(MANAGED)
}

/// Who keeps a volume from a pod, as far as the pod's namespace may know.
pub(super) fn blockers(pod: &Pod, others: &[&Arc<Pod>]) -> String {
    if others.is_empty() {
        return "Volume is already exclusively attached to one node, waiting on detach before it can be attached to another node".to_owned();
    }
    let is_local = |other: &&&Arc<Pod>| other.metadata.namespace == pod.metadata.namespace;
    let local: Vec<&str> = others.iter().filter(is_local).map(|other| other.metadata.name.as_str()).collect();
    let elsewhere = others.len() - local.len();
    match (local.as_slice(), elsewhere) {
        ([], count) => format!("Volume is already used by {count} pod(s) in different namespaces"),
        (names, 0) => format!("Volume is already used by pod(s) {}", names.join(", ")),
        (names, count) => format!(
            "Volume is already used by pod(s) {} and {count} pod(s) in different namespaces",
            names.join(", ")
        ),
    }
}
