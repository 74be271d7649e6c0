//! `persistentvolume-attach-detach-controller`: has the volumes of CSI drivers attached to the nodes whose pods use them, and
//! detached when they are used no more, by objects that the driver's attacher follows. Each node's status lists what is
//! attached, for its kubelet.
//!
//! A volume leaves the list first, then it is detached: its kubelet must not begin to use one that is about to go.
//!
//! Absent: volumes of plugins that CSI drivers have taken over, and of flex plugins.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::{
    Client, DeleteOptions, Event, EventRecorder, EventType, Index, Informer, Key, Patch, Text, WorkQueue,
};
use controllers::views::{
    CsiDriver, CsiSource, Node, Object, PersistentVolume, PersistentVolumeClaim, Pod, VolumeAttachment,
};
use controllers::{Context, Error, Next, Pods, Reconcile};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::Options;
use plan::{Act, Attachment, Place};

const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// How long a volume that a node does not release stays attached to it, where the node is not healthy.
const PATIENCE: Duration = Duration::from_secs(6 * 60);
/// How long an attacher may take before that is reported, each time.
const ATTACHING: Duration = Duration::from_secs(2 * 60);
const WORKERS: usize = 10;

/// A volume and a node.
type Pair = (String, String);

#[derive(Clone)]
struct Controller {
    events: EventRecorder,
    pods: Pods,
    nodes: Informer<Node>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    drivers: Informer<CsiDriver>,
    attachments: Informer<VolumeAttachment>,
    of_volume: Index<VolumeAttachment, Text>,
    of_node: Index<VolumeAttachment, Text>,
    detaches_by_force: bool,
    since: Arc<Mutex<Since>>,
    queue: WorkQueue<Key>,
}

/// Times that are in no object.
#[derive(Default)]
struct Since {
    /// An attachment that no pod needs any more.
    unwanted: FxHashMap<Pair, Instant>,
    /// An attachment that is waited for.
    asked: FxHashMap<Pair, Instant>,
    /// Pods have learned that another node has the volume.
    blocked: BTreeSet<Pair>,
}

fn of_volume(name: &str) -> Key {
    Key::new("", &format!("volume:{name}"))
}

fn of_node(name: &str) -> Key {
    Key::new("", &format!("node:{name}"))
}

/// What a node calls the volume.
fn unique_name(source: &CsiSource) -> String {
    format!("kubernetes.io/csi/{}^{}", source.driver, source.volume_handle)
}

fn attachment_name(source: &CsiSource, node: &str) -> String {
    let digest = Sha256::digest(format!("{}{}{node}", source.volume_handle, source.driver));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let (account, component) = ("attachdetach-controller", "attachdetach-controller");
    let mut builder = context.builder("attachdetach", account, component).await?;
    let attachments: Informer<VolumeAttachment> = builder.reads();
    let volumes: Informer<PersistentVolume> = builder.reads();
    let controller = Controller {
        events: builder.events.clone(),
        pods: builder.pods(),
        nodes: builder.reads(),
        claims: builder.reads(),
        drivers: builder.reads(),
        of_volume: attachments.index(|own: &VolumeAttachment| own.spec.source.persistent_volume_name.clone()),
        of_node: attachments.index(|own: &VolumeAttachment| [own.spec.node_name.clone()]),
        attachments,
        volumes,
        detaches_by_force: !options.disable_force_detach_on_timeout,
        since: Arc::default(),
        queue: builder.queue.clone(),
    };
    controller.follow();
    builder.run(WORKERS, controller).await
}

