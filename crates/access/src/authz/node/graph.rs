//! Which objects each node reaches: counted references of its pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use api::Tree;
use api::model::Resource;
use parking_lot::RwLock;
use registry::references;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchcache::event::EventType;
use watchcache::follow::follow;
use watchcache::resources::{Entry, Resources};
use watchcache::scan::Fields;

use super::super::rules::Rule;
use super::references::{Kind, of_pod};
use crate::kinds;

/// A kind, its namespace and name.
type Target = (Kind, Arc<str>, String);

/// A pod's node and what the pod names there.
type Uses = (String, Vec<(Kind, String)>);

const PODS: u8 = 1;
const VOLUMES: u8 = 2;

#[derive(Default)]
pub(super) struct State {
    /// Node → what its pods use, with the number of pods that do.
    nodes: HashMap<String, HashMap<Target, u32>>,
    /// Pod (namespace, name) → its node and what it added.
    pods: HashMap<(Arc<str>, Arc<str>), Uses>,
    /// Bound PersistentVolume → what it is bound to, and what mounting it takes.
    volumes: HashMap<Arc<str>, Bound>,
    /// Secret (namespace, name) → the volumes that take it.
    takers: HashMap<(String, String), HashSet<Arc<str>>>,
}

/// A PersistentVolume by its own word: a claim that names a volume has no part in it before the volume names the claim.
struct Bound {
    namespace: Arc<str>,
    claim: String,
    secrets: Vec<(String, String)>,
}

pub struct Graph {
    state: RwLock<State>,
    resources: Arc<Resources>,
    pub(super) common: Arc<[Rule]>,
    /// A bit per resource that has been read.
    seen: AtomicU8,
}

impl Graph {
    pub fn new(resources: Arc<Resources>) -> Graph {
        Graph { state: RwLock::default(), resources, common: super::common_rules(), seen: AtomicU8::new(0) }
    }

    /// Follows pods and volumes; the tasks end with `shutdown`.
    pub fn run(self: &Arc<Self>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        let (reset, change) = (self.clone(), self.clone());
        tasks.spawn(follow(
            self.resources.clone(),
            kinds::pods(),
            shutdown.clone(),
            move |draft: &mut State, entry| draft.put(entry, uses(entry)),
            move |mut draft| {
                let mut state = reset.state.write();
                std::mem::swap(&mut state.nodes, &mut draft.nodes);
                std::mem::swap(&mut state.pods, &mut draft.pods);
                reset.seen.fetch_or(PODS, Ordering::AcqRel);
                // the old state is freed after the lock is released
                drop(state);
            },
            move |event| {
                let entry = &event.entry;
                match event.event_type {
                    EventType::Deleted => change.state.write().remove(&entry.namespace, &entry.name),
                    _ if event.previous.as_ref().is_some_and(|previous| names_the_same(previous, entry)) => {}
                    _ => {
                        let uses = uses(entry);
                        change.state.write().put(entry, uses);
                    }
                }
            },
        ));
        let (reset, change) = (self.clone(), self.clone());
        tasks.spawn(follow(
            self.resources.clone(),
            kinds::persistent_volumes(),
            shutdown.clone(),
            move |draft: &mut State, entry| {
                // what cannot be read grants nothing
                if let Ok(volume) = entry.read() {
                    draft.put_volume(&entry.name, &volume);
                }
            },
            move |mut draft| {
                let mut state = reset.state.write();
                std::mem::swap(&mut state.volumes, &mut draft.volumes);
                std::mem::swap(&mut state.takers, &mut draft.takers);
                reset.seen.fetch_or(VOLUMES, Ordering::AcqRel);
                drop(state);
            },
            move |event| {
                let stays = event.event_type != EventType::Deleted;
                let volume = stays.then(|| event.entry.read().ok()).flatten();
                let mut state = change.state.write();
                state.remove_volume(&event.entry.name);
                if let Some(volume) = volume {
                    state.put_volume(&event.entry.name, &volume);
                }
            },
        ));
    }

    pub fn synced(&self) -> bool {
        self.seen.load(Ordering::Acquire) == PODS | VOLUMES
    }

    pub(super) fn reaches(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        match kind {
            Kind::Attachment => self.is_of(node, kinds::volume_attachments(), "", name),
            Kind::Slice => self.is_of(node, kinds::resource_slices(), "", name),
            Kind::CertificateRequest => self.is_of(node, kinds::pod_certificate_requests(), namespace, name),
            _ => self.state.read().reaches(node, kind, namespace, name),
        }
    }

    /// Whether the object that is stored names the node as its own.
    fn is_of(&self, node: &str, resource: &Resource, namespace: &str, name: &str) -> bool {
        let entry = self.resources.get(resource, namespace, name);
        entry.and_then(|entry| entry.read().ok()).is_some_and(|object| object["spec"]["nodeName"] == node)
    }
}

