//! Which objects each node reaches: counted references of its pods.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::follow;
use super::super::rules::Rule;
use super::references::{Kind, of_pod, secrets_of_volume};
use crate::cache::event::EventType;
use crate::cache::scan::Fields;
use crate::kinds;
use crate::resources::{Entry, Resources};

/// A kind, its namespace and name.
type Target = (Kind, Arc<str>, String);

/// A pod's node and what the pod names there.
type Uses = (String, Vec<(Kind, String)>);

#[derive(Default)]
struct State {
    /// Node → what its pods use, with the number of pods that do.
    nodes: HashMap<String, HashMap<Target, u32>>,
    /// Pod (namespace, name) → its node and what it added.
    pods: HashMap<(Arc<str>, Arc<str>), Uses>,
}

pub struct Graph {
    state: RwLock<State>,
    resources: Arc<Resources>,
    pub(super) common: Arc<[Rule]>,
    seen: AtomicBool,
}

impl Graph {
    pub fn new(resources: Arc<Resources>) -> Graph {
        Graph {
            state: RwLock::default(),
            resources,
            common: super::common_rules(),
            seen: AtomicBool::new(false),
        }
    }

    /// Follows the pods; the task ends with `shutdown`.
    pub fn run(self: &Arc<Self>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        let (reset, change) = (self.clone(), self.clone());
        tasks.spawn(follow(
            self.resources.clone(),
            kinds::pods(),
            shutdown.clone(),
            move |entries| {
                let mut state = reset.state.write();
                *state = State::default();
                for entry in entries {
                    state.put(entry);
                }
                reset.seen.store(true, Ordering::Release);
            },
            move |event| {
                let mut state = change.state.write();
                match event.event_type {
                    EventType::Deleted => state.remove(&event.entry),
                    _ if event
                        .previous
                        .as_ref()
                        .is_some_and(|previous| names_the_same(previous, &event.entry)) => {}
                    _ => state.put(&event.entry),
                }
            },
        ));
    }

    pub fn synced(&self) -> bool {
        self.seen.load(Ordering::Acquire)
    }

    pub(super) fn reaches(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        match kind {
            Kind::Volume => self.reaches_volume(node, name),
            Kind::Attachment => self
                .resources
                .get(kinds::volume_attachments(), "", name)
                .is_some_and(|entry| entry.tree()["spec"]["nodeName"] == node),
            Kind::Secret => {
                self.used(node, kind, namespace, name) || self.secret_of_claimed_volume(node, namespace, name)
            }
            _ => self.used(node, kind, namespace, name),
        }
    }

    fn used(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let target = (kind, Arc::from(namespace), name.to_owned());
        self.state.read().nodes.get(node).is_some_and(|used| used.contains_key(&target))
    }

    /// A volume whose claim one of the node's pods uses.
    fn reaches_volume(&self, node: &str, name: &str) -> bool {
        let Some(volume) = self.resources.get(kinds::persistent_volumes(), "", name) else { return false };
        let volume = volume.tree();
        let claim = &volume["spec"]["claimRef"];
        match (claim["namespace"].as_str(), claim["name"].as_str()) {
            (Some(namespace), Some(claim)) => self.used(node, Kind::Claim, namespace, claim),
            _ => false,
        }
    }

    /// A secret that a volume behind one of the node's claims needs.
    fn secret_of_claimed_volume(&self, node: &str, namespace: &str, name: &str) -> bool {
        let claims: Vec<(Arc<str>, String)> = match self.state.read().nodes.get(node) {
            None => return false,
            Some(used) => used
                .keys()
                .filter(|(kind, _, _)| *kind == Kind::Claim)
                .map(|(_, namespace, claim)| (namespace.clone(), claim.clone()))
                .collect(),
        };
        claims.into_iter().any(|(home, claim)| {
            let Some(claim) = self.resources.get(kinds::persistent_volume_claims(), &home, &claim) else {
                return false;
            };
            let claim = claim.tree();
            let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
            let Some(volume) = self.resources.get(kinds::persistent_volumes(), "", volume) else {
                return false;
            };
            secrets_of_volume(&volume.tree()["spec"])
                .into_iter()
                .any(|(place, secret)| secret == name && place.as_deref().unwrap_or(&home) == namespace)
        })
    }
}

/// Whether two states of a pod name the same objects, seen without decoding them: most changes are of the status, which names none but
/// the claims made for the pod.
fn names_the_same(previous: &Entry, now: &Entry) -> bool {
    const SPEC: u32 = 2;
    const STATUS: u32 = 3;
    const RESOURCE_CLAIM_STATUSES: u32 = 15;
    fn part(raw: &[u8], tag: u32) -> &[u8] {
        Fields(raw).find(|field| field.tag == tag).map_or(&[], |field| field.bytes)
    }
    let (Some(before), Some(after)) = (previous.proto_raw(), now.proto_raw()) else { return false };
    let claims = |raw| Fields(part(raw, STATUS)).any(|field| field.tag == RESOURCE_CLAIM_STATUSES);
    part(&before, SPEC) == part(&after, SPEC) && !claims(&before) && !claims(&after)
}

impl State {
    fn put(&mut self, entry: &Entry) {
        let node = entry.kind.field("spec.nodeName").map_or("", |index| entry.field(index));
        let references = if node.is_empty() { Vec::new() } else { of_pod(&entry.tree()) };
        let key = (entry.namespace.clone(), entry.name.clone());
        if self.pods.get(&key).is_some_and(|(old, had)| old == node && *had == references) {
            return;
        }
        self.remove(entry);
        if node.is_empty() {
            return;
        }
        let used = self.nodes.entry(node.to_owned()).or_default();
        for (kind, name) in &references {
            *used.entry((*kind, entry.namespace.clone(), name.clone())).or_default() += 1;
        }
        self.pods.insert(key, (node.to_owned(), references));
    }

    fn remove(&mut self, entry: &Entry) {
        let Some((node, references)) = self.pods.remove(&(entry.namespace.clone(), entry.name.clone()))
        else {
            return;
        };
        let Some(used) = self.nodes.get_mut(&node) else { return };
        for (kind, name) in references {
            let target = (kind, entry.namespace.clone(), name);
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
