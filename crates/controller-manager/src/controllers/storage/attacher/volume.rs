//! Attaches a volume to the nodes that use it, and detaches it from others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Text};
use controllers::views::{CsiSource, Node, Object, Pod, VolumeAttachment};
use controllers::{Error, Next};
use serde_json::json;

use super::plan::{self, Act, Attachment, Place};
use super::{ATTACHING, Controller, MANAGED, PATIENCE, Volume, attachment_name, of_node};

impl Controller {
    /// What is known of a volume on a node.
    pub(super) fn place(&self, name: &str, source: &CsiSource, node: &str, is_used: bool) -> Place {
        let attachment = self.attachments.get(None, &attachment_name(source, node));
        self.place_of(name, Some(name), attachment.as_deref(), node, is_used)
    }

    /// The same, of a volume whose name may not be known. Its times are those of `of`.
    pub(super) fn place_of(
        &self,
        of: &str,
        name: Option<&str>,
        attachment: Option<&VolumeAttachment>,
        node: &str,
        is_used: bool,
    ) -> Place {
        let found = self.nodes.get(None, node);
        let (unwanted, departed) = {
            let since = self.since.lock();
            (since.unwanted(of, node), since.departed.get(node).cloned())
        };
        // A kubelet may go on without its node.
        let last = found.as_ref().or(departed.as_ref());
        let uses =
            |node: &Node| name.is_some_and(|name| node.status.volumes_in_use.iter().any(|own| own == name));
        let is_unwell = found.as_ref().is_none_or(|node| !node.is_ready());
        Place {
            is_used,
            is_managed: found.as_ref().is_some_and(|node| node.metadata.annotation(MANAGED).is_some()),
            is_listed: found.as_ref().is_some_and(|node| name.is_some_and(|name| node.lists_attached(name))),
            is_in_use: last.is_none_or(|node| uses(node)),
            is_lost: found.as_ref().is_some_and(|node| plan::is_out(node))
                || (self.detaches_by_force && unwanted > PATIENCE && is_unwell),
            attachment: attachment.map(|own| Attachment {
                is_attached: own.status.attached,
                is_leaving: own.metadata.is_deleting(),
            }),
        }
    }

    pub(super) async fn reconcile_volume(&self, client: &Client, name: &str) -> Result<Next, Error> {
        let Some(volume) = self.volume(name) else {
            self.since.lock().keep(name, |_| false);
            return Ok(Next::Done);
        };
        let source = &volume.source;
        let objects = volume.objects.iter();
        let attached = objects.flat_map(|(object, _)| self.of_volume.get(object.metadata.name.as_str()));
        let used_on = volume.used_on();
        let mut nodes = used_on.clone();
        nodes.extend(attached.map(|own| own.spec.node_name.clone()));
        {
            let mut since = self.since.lock();
            since.keep(name, |node| nodes.contains(node));
            for node in &nodes {
                let has = self.attachments.get(None, &attachment_name(source, node)).is_some();
                since.note(name, node, has && !used_on.contains(node));
            }
        }
        let with_place = |node: Text| {
            let place = self.place(name, source, &node, used_on.contains(&node));
            (node, place)
        };
        let places: Vec<(Text, Place)> = nodes.into_iter().map(with_place).collect();
        let shares = volume.objects.iter().all(|(object, _)| object.may_be_attached_to_several());
        let acts = plan::acts(places.iter().map(|(_, place)| place), shares);
        let owners: BTreeSet<&Text> = places
            .iter()
            .zip(&acts)
            .filter(|((_, place), act)| place.attachment.is_some() || **act == Act::Attach)
            .map(|((node, _), _)| node)
            .collect();
        let mut next = Next::Done;
        for ((node, place), act) in places.iter().zip(&acts) {
            if place.is_listed != place.belongs_in_list() {
                self.queue.add(of_node(node));
            }
            let is_leaving = place.attachment.as_ref().is_some_and(|own| own.is_leaving);
            if *act != Act::Detach && !is_leaving {
                self.keep_attached(&attachment_name(source, node), node);
            }
            match act {
                Act::Nothing => self.since.lock().settle(name, node),
                Act::Attach => {
                    self.attach(client, &volume, node).await?;
                    next = next.or(Next::After(ATTACHING));
                }
                Act::AwaitAttachment => {
                    let rest = self.since.lock().await_attachment(name, node, ATTACHING);
                    if rest.is_none() {
                        self.report_overdue(&volume, node);
                    }
                    next = next.or(Next::After(rest.unwrap_or(ATTACHING)));
                }
                Act::AwaitOthers => self.report_blocked(&volume, node, &owners),
                // The kubelet's next status brings the volume back; a node that has none for long is given up.
                Act::AwaitRelease => next = next.or(Next::After(PATIENCE / 6)),
                // Its status brings the volume back.
                Act::Unlist => {}
                Act::Detach => {
                    let own = self.attachments.get(None, &attachment_name(source, node));
                    if let Some(own) = own
                        && !self.detach(client, &own, Some(name), place).await?
                    {
                        next = next.or(Next::After(Duration::from_secs(1)));
                    }
                }
            }
        }
        Ok(next)
    }

