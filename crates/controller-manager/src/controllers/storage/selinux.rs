//! `selinux-warning-controller`: reports pods that use one volume with different SELinux labels, or with different ways to
//! have it labelled: once volumes are mounted with labels, only one of two such pods can run on a node.
//!
//! It runs only when it is named. Absent: volumes of plugins that CSI drivers have taken over. Volumes of fibre channel and
//! iSCSI are distinguished by their objects.

mod conflicts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::{Client, Event, EventRecorder, EventType, Index, Informer, Key, ObjectReference};
use controllers::views::{CsiDriver, Meta, Object, PersistentVolume, PersistentVolumeClaim, compact};
use controllers::{Context, Error, Next, Reconcile};
use daemon::metrics::registry;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::Options;
use conflicts::{Conflict, MOUNT, RECURSIVE, Use, Volumes};

const NAME: &str = "selinux-warning-controller";

/// What is read of pods here alone: the others need neither mounts nor labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    metadata: Meta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    security_context: SecurityContext,
    #[serde(deserialize_with = "compact")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "compact")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "compact")]
    ephemeral_containers: Vec<Container>,
    #[serde(deserialize_with = "compact")]
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SecurityContext {
    #[serde(rename = "seLinuxOptions")]
    options: Option<Label>,
    #[serde(rename = "seLinuxChangePolicy")]
    policy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Label {
    user: String,
    role: String,
    #[serde(rename = "type")]
    kind: String,
    level: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    security_context: SecurityContext,
    #[serde(deserialize_with = "compact")]
    volume_mounts: Vec<Mount>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Mount {
    name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<Present>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSource {
    claim_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Present {}

impl client::View for Pod {
    type Of = k8s_openapi::api::core::v1::Pod;
}

impl Label {
    /// Empty where nothing is given.
    fn text(&self) -> String {
        let text = [&*self.user, &self.role, &self.kind, &self.level].join(":");
        if text == ":::" { String::new() } else { text }
    }
}

impl Pod {
    fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Failed" | "Succeeded")
    }

    /// The name of a volume's claim, if it has one.
    fn claim(&self, volume: &Volume) -> Option<String> {
        let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
        let own = || volume.ephemeral.as_ref().map(|_| format!("{}-{}", self.metadata.name, volume.name));
        named.or_else(own)
    }

    /// The labels that each mounted volume is used with. Those of a container replace those of its pod.
    fn labels(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let spec = &self.spec;
        let mut labels: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for container in spec.init_containers.iter().chain(&spec.containers).chain(&spec.ephemeral_containers)
        {
            let label =
                container.security_context.options.as_ref().or(spec.security_context.options.as_ref());
            for mount in &container.volume_mounts {
                labels.entry(&mount.name).or_default().extend(label.map(Label::text));
            }
        }
        labels
    }

    fn reference(&self) -> ObjectReference {
        let reference = controllers::views::Pod { metadata: self.metadata.clone(), ..Default::default() };
        reference.reference()
    }
}

struct Controller {
    events: EventRecorder,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    drivers: Informer<CsiDriver>,
    uses: Arc<Mutex<Volumes>>,
}

fn claims_of(pod: &Pod) -> Vec<Key> {
    let claims = pod.spec.volumes.iter().filter_map(|volume| pod.claim(volume));
    claims.map(|claim| Key::new(&pod.metadata.namespace, &claim)).collect()
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let mut builder = context.builder("selinux_warning", NAME, "selinux_warning").await?;
    let pods: Informer<Pod> = builder.reads();
    let controller = Controller {
        events: builder.events.clone(),
        pods: pods.clone(),
        claims: builder.reads(),
        volumes: builder.reads(),
        drivers: builder.reads(),
        uses: Arc::default(),
    };
    let uses = controller.uses.clone();
    registry().gauge_fn(
        "selinux_warning_controller_selinux_volume_conflict",
        "Conflict between two Pods using the same volume",
        &[
            "property",
            "pod1_namespace",
            "pod1_name",
            "pod1_value",
            "pod2_namespace",
            "pod2_name",
            "pod2_value",
        ],
        move || uses.lock().conflicts().map(|conflict| (labels(conflict), 1.0)).collect(),
    );
    let queue = builder.queue.clone();
    pods.on_keyed_event(move |key, event| {
        // What else matters of a pod does not change.
        let goes_on = event.old().is_some_and(|old| old.has_ended() == event.object().has_ended());
        if !goes_on {
            queue.add(key.clone());
        }
    });
    let by_claim: Index<Pod, Key> = pods.index(claims_of);
    let (queue, users) = (builder.queue.clone(), by_claim.clone());
    controller.claims.on_keyed_event(move |key, event| {
        let is_bound = event.old().is_none_or(|old| old.spec.volume_name != event.object().spec.volume_name);
        if is_bound && !matches!(event, Event::Deleted(_)) {
            users.get(key).iter().for_each(|pod| queue.add(pod.metadata.cache_key()));
        }
    });
    let queue = builder.queue.clone();
    controller.volumes.on_event(move |event| {
        let claim =
            |volume: &PersistentVolume| volume.spec.claim_ref.clone().filter(|claim| !claim.uid.is_empty());
        let Some(own) = claim(event.object()) else { return };
        let is_bound = event.old().is_none_or(|old| claim(old).is_none_or(|old| old.uid != own.uid));
        if is_bound && !matches!(event, Event::Deleted(_)) {
            by_claim.get(&own.key()).iter().for_each(|pod| queue.add(pod.metadata.cache_key()));
        }
    });
    let (queue, uses) = (builder.queue.clone(), controller.uses.clone());
    controller.drivers.on_event(move |event| {
        let mounts = |driver: &CsiDriver| driver.spec.se_linux_mount == Some(true);
        let (new, old) = (event.object(), event.old());
        let differs = match event {
            Event::Added(_) => true,
            Event::Modified { .. } => old.is_some_and(|old| mounts(old) != mounts(new)),
            Event::Deleted(_) => mounts(new),
        };
        if differs {
            uses.lock().of_driver(&new.metadata.name).into_iter().for_each(|pod| queue.add(pod));
        }
    });
    builder.run(1, controller).await
}

/// A volume that pods may have in common.
struct Found {
    name: String,
    driver: String,
    /// Whether it can be mounted with a label.
    mounts: bool,
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, _: &Client) -> Result<Next, Error> {
        let Some(pod) = self.pods.get_key(key).filter(|pod| !pod.has_ended()) else {
            self.uses.lock().remove(key);
            return Ok(Next::Done);
        };
        let labels = pod.labels();
        for volume in &pod.spec.volumes {
            let Some(labels) = labels.get(&*volume.name) else { continue };
            // A claim that is not bound yet brings its pods when it is.
            let found = match pod.claim(volume) {
                Some(claim) => match self.find(&pod, &claim) {
                    Some(found) => Some(found),
                    None => continue,
                },
                None => None,
            };
            if labels.len() > 1 {
                let message = format!(
                    "Volume {:?} is mounted twice with different SELinux labels inside this pod",
                    volume.name
                );
                self.events.event(&pod.reference(), EventType::Warning, "MultipleSELinuxLabels", &message);
                continue;
            }
            let Some(found) = found else { continue };
            let wanted = pod.spec.security_context.policy.as_deref().unwrap_or(MOUNT);
            let label =
                labels.first().filter(|_| found.mounts && wanted != RECURSIVE).cloned().unwrap_or_default();
            let policy = if label.is_empty() || !found.mounts { RECURSIVE } else { wanted };
            let used = Use { label, policy: policy.to_owned() };
            let conflicts = self.uses.lock().put(&found.name, &found.driver, key, used);
            conflicts.iter().for_each(|conflict| self.report(conflict));
        }
        Ok(Next::Done)
    }
}

impl Controller {
    fn find(&self, pod: &Pod, claim: &str) -> Option<Found> {
        let claim = self.claims.get(pod.metadata.namespace(), claim)?;
        let volume =
            self.volumes.get(None, &claim.spec.volume_name).filter(|volume| volume.is_for(&claim))?;
        let name = || format!("object/{}", volume.metadata.name);
        Some(match &volume.spec.csi {
            Some(csi) => Found {
                name: format!("{}^{}", csi.driver, csi.volume_handle),
                driver: csi.driver.to_string(),
                mounts: self
                    .drivers
                    .get(None, &csi.driver)
                    .is_some_and(|own| own.spec.se_linux_mount == Some(true)),
            },
            None => {
                let mounts = volume.spec.fc.is_some() || volume.spec.iscsi.is_some();
                Found { name: name(), driver: String::new(), mounts }
            }
        })
    }

    fn report(&self, conflict: &Conflict) {
        if let Some(pod) = self.pods.get_key(&conflict.pod) {
            let (reason, message) = (conflict.reason(), conflict.message());
            self.events.event(&pod.reference(), EventType::Normal, &reason, &message);
        }
    }
}

fn labels(conflict: &Conflict) -> Vec<String> {
    let Conflict { property, pod, value, other, other_value } = conflict;
    let labels = [property, &*pod.namespace, &pod.name, value, &other.namespace, &other.name, other_value];
    labels.map(str::to_owned).into()
}
