//! Attachments whose volume object is gone. What they attach is known from their own fields, and from the names in the
//! status of their node.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Text};
use controllers::views::{CsiSource, PersistentVolume, VolumeAttachment};
use controllers::{Error, Next};

use super::plan::Act;
use super::{Controller, PATIENCE, attachment_name, of_node, source_of, unique_name};

/// Whether an attachment is named as this controller names them: others are made, and deleted, by somebody else.
fn is_of_controller(attachment: &str) -> bool {
    let digest = attachment.strip_prefix("csi-");
    digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Controller {
    /// The volume object's name, where that is gone.
    fn gone_volume(&self, own: &VolumeAttachment) -> Option<Text> {
        let volume = own.spec.source.persistent_volume_name.clone()?;
        self.volumes.get(None, &volume).is_none().then_some(volume)
    }

    pub(super) async fn reconcile_gone(&self, client: &Client, name: &str) -> Result<Next, Error> {
        let Some(own) = self.attachments.get(None, name) else {
            self.since.lock().keep(name, |_| false);
            return Ok(Next::Done);
        };
        if !is_of_controller(name) {
            return Ok(Next::Done);
        }
        let Some(volume) = self.gone_volume(&own) else {
            self.since.lock().keep(name, |_| false);
            self.enqueue_attachment(&own);
            return Ok(Next::Done);
        };
        match client.get::<PersistentVolume>(None, &volume).await {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
            // It is so new that the cache does not have it; it brings the rest.
            Ok(_) => return Ok(Next::Done),
        }
        let node = &own.spec.node_name;
        let known = self.attached_by(&own);
        let is_used = self.is_claimed_on(&volume, node)
            || known.as_ref().is_some_and(|known| self.used_on(node).contains(known));
        self.since.lock().note(name, node, !is_used);
        let place = self.place_of(name, known.as_deref(), Some(&own), node, is_used);
        Ok(match place.act(false) {
            Act::Detach => match self.detach(client, &own, known.as_deref(), &place).await? {
                true => Next::Done,
                false => Next::After(Duration::from_secs(1)),
            },
            Act::Unlist => {
                self.since.lock().detaching.insert(name.to_owned());
                self.queue.add(of_node(node));
                Next::Done
            }
            _ => {
                self.keep_attached(name, node);
                Next::After(PATIENCE / 6)
            }
        })
    }

    /// Whether a pod of the node has a claim that names the volume.
    fn is_claimed_on(&self, volume: &str, node: &str) -> bool {
        let claims = self.by_volume.get(volume);
        let uses = |claim: &Arc<_>| self.pods_with(claim).iter().any(|pod| pod.spec.node_name == *node);
        claims.iter().any(uses)
    }

    /// The name of the volume that an attachment is for, where something else says it.
    fn attached_by(&self, own: &VolumeAttachment) -> Option<String> {
        let (driver, node) = (&own.spec.attacher, &own.spec.node_name);
        let is_it = |source: &CsiSource| {
            source.driver == *driver && attachment_name(source, node) == own.metadata.name
        };
        let found = self.nodes.get(None, node).or_else(|| self.since.lock().departed.get(node).cloned());
        let found = found.as_deref();
        let listed =
            found.into_iter().flat_map(|node| node.status.volumes_attached.iter().map(|of| &of.name));
        let in_use = found.into_iter().flat_map(|node| &node.status.volumes_in_use);
        let of_node = listed.chain(in_use).find(|name| source_of(name).is_some_and(|source| is_it(&source)));
        of_node.cloned().or_else(|| {
            let all = self.volumes.list();
            all.iter()
                .filter_map(|volume| volume.spec.csi.as_ref())
                .find(|source| is_it(source))
                .map(unique_name)
        })
    }
}
