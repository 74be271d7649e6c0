//! The list of attached volumes in a node's status. Of its entries only those of volumes that this controller attaches are
//! its own: others are of an inline volume, of a plugin whose work a CSI driver does, or of somebody else.

use std::collections::BTreeSet;

use client::{Client, Patch};
use controllers::views::Node;
use controllers::{Error, Next};
use serde_json::json;

use super::{Controller, attachment_name, source_of, unique_name};

impl Controller {
    /// Writes which volumes are attached to a node, where that has changed.
    pub(super) async fn write_list(&self, client: &Client, name: &str) -> Result<Next, Error> {
        let Some(node) = self.nodes.get(None, name) else { return Ok(Next::Done) };
        self.since.lock().listing.insert(name.into());
        let written = self.write_list_of(client, &node).await;
        self.since.lock().listing.remove(name);
        written.map(|()| Next::Done)
    }

    async fn write_list_of(&self, client: &Client, node: &Node) -> Result<(), Error> {
        let name = node.metadata.name.as_str();
        let used = self.used_on(name);
        let mut candidates = used.clone();
        for attachment in self.of_node.get(name) {
            let volume = attachment.spec.source.persistent_volume_name.as_deref();
            let volume = volume.and_then(|volume| self.volumes.get(None, volume));
            candidates.extend(volume.and_then(|volume| volume.spec.csi.as_ref().map(unique_name)));
        }
        let belongs = |volume: &String| {
            let Some(source) = source_of(volume) else { return false };
            let attachment = attachment_name(&source, name);
            let place = self.place(volume, &source, name, used.contains(volume));
            place.belongs_in_list() && !self.since.lock().detaching.contains(&attachment)
        };
        let wanted: BTreeSet<String> = candidates.into_iter().filter(belongs).collect();
        let known = &node.status.volumes_attached;
        let kept = known.iter().filter(|own| wanted.contains(&own.name) || !self.is_ours(&own.name, name));
        let mut list: Vec<_> =
            kept.map(|own| json!({"name": own.name, "devicePath": own.device_path})).collect();
        let is_shorter = list.len() < known.len();
        let added = wanted.iter().filter(|volume| !node.lists_attached(volume));
        list.extend(added.map(|volume| json!({"name": volume, "devicePath": ""})));
        if is_shorter || list.len() > known.len() {
            let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": {"volumesAttached": list}});
            let patch = Patch::Strategic(patch);
            match client.patch::<Node>(None, name, Some("status"), patch).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether an entry of a node's list may be taken away.
    fn is_ours(&self, entry: &str, node: &str) -> bool {
        let Some(source) = source_of(entry) else { return false };
        let name = attachment_name(&source, node);
        if self.since.lock().detaching.contains(&name) {
            return true;
        }
        let attachment = self.attachments.get(None, &name);
        self.by_name.count(entry) > 0
            && attachment.is_none_or(|own| own.spec.source.persistent_volume_name.is_some())
    }
}