    /// What was to be detached stays.
    pub(super) fn keep_attached(&self, attachment: &str, node: &str) {
        if self.since.lock().detaching.remove(attachment) {
            self.queue.add(of_node(node));
        }
    }

    async fn attach(&self, client: &Client, volume: &Volume, node: &Text) -> Result<(), Error> {
        let is_here = |users: &[Arc<Pod>]| users.iter().any(|pod| pod.spec.node_name == *node);
        let Some((object, users)) = volume.objects.iter().find(|(_, users)| is_here(users)) else {
            return Ok(());
        };
        let (name, source) = (&object.metadata.name, &volume.source);
        let body = json!({
            "apiVersion": VolumeAttachment::API_VERSION,
            "kind": VolumeAttachment::KIND,
            "metadata": {"name": attachment_name(source, node)},
            "spec": {"attacher": source.driver, "nodeName": node, "source": {"persistentVolumeName": name}},
        });
        match client.create::<VolumeAttachment>(None, &body).await {
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                self.report_failure(users, name, node, &format!("attacher.Attach failed: {error}"));
                Err(error.into())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Detaches a volume, unless its node says now that it uses it. False where it does.
    ///
    /// From before the node is asked the volume may not be listed again: a kubelet would begin to use it.
    pub(super) async fn detach(
        &self,
        client: &Client,
        attachment: &VolumeAttachment,
        volume: Option<&str>,
        place: &Place,
    ) -> Result<bool, Error> {
        let (name, node) = (&attachment.metadata.name, &attachment.spec.node_name);
        if !self.since.lock().begin_detaching(name, node) {
            return Ok(false);
        }
        let detached = self.detach_released(client, attachment, volume, place).await;
        let may_be_deleted = |error: &Error| matches!(error, Error::Client(error) if error.is_doubtful());
        let is_kept = match &detached {
            Ok(is_detached) => !is_detached,
            Err(error) => !may_be_deleted(error),
        };
        if is_kept {
            self.keep_attached(name, node);
        }
        detached
    }

    async fn detach_released(
        &self,
        client: &Client,
        attachment: &VolumeAttachment,
        volume: Option<&str>,
        place: &Place,
    ) -> Result<bool, Error> {
        let (name, node) = (&attachment.metadata.name, &attachment.spec.node_name);
        let is_forced = place.is_lost && place.is_in_use;
        if let Some(volume) = volume.filter(|_| !is_forced) {
            match client.get::<Node>(None, node).await {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
                Ok(now) => {
                    let is_in_use = now.status.volumes_in_use.iter().any(|own| own == volume);
                    if is_in_use || now.lists_attached(volume) {
                        return Ok(false);
                    }
                }
            }
        }
        let options = DeleteOptions::default().uid(attachment.metadata.uid.clone());
        match client.delete::<VolumeAttachment>(None, name, &options).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() || error.is_conflict() => {
                // It is another one by now, or none: nothing is being deleted.
                self.since.lock().detaching.remove(name);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}
