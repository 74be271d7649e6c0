//! `persistentvolume-attach-detach-controller`: has the volumes of CSI drivers attached to the nodes whose pods use them, and
//! detached when they are used no more, by objects that the driver's attacher follows. Each node's status lists what is
//! attached, for its kubelet.
//!
//! A volume leaves the list first, then it is detached: its kubelet must not begin to use one that is about to go.
//!
//! Absent: volumes of plugins that CSI drivers have taken over, of flex plugins, and those of drivers in a pod itself.

mod gone;
mod list;
mod plan;
mod reports;
mod since;
#[cfg(test)]
mod tests;
mod volume;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, EventRecorder, Index, Informer, Key, Text, WorkQueue};
use controllers::views::{
    CsiDriver, CsiSource, Node, PersistentVolume, PersistentVolumeClaim, Pod, VolumeAttachment,
};
use controllers::{Context, Error, Next, Pods, Reconcile};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{Options, metrics};
use since::Since;

const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const PLUGIN: &str = "kubernetes.io/csi/";
/// How long a volume that a node does not release stays attached to it, where the node is not healthy.
const PATIENCE: Duration = Duration::from_secs(6 * 60);
/// How long an attacher may take before that is reported, each time.
const ATTACHING: Duration = Duration::from_secs(2 * 60);
const WORKERS: usize = 10;

#[derive(Clone)]
struct Controller {
    events: EventRecorder,
    pods: Pods,
    nodes: Informer<Node>,
    claims: Informer<PersistentVolumeClaim>,
    /// By the volume object that they name.
    by_volume: Index<PersistentVolumeClaim, String>,
    volumes: Informer<PersistentVolume>,
    /// By what nodes call the volume: several objects may stand for one.
    by_name: Index<PersistentVolume, String>,
    drivers: Informer<CsiDriver>,
    attachments: Informer<VolumeAttachment>,
    of_volume: Index<VolumeAttachment, Text>,
    of_node: Index<VolumeAttachment, Text>,
    detaches_by_force: bool,
    since: Arc<Mutex<Since>>,
    queue: WorkQueue<Key>,
}

/// A volume of a driver.
struct Volume {
    /// What nodes call it.
    name: String,
    source: CsiSource,
    /// The objects that stand for it, with the pods on nodes that use it by them.
    objects: Vec<(Arc<PersistentVolume>, Vec<Arc<Pod>>)>,
}

impl Volume {
    fn used_on(&self) -> BTreeSet<Text> {
        let users = self.objects.iter().flat_map(|(_, users)| users);
        users.map(|pod| pod.spec.node_name.clone()).collect()
    }
}

/// The key of a volume by the name that nodes call it.
fn of_volume(name: &str) -> Key {
    Key::new("", &format!("volume:{name}"))
}

/// The key of a volume object that is attached by nobody.
fn of_migrated(name: &str) -> Key {
    Key::new("", &format!("migrated:{name}"))
}

/// The key of an attachment whose volume object is gone.
fn of_gone(name: &str) -> Key {
    Key::new("", &format!("gone:{name}"))
}

fn of_node(name: &str) -> Key {
    Key::new("", &format!("node:{name}"))
}

/// What a node calls the volume.
fn unique_name(source: &CsiSource) -> String {
    format!("{PLUGIN}{}^{}", source.driver, source.volume_handle)
}

/// The volume that a node calls so.
fn source_of(unique_name: &str) -> Option<CsiSource> {
    let (driver, handle) = unique_name.strip_prefix(PLUGIN)?.split_once('^')?;
    Some(CsiSource { driver: driver.into(), volume_handle: handle.to_owned() })
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
    let claims: Informer<PersistentVolumeClaim> = builder.reads();
    let controller = Controller {
        events: builder.events.clone(),
        pods: builder.pods(),
        nodes: builder.reads(),
        by_volume: claims.index(|own: &PersistentVolumeClaim| {
            Some(own.spec.volume_name.clone()).filter(|name| !name.is_empty())
        }),
        claims,
        drivers: builder.reads(),
        of_volume: attachments.index(|own: &VolumeAttachment| own.spec.source.persistent_volume_name.clone()),
        of_node: attachments.index(|own: &VolumeAttachment| [own.spec.node_name.clone()]),
        attachments,
        by_name: volumes.index(|own: &PersistentVolume| own.spec.csi.as_ref().map(unique_name)),
        volumes,
        detaches_by_force: !options.disable_force_detach_on_timeout,
        since: Arc::default(),
        queue: builder.queue.clone(),
    };
    controller.follow();
    let counted = controller.clone();
    metrics::volumes::follow_uses(move || counted.uses());
    builder.run(WORKERS, controller).await
}