/// What a pod uses, and on which node; nothing before it has one, or when it cannot be read.
fn uses(entry: &Entry) -> Option<Uses> {
    let node = entry.kind.field("spec.nodeName").map_or("", |index| entry.field(index));
    if node.is_empty() {
        return None;
    }
    Some((node.to_owned(), of_pod(&entry.read().ok()?)))
}

/// Whether two states of a pod name the same objects, seen without decoding them: most changes are of the status, which names none but
/// the claims made for the pod.
fn names_the_same(previous: &Entry, now: &Entry) -> bool {
    const SPEC: u32 = 2;
    const STATUS: u32 = 3;
    const RESOURCE_CLAIM_STATUSES: u32 = 15;
    const EXTENDED_RESOURCE_CLAIM_STATUS: u32 = 18;
    fn part(raw: &[u8], tag: u32) -> &[u8] {
        Fields(raw).find(|field| field.tag == tag).map_or(&[], |field| field.bytes)
    }
    fn claims(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
        let claims = |tag| matches!(tag, RESOURCE_CLAIM_STATUSES | EXTENDED_RESOURCE_CLAIM_STATUS);
        Fields(part(raw, STATUS)).filter(move |field| claims(field.tag)).map(|field| field.bytes)
    }
    let (Some(before), Some(after)) = (previous.proto_raw(), now.proto_raw()) else { return false };
    part(&before, SPEC) == part(&after, SPEC) && claims(&before).eq(claims(&after))
}

impl State {
    pub(super) fn reaches(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let Some(used) = self.nodes.get(node) else { return false };
        let uses = |kind, namespace: &str, name: &str| {
            used.contains_key(&(kind, Arc::from(namespace), name.to_owned()))
        };
        let mounts = |volume: &Arc<str>| {
            let bound = self.volumes.get(volume);
            bound.is_some_and(|bound| uses(Kind::Claim, &bound.namespace, &bound.claim))
        };
        match kind {
            Kind::Volume => mounts(&Arc::from(name)),
            Kind::Secret => {
                let takers = self.takers.get(&(namespace.to_owned(), name.to_owned()));
                uses(kind, namespace, name) || takers.into_iter().flatten().any(mounts)
            }
            _ => uses(kind, namespace, name),
        }
    }

    pub(super) fn put_volume(&mut self, name: &Arc<str>, volume: &Tree) {
        let claim = &volume["spec"]["claimRef"];
        let (Some(namespace), Some(claim)) = (claim["namespace"].as_str(), claim["name"].as_str()) else {
            return;
        };
        let secrets: Vec<(String, String)> = references::volume_secrets(volume)
            .into_iter()
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .collect();
        for secret in &secrets {
            self.takers.entry(secret.clone()).or_default().insert(name.clone());
        }
        let bound = Bound { namespace: namespace.into(), claim: claim.to_owned(), secrets };
        self.volumes.insert(name.clone(), bound);
    }

    pub(super) fn remove_volume(&mut self, name: &str) {
        let Some(bound) = self.volumes.remove(name) else { return };
        for secret in bound.secrets {
            if let Some(takers) = self.takers.get_mut(&secret) {
                takers.remove(name);
                if takers.is_empty() {
                    self.takers.remove(&secret);
                }
            }
        }
    }

    fn put(&mut self, entry: &Entry, uses: Option<Uses>) {
        match uses {
            None => self.remove(&entry.namespace, &entry.name),
            Some((node, uses)) => self.put_pod(&node, &entry.namespace, &entry.name, uses),
        }
    }

    pub(super) fn put_pod(
        &mut self,
        node: &str,
        namespace: &str,
        name: &str,
        references: Vec<(Kind, String)>,
    ) {
        let key = (Arc::from(namespace), Arc::from(name));
        if self.pods.get(&key).is_some_and(|(old, had)| old == node && *had == references) {
            return;
        }
        self.remove(namespace, name);
        let used = self.nodes.entry(node.to_owned()).or_default();
        for (kind, name) in &references {
            *used.entry((*kind, key.0.clone(), name.clone())).or_default() += 1;
        }
        self.pods.insert(key, (node.to_owned(), references));
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let namespace: Arc<str> = namespace.into();
        let Some((node, references)) = self.pods.remove(&(namespace.clone(), name.into())) else { return };
        let Some(used) = self.nodes.get_mut(&node) else { return };
        for (kind, name) in references {
            let target = (kind, namespace.clone(), name);
            if let Some(count) = used.get_mut(&target) {
                *count -= 1;
                if *count == 0 {
                    used.remove(&target);
                }
            }
        }
        if used.is_empty() {
            self.nodes.remove(&node);
        }
    }
}