impl Controller {
    /// Has volumes and nodes looked at when something about them changes.
    fn follow(&self) {
        let (own, to) = (self.clone(), self.queue.clone());
        self.pods.cache().on_event(move |event| {
            let pod = event.object();
            let uses = |pod: &Pod| !pod.spec.node_name.is_empty() && !pod.is_terminal();
            let is_same = event.old().is_some_and(|old| uses(old) == uses(pod));
            if !pod.spec.node_name.is_empty() && !is_same {
                own.volumes_of(pod).for_each(|name| to.add(of_volume(&name)));
            }
        });
        let to = self.queue.clone();
        self.claims.on_event(move |event| {
            let claim = event.object();
            let is_same = event.old().is_some_and(|old| {
                (&old.spec.volume_name, &old.status.phase) == (&claim.spec.volume_name, &claim.status.phase)
            });
            if !claim.spec.volume_name.is_empty() && !is_same {
                to.add(of_volume(&claim.spec.volume_name));
            }
        });
        let to = self.queue.clone();
        self.volumes.on_event(move |event| {
            if event.object().spec.csi.is_some() {
                to.add(of_volume(&event.object().metadata.name));
            }
        });
        let (own, to) = (self.clone(), self.queue.clone());
        self.drivers.on_event(move |event| {
            let is_its = |volume: &CsiSource| volume.driver == *event.object().metadata.name;
            let all = own.volumes.list();
            let its = all.iter().filter(|volume| volume.spec.csi.as_ref().is_some_and(is_its));
            its.for_each(|volume| to.add(of_volume(&volume.metadata.name)));
        });
        let (own, to) = (self.clone(), self.queue.clone());
        self.attachments.on_event(move |event| {
            let attachment = event.object();
            if let Some(volume) = &attachment.spec.source.persistent_volume_name {
                own.report_progress(volume, event);
                to.add(of_volume(volume));
            }
            to.add(of_node(&attachment.spec.node_name));
        });
        let own = self.clone();
        self.nodes.on_event(move |event| own.follow_node(event));
    }

    fn follow_node(&self, event: &Event<Node>) {
        let queue = &self.queue;
        let node = event.object();
        // Most of it is heartbeats.
        if event.old().is_some_and(|old| !plan::differs(old, node)) {
            return;
        }
        let name = node.metadata.name.as_str();
        queue.add(of_node(name));
        let attached = self.of_node.get(name);
        for attachment in &attached {
            attachment.spec.source.persistent_volume_name.iter().for_each(|own| queue.add(of_volume(own)));
        }
        if event.old().is_none_or(|old| old.metadata.annotation(MANAGED) != node.metadata.annotation(MANAGED))
        {
            for pod in self.pods.on_node(name) {
                self.volumes_of(&pod).for_each(|volume| queue.add(of_volume(&volume)));
            }
        }
    }

    /// Names of the volumes that a pod's claims are bound to.
    fn volumes_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = String> + 'a {
        let namespace = pod.metadata.namespace();
        let claims = pod.claims().filter_map(move |claim| self.claims.get(namespace, &claim));
        claims.filter(|claim| !claim.spec.volume_name.is_empty()).map(|claim| claim.spec.volume_name.clone())
    }

    /// The pods that use a volume, of nodes.
    fn users(&self, volume: &PersistentVolume) -> Vec<Arc<Pod>> {
        let Some(reference) = &volume.spec.claim_ref else { return Vec::new() };
        let claim = self.claims.get_key(&reference.key());
        let is_bound = claim.is_some_and(|claim| {
            claim.metadata.uid == reference.uid
                && claim.status.phase == "Bound"
                && claim.spec.volume_name == volume.metadata.name
        });
        if !is_bound {
            return Vec::new();
        }
        let mut pods = self.pods.with_claim(&reference.namespace, &reference.name);
        pods.retain(|pod| !pod.spec.node_name.is_empty() && !pod.is_terminal());
        pods
    }

    fn report(&self, pods: &[Arc<Pod>], node: &str, kind: EventType, reason: &str, message: &str) {
        for pod in pods.iter().filter(|pod| pod.spec.node_name == *node) {
            self.events.event(&pod.reference(), kind, reason, message);
        }
    }

    /// Reports to the pods that wait for an attachment what its attacher did.
    fn report_progress(&self, volume: &str, event: &Event<VolumeAttachment>) {
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

    fn report_failure(&self, pods: &[Arc<Pod>], volume: &str, node: &str, why: &str) {
        let message = format!("AttachVolume.Attach failed for volume {volume:?} : {why}");
        self.report(pods, node, EventType::Warning, "FailedAttachVolume", &message);
    }

    fn needs_no_attachment(&self, source: &CsiSource) -> bool {
        let driver = self.drivers.get(None, &source.driver);
        driver.is_some_and(|driver| driver.spec.attach_required == Some(false))
    }

    /// What is known of a volume on a node.
    fn place(&self, volume: &PersistentVolume, source: &CsiSource, node: &str, users: &[Arc<Pod>]) -> Place {
        let name = unique_name(source);
        let found = self.nodes.get(None, node);
        let of_node = self.attachments.get(None, &attachment_name(source, node));
        let is_used = users.iter().any(|pod| pod.spec.node_name == *node);
        let pair = (volume.metadata.name.clone(), node.to_owned());
        let mut since = self.since.lock();
        let unwanted = match is_used || of_node.is_none() {
            true => {
                since.unwanted.remove(&pair);
                Duration::ZERO
            }
            false => since.unwanted.entry(pair).or_insert_with(Instant::now).elapsed(),
        };
        let is_out = |node: &Node| node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE);
        let is_lost =
            |node: &Node| is_out(node) || (self.detaches_by_force && unwanted > PATIENCE && !node.is_ready());
        let on_node = found.as_deref();
        Place {
            is_used,
            is_managed: on_node.is_some_and(|node| node.metadata.annotation(MANAGED).is_some()),
            is_listed: on_node.is_some_and(|node| node.lists_attached(&name)),
            is_in_use: on_node.is_some_and(|node| node.status.volumes_in_use.contains(&name)),
            is_lost: on_node.is_none_or(is_lost),
            attachment: of_node.map(|own| Attachment {
                is_attached: own.status.attached,
                is_leaving: own.metadata.is_deleting(),
            }),
        }
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        match key.name.split_once(':') {
            Some(("node", name)) => self.write_list(client, name).await,
            Some((_, name)) => self.reconcile_volume(client, name).await,
            None => Ok(Next::Done),
        }
    }
}