impl Controller {
    /// Has volumes and nodes looked at when something about them changes.
    fn follow(&self) {
        let own = self.clone();
        self.pods.cache().on_event(move |event| {
            let pod = event.object();
            let uses = |pod: &Pod| !pod.spec.node_name.is_empty() && !pod.is_terminal();
            let is_same = event.old().is_some_and(|old| uses(old) == uses(pod));
            if !pod.spec.node_name.is_empty() && !is_same {
                own.volumes_of(pod).for_each(|(_, volume)| own.enqueue_volume(&volume));
            }
        });
        let own = self.clone();
        self.claims.on_event(move |event| {
            let claim = event.object();
            let is_same = event.old().is_some_and(|old| {
                (&old.spec.volume_name, &old.status.phase) == (&claim.spec.volume_name, &claim.status.phase)
            });
            if !is_same && let Some(volume) = own.volume_of(claim) {
                own.enqueue_volume(&volume);
            }
        });
        let own = self.clone();
        self.volumes.on_event(move |event| {
            let volume = event.object();
            own.enqueue_volume(volume);
            if matches!(event, Event::Deleted(_)) {
                let attached = own.of_volume.get(volume.metadata.name.as_str());
                attached.iter().for_each(|attachment| own.queue.add(of_gone(&attachment.metadata.name)));
            }
        });
        let own = self.clone();
        self.drivers.on_event(move |event| {
            let is_its = |volume: &CsiSource| volume.driver == *event.object().metadata.name;
            let all = own.volumes.list();
            let its = all.iter().filter(|volume| volume.spec.csi.as_ref().is_some_and(is_its));
            its.for_each(|volume| own.enqueue_volume(volume));
        });
        let own = self.clone();
        self.attachments.on_event(move |event| own.follow_attachment(event));
        let own = self.clone();
        self.nodes.on_event(move |event| own.follow_node(event));
    }

    fn follow_attachment(&self, event: &Event<VolumeAttachment>) {
        let attachment = event.object();
        let node = &attachment.spec.node_name;
        let is_gone = matches!(event, Event::Deleted(_));
        if is_gone || event.old().is_some_and(|old| old.metadata.uid != attachment.metadata.uid) {
            let mut since = self.since.lock();
            since.detaching.remove(&attachment.metadata.name);
            if self.of_node.count(node) == 0 {
                since.departed.remove(node);
            }
        }
        if let Some(volume) = &attachment.spec.source.persistent_volume_name {
            self.report_progress(volume, event);
        }
        self.enqueue_attachment(attachment);
        self.queue.add(of_node(node));
    }

    fn follow_node(&self, event: &Event<Node>) {
        let node = event.object();
        // Most of it is heartbeats.
        if event.old().is_some_and(|old| !plan::differs(old, node)) {
            return;
        }
        let name = &node.metadata.name;
        let attached = self.of_node.get(name.as_str());
        {
            let mut since = self.since.lock();
            match event {
                Event::Deleted(_) if !attached.is_empty() => {
                    since.departed.insert(name.as_str().into(), node.clone());
                }
                _ => drop(since.departed.remove(name.as_str())),
            }
        }
        self.queue.add(of_node(name));
        attached.iter().for_each(|attachment| self.enqueue_attachment(attachment));
        if event.old().is_none_or(|old| old.metadata.annotation(MANAGED) != node.metadata.annotation(MANAGED))
        {
            for pod in self.pods.on_node(name) {
                self.volumes_of(&pod).for_each(|(_, volume)| self.enqueue_volume(&volume));
            }
        }
    }

    fn enqueue_volume(&self, volume: &PersistentVolume) {
        if let Some(source) = &volume.spec.csi {
            self.queue.add(of_volume(&unique_name(source)));
        } else if volume.spec.migrated_plugin().is_some() {
            self.queue.add(of_migrated(&volume.metadata.name));
        }
    }

