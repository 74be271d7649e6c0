//! What pods that wait for volumes get to know, by events.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::{Event, EventType, Text};
use controllers::views::{Object, PersistentVolume, Pod, VolumeAttachment};

use super::{Controller, Volume, plan};
use crate::controllers::storage::binder::migrated;

impl Controller {
    fn report(&self, pods: &[Arc<Pod>], node: &str, kind: EventType, reason: &str, message: &str) {
        for pod in pods.iter().filter(|pod| pod.spec.node_name == *node) {
            self.events.event(&pod.reference(), kind, reason, message);
        }
    }

    /// Reports to the pods that wait for an attachment what its attacher did.
    pub(super) fn report_progress(&self, volume: &str, event: &Event<VolumeAttachment>) {
        let (old, new) = (event.old(), event.object());
        let error =
            |own: &VolumeAttachment| own.status.attach_error.as_ref().map(|error| error.message.clone());
        let Some(found) = self.volumes.get(None, volume) else { return };
        let node = new.spec.node_name.as_str();
        let (Some(old), false) = (old, matches!(event, Event::Deleted(_))) else { return };
        if new.status.attached && !old.status.attached {
            let message = format!("AttachVolume.Attach succeeded for volume {volume:?} ");
            self.report(&self.users(&found), node, EventType::Normal, "SuccessfulAttachVolume", &message);
        } else if let Some(why) = error(new).filter(|_| error(new) != error(old) && !new.status.attached) {
            self.report_failure(&self.users(&found), volume, node, &why);
        }
    }

    pub(super) fn report_failure(&self, pods: &[Arc<Pod>], volume: &str, node: &str, why: &str) {
        let message = format!("AttachVolume.Attach failed for volume {volume:?} : {why}");
        self.report(pods, node, EventType::Warning, "FailedAttachVolume", &message);
    }

    /// Reports an attacher that does nothing.
    pub(super) fn report_overdue(&self, volume: &Volume, node: &str) {
        let (driver, handle) = (&volume.source.driver, &volume.source.volume_handle);
        let why = format!(
            "timed out waiting for external-attacher of {driver} CSI driver to attach volume {handle}"
        );
        for (object, users) in &volume.objects {
            self.report_failure(users, &object.metadata.name, node, &why);
        }
    }

    /// Reports, once, that other nodes have the volume, and which pods of the same namespace keep it there.
    pub(super) fn report_blocked(&self, volume: &Volume, node: &Text, owners: &BTreeSet<&Text>) {
        if !self.since.lock().report(&volume.name, node) {
            return;
        }
        let users = || volume.objects.iter().flat_map(|(_, users)| users);
        let is_there = |pod: &&Arc<Pod>| pod.spec.node_name != *node && owners.contains(&pod.spec.node_name);
        let there: Vec<&Arc<Pod>> = users().filter(is_there).collect();
        for (object, users) in &volume.objects {
            for pod in users.iter().filter(|pod| pod.spec.node_name == *node) {
                let name = &object.metadata.name;
                let message =
                    format!("Waiting for detach for volume {name:?} {}", plan::blockers(pod, &there));
                self.events.event(&pod.reference(), EventType::Warning, "FailedAttachVolume", &message);
            }
        }
    }

    /// Reports, once for each node, that a volume of a plugin whose work a CSI driver does is attached by nobody.
    pub(super) fn report_migrated(&self, volume: &PersistentVolume) {
        let name = &volume.metadata.name;
        let Some((plugin, driver)) =
            volume.spec.migrated_plugin().and_then(|plugin| Some((plugin, migrated::driver(plugin)?)))
        else {
            return;
        };
        if self.needs_no_attachment(driver) {
            return;
        }
        let users = self.users(volume);
        let attached = self.of_volume.get(name.as_str());
        let has = |node: &Text| attached.iter().any(|own| own.spec.node_name == *node);
        let nodes: BTreeSet<&Text> =
            users.iter().map(|pod| &pod.spec.node_name).filter(|node| !has(node)).collect();
        self.since.lock().keep(name, |node| nodes.contains(node));
        for node in nodes {
            if self.since.lock().report(name, node) {
                let why = format!("volumes of {plugin} are not attached for driver {driver}");
                self.report_failure(&users, name, node, &why);
            }
        }
    }
}