impl Controller {
    /// Writes which volumes are attached to a node, where that has changed.
    async fn write_list(&self, client: &Client, name: &str) -> Result<Next, Error> {
        let Some(node) = self.nodes.get(None, name) else { return Ok(Next::Done) };
        let mut listed = BTreeSet::new();
        for attachment in self.of_node.get(name) {
            let of = attachment.spec.source.persistent_volume_name.as_deref();
            let Some(volume) = of.and_then(|volume| self.volumes.get(None, volume)) else { continue };
            let Some(source) = &volume.spec.csi else { continue };
            if self.place(&volume, source, name, &self.users(&volume)).belongs_in_list() {
                listed.insert(unique_name(source));
            }
        }
        // Those of others are theirs.
        let others =
            node.status.volumes_attached.iter().filter(|own| !own.name.starts_with("kubernetes.io/csi/"));
        let mut list: Vec<_> =
            others.map(|own| json!({"name": own.name, "devicePath": own.device_path})).collect();
        list.extend(listed.iter().map(|name| json!({"name": name, "devicePath": ""})));
        let known: BTreeSet<&str> = node.status.volumes_attached.iter().map(|own| &*own.name).collect();
        let wanted: BTreeSet<&str> = list.iter().filter_map(|own| own["name"].as_str()).collect();
        if known != wanted {
            let patch = json!({"metadata": {"uid": node.metadata.uid}, "status": {"volumesAttached": list}});
            let patch = Patch::Strategic(patch);
            match client.patch::<Node>(None, name, Some("status"), patch).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Next::Done)
    }

    async fn reconcile_volume(&self, client: &Client, name: &str) -> Result<Next, Error> {
        let Some(volume) = self.volumes.get(None, name) else { return Ok(Next::Done) };
        let Some(source) = volume.spec.csi.as_ref() else { return Ok(Next::Done) };
        let users = if self.needs_no_attachment(source) { Vec::new() } else { self.users(&volume) };
        let attached = self.of_volume.get(name);
        let nodes = users.iter().map(|pod| pod.spec.node_name.clone());
        let nodes: BTreeSet<Text> =
            nodes.chain(attached.iter().map(|own| own.spec.node_name.clone())).collect();
        let shares = volume.may_be_attached_to_several();
        let places: Vec<(Text, Place)> = nodes
            .into_iter()
            .map(|node| (node.clone(), self.place(&volume, source, &node, &users)))
            .collect();
        let mut next = Next::Done;
        for (node, place) in &places {
            if place.is_listed != place.belongs_in_list() {
                self.queue.add(of_node(node));
            }
            let others = places.iter().filter(|(other, place)| other != node && place.attachment.is_some());
            let is_elsewhere = !shares && others.count() > 0;
            let pair = (name.to_owned(), node.to_string());
            match place.act(is_elsewhere) {
                Act::Nothing => {
                    let mut since = self.since.lock();
                    since.blocked.remove(&pair);
                    since.asked.remove(&pair);
                }
                Act::Attach => {
                    self.attach(client, &volume, source, node).await?;
                    next = next.or(Next::After(ATTACHING));
                }
                Act::AwaitAttachment => {
                    next = next.or(Next::After(self.await_attachment(&volume, source, node, &users)))
                }
                Act::AwaitOthers => self.report_blocked(&volume, pair, &places, &users),
                // The kubelet's next status brings the volume back; a node that has none for long is given up.
                Act::AwaitRelease => next = next.or(Next::After(PATIENCE / 6)),
                // Its status brings the volume back.
                Act::Unlist => {}
                Act::Detach => {
                    if !self.detach(client, source, node, place).await? {
                        next = next.or(Next::After(Duration::from_secs(1)));
                    }
                }
            }
        }
        Ok(next)
    }