    fn enqueue_attachment(&self, attachment: &VolumeAttachment) {
        let Some(volume) = &attachment.spec.source.persistent_volume_name else { return };
        match self.volumes.get(None, volume) {
            Some(volume) => self.enqueue_volume(&volume),
            None => self.queue.add(of_gone(&attachment.metadata.name)),
        }
    }

    fn volume_of(&self, claim: &PersistentVolumeClaim) -> Option<Arc<PersistentVolume>> {
        let name = Some(&claim.spec.volume_name).filter(|name| !name.is_empty());
        name.and_then(|name| self.volumes.get(None, name))
    }

    /// The claims of a pod, with the volumes that they name.
    /// The nodes and plugins of the volumes that pods on nodes use.
    fn uses(&self) -> Vec<(String, String)> {
        let mut uses = Vec::new();
        for pod in self.pods.cache.list().iter().filter(|pod| !pod.spec.node_name.is_empty()) {
            let drivers =
                self.volumes_of(pod).filter_map(|(_, volume)| Some(volume.spec.csi.as_ref()?.driver.clone()));
            let attached = drivers.filter(|driver| !self.needs_no_attachment(driver));
            uses.extend(
                attached
                    .map(|driver| (pod.spec.node_name.to_string(), format!("kubernetes.io/csi:{driver}"))),
            );
        }
        uses
    }

    fn volumes_of<'a>(
        &'a self,
        pod: &'a Pod,
    ) -> impl Iterator<Item = (Arc<PersistentVolumeClaim>, Arc<PersistentVolume>)> + 'a {
        let namespace = pod.metadata.namespace();
        let claims = pod.claims().filter_map(move |claim| self.claims.get(namespace, &claim));
        let claims = claims.filter(|claim| pod.uses_claim(&claim.metadata));
        claims.filter_map(|claim| self.volume_of(&claim).map(|volume| (claim, volume)))
    }

    /// The pods on nodes that use a claim.
    fn pods_with(&self, claim: &PersistentVolumeClaim) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.with_claim(&claim.metadata.namespace, &claim.metadata.name);
        pods.retain(|pod| {
            !pod.spec.node_name.is_empty() && !pod.is_terminal() && pod.uses_claim(&claim.metadata)
        });
        pods
    }

    /// The pods on nodes that use a volume object.
    fn users(&self, volume: &PersistentVolume) -> Vec<Arc<Pod>> {
        let Some(reference) = &volume.spec.claim_ref else { return Vec::new() };
        let claim = self.claims.get_key(&reference.key());
        let claim = claim.filter(|claim| plan::are_bound(claim, volume));
        claim.map(|claim| self.pods_with(&claim)).unwrap_or_default()
    }

    /// The names of the volumes that pods of a node use.
    fn used_on(&self, node: &str) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for pod in self.pods.on_node(node).iter().filter(|pod| !pod.is_terminal()) {
            for (claim, volume) in self.volumes_of(pod) {
                let source = volume.spec.csi.as_ref().filter(|own| !self.needs_no_attachment(&own.driver));
                used.extend(source.filter(|_| plan::are_bound(&claim, &volume)).map(unique_name));
            }
        }
        used
    }

    /// None where no object stands for it.
    fn volume(&self, name: &str) -> Option<Volume> {
        let objects = self.by_name.get(name);
        let source = objects.first()?.spec.csi.clone()?;
        let is_attached = !self.needs_no_attachment(&source.driver);
        let with_users = |object: Arc<PersistentVolume>| {
            let users = if is_attached { self.users(&object) } else { Vec::new() };
            (object, users)
        };
        let objects = objects.into_iter().map(with_users).collect();
        Some(Volume { name: name.to_owned(), source, objects })
    }

    fn needs_no_attachment(&self, driver: &str) -> bool {
        let driver = self.drivers.get(None, driver);
        driver.is_some_and(|driver| driver.spec.attach_required == Some(false))
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        match key.name.split_once(':') {
            Some(("node", name)) => self.write_list(client, name).await,
            Some(("volume", name)) => self.reconcile_volume(client, name).await,
            Some(("gone", name)) => self.reconcile_gone(client, name).await,
            Some(("migrated", name)) => {
                match self.volumes.get(None, name) {
                    Some(volume) => self.report_migrated(&volume),
                    None => self.since.lock().keep(name, |_| false),
                }
                Ok(Next::Done)
            }
            _ => Ok(Next::Done),
        }
    }
}