    async fn attach(
        &self,
        client: &Client,
        volume: &PersistentVolume,
        source: &CsiSource,
        node: &str,
    ) -> Result<(), Error> {
        let name = &volume.metadata.name;
        let body = json!({
            "apiVersion": VolumeAttachment::API_VERSION,
            "kind": VolumeAttachment::KIND,
            "metadata": {"name": attachment_name(source, node)},
            "spec": {"attacher": source.driver, "nodeName": node, "source": {"persistentVolumeName": name}},
        });
        match client.create::<VolumeAttachment>(None, &body).await {
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                let why = format!("attacher.Attach failed: {error}");
                self.report_failure(&self.users(volume), name, node, &why);
                Err(error.into())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Reports an attacher that does nothing; returns when to look again.
    fn await_attachment(
        &self,
        volume: &PersistentVolume,
        source: &CsiSource,
        node: &str,
        users: &[Arc<Pod>],
    ) -> Duration {
        let name = &volume.metadata.name;
        let pair = (name.clone(), node.to_owned());
        let mut since = self.since.lock();
        let asked = since.asked.entry(pair).or_insert_with(Instant::now);
        let passed = asked.elapsed();
        if passed < ATTACHING {
            return ATTACHING - passed;
        }
        *asked = Instant::now();
        drop(since);
        let (driver, handle) = (&source.driver, &source.volume_handle);
        let why = format!(
            "timed out waiting for external-attacher of {driver} CSI driver to attach volume {handle}"
        );
        self.report_failure(users, name, node, &why);
        ATTACHING
    }

    /// Reports, once, that other nodes have the volume, and which pods of the same namespace keep it there.
    fn report_blocked(
        &self,
        volume: &PersistentVolume,
        pair: Pair,
        places: &[(Text, Place)],
        users: &[Arc<Pod>],
    ) {
        let node = pair.1.clone();
        if !self.since.lock().blocked.insert(pair) {
            return;
        }
        let is_there = |pod: &&Arc<Pod>| {
            let place = places.iter().find(|(other, _)| *other == pod.spec.node_name);
            pod.spec.node_name != *node && place.is_some_and(|(_, place)| place.attachment.is_some())
        };
        let there: Vec<&Arc<Pod>> = users.iter().filter(is_there).collect();
        for pod in users.iter().filter(|pod| pod.spec.node_name == *node) {
            let name = &volume.metadata.name;
            let message = format!("Waiting for detach for volume {name:?} {}", plan::blockers(pod, &there));
            self.events.event(&pod.reference(), EventType::Warning, "FailedAttachVolume", &message);
        }
    }

    /// Detaches a volume, unless its node says now that it uses it. False where it does.
    async fn detach(
        &self,
        client: &Client,
        source: &CsiSource,
        node: &str,
        place: &Place,
    ) -> Result<bool, Error> {
        if !place.is_lost {
            let name = unique_name(source);
            match client.get::<Node>(None, node).await {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
                Ok(now) if now.status.volumes_in_use.contains(&name) || now.lists_attached(&name) => {
                    return Ok(false);
                }
                Ok(_) => {}
            }
        }
        let name = attachment_name(source, node);
        let Some(attachment) = self.attachments.get(None, &name) else { return Ok(true) };
        let options = DeleteOptions::default().uid(attachment.metadata.uid.clone());
        match client.delete::<VolumeAttachment>(None, &name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(true),
        }
    }
}
