//! `persistentvolume-binder-controller`: binds claims to volumes, has volumes provisioned for claims, and reclaims volumes
//! whose claim is gone.
//!
//! A binding is two references, one in each object, written one after the other: the volume is reserved first. Each write
//! is made under the version that was looked at, so that a state in the middle, or a change by others meanwhile, is found by
//! the next reconciliation.
//!
//! Absent: recycling, and provisioning by this process (`--enable-hostpath-provisioner`): both are for tests alone.

pub(super) mod migrated;
mod phase;
mod plan;
mod reclaim;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, EventRecorder, EventType, Index, Informer, Key};
use controllers::views::{Object, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass};
use controllers::{Context, Draft, Error, Latest, Next, Pods, Reconcile};
use serde_json::json;

use crate::{Options, metrics};
use phase::{write_claim, write_volume};
use plan::{ForClaim, ForVolume, Report};
use reclaim::Reclaim;

/// The claim's binding is complete: what is not as it was then is lost.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The reference is this controller's, or the scheduler's, and not the user's.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Size of the file system before the volume was enlarged.
pub(super) const PRE_RESIZE_CAPACITY: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";

/// What both sides share.
struct Binder {
    events: EventRecorder,
    volumes: Latest<PersistentVolume>,
    claims: Latest<PersistentVolumeClaim>,
    classes: Informer<StorageClass>,
    pods: Pods,
    by_class: Index<PersistentVolume, String>,
    /// By the claim that a volume is reserved for.
    by_claim: Index<PersistentVolume, Key>,
    provisions: bool,
    period: Duration,
}

struct Claims(Arc<Binder>);
struct Volumes(Arc<Binder>);

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let (account, component) = ("persistent-volume-binder", "persistentvolume-controller");
    let mut claims = context.builder("claims", account, component).await?;
    let mut volumes = context.builder("volumes", account, component).await?;
    let (of_claims, of_volumes) = (claims.reconciles(), volumes.reconciles());
    let classes: Informer<StorageClass> = claims.reads();
    metrics::volumes::follow(&of_volumes, &of_claims);
    claims.follow(&of_volumes);
    volumes.follow(&of_claims);
    let binder = Arc::new(Binder {
        events: claims.events.clone(),
        by_class: of_volumes.index(|volume: &PersistentVolume| [volume.class().to_owned()]),
        by_claim: of_volumes
            .index(|volume: &PersistentVolume| volume.spec.claim_ref.as_ref().map(|claim| claim.key())),
        volumes: Latest::new(of_volumes.clone()),
        claims: Latest::new(of_claims.clone()),
        pods: claims.pods(),
        classes: classes.clone(),
        provisions: options.enable_dynamic_provisioning,
        period: *options.pvclaimbinder_sync_period,
    });
    let pending = of_claims.index(|claim: &PersistentVolumeClaim| {
        let is_free = claim.spec.volume_name.is_empty();
        is_free.then(|| claim.class().unwrap_or_default().to_owned())
    });
    let asking = of_claims.index(|claim: &PersistentVolumeClaim| {
        let named = &claim.spec.volume_name;
        (!named.is_empty()).then(|| named.clone())
    });

    // Claims that a volume may help, and those whose volume it is or was.
    let (queue, waiting) = (claims.queue.clone(), pending.clone());
    of_volumes.on_keyed_event(move |key, event| {
        let volume = event.object();
        let is_gone = matches!(event, Event::Deleted(_));
        let is_other = event.old().is_none_or(|old| old.spec.claim_ref != volume.spec.claim_ref);
        if is_gone || is_other {
            volume.spec.claim_ref.iter().for_each(|claim| queue.add(claim.key()));
            asking.get(&*key.name).iter().for_each(|claim| queue.add(claim.metadata.cache_key()));
        }
        if !is_gone && volume.is_available() && event.old().is_none_or(|old| !old.is_available()) {
            waiting.get(volume.class()).iter().for_each(|claim| queue.add(claim.metadata.cache_key()));
        }
    });
    // A class may be the default of claims that have none.
    let queue = claims.queue.clone();
    classes.on_keyed_event(move |key, _| {
        for class in [&*key.name, ""] {
            pending.get(class).iter().for_each(|claim| queue.add(claim.metadata.cache_key()));
        }
    });
    let (queue, reserved) = (volumes.queue.clone(), binder.by_claim.clone());
    of_claims.on_keyed_event(move |key, event| {
        reserved.get(key).iter().for_each(|volume| queue.add(volume.metadata.cache_key()));
        let named = &event.object().spec.volume_name;
        if matches!(event, Event::Deleted(_)) && !named.is_empty() {
            queue.add(Key::new("", named));
        }
    });
    let sides = (Claims(binder.clone()), Volumes(binder));
    // One at a time each: two claims must not take the same volume.
    tokio::try_join!(claims.run(1, sides.0), volumes.run(1, sides.1))?;
    Ok(())
}

impl plan::Facts for Binder {
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(&Key::new("", name))
    }

    fn candidates(&self, claim: &PersistentVolumeClaim) -> Vec<Arc<PersistentVolume>> {
        let class = claim.class().unwrap_or_default();
        let reserved = self.by_claim.get(&claim.metadata.cache_key()).into_iter();
        let others = self.by_class.get(class).into_iter();
        let mut all: Vec<_> = reserved.chain(others).map(|volume| self.volumes.newest(volume)).collect();
        all.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        all.dedup_by(|one, other| one.metadata.name == other.metadata.name);
        all
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.get(None, name)
    }

    fn default_class(&self) -> Option<String> {
        let mut defaults = self.classes.list();
        defaults.retain(|class| class.is_default());
        let newest = defaults.into_iter().min_by(|one, other| {
            let created = other.metadata.created().cmp(&one.metadata.created());
            created.then_with(|| one.metadata.name.cmp(&other.metadata.name))
        });
        newest.map(|class| class.metadata.name.clone())
    }

    fn waiting_pods(&self, claim: &PersistentVolumeClaim) -> Vec<String> {
        let users = self.pods.with_claim(&claim.metadata.namespace, &claim.metadata.name);
        let waits = |pod: &&Arc<Pod>| pod.spec.node_name.is_empty() && !pod.is_terminal();
        let mut names: Vec<_> = users.iter().filter(waits).map(|pod| pod.metadata.name.clone()).collect();
        names.sort();
        names
    }

    fn provisions(&self) -> bool {
        self.provisions
    }
}

impl Reconcile for Claims {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let binder = &self.0;
        let Some(claim) = binder.claims.get(key) else { return Ok(Next::Done) };
        let mut draft = Draft::new(client, claim).noting(&binder.claims);
        if let Some(annotations) = migrated::of_claim(&draft.seen.metadata.annotations) {
            draft.update(|claim| claim["metadata"]["annotations"] = json!(annotations)).await?;
        }
        let claim = draft.seen.clone();
        let again = Next::After(binder.period);
        match plan::for_claim(&claim, &**binder).map_err(Error::Other)? {
            ForClaim::Bind(volume) => {
                binder.bind(client, volume, draft).await?;
                return Ok(Next::Done);
            }
            ForClaim::Wait(report) => {
                binder.report(&*claim, report);
                write_claim(&mut draft, "Pending", None).await?;
            }
            ForClaim::Lose(report) => {
                if claim.status.phase != "Lost" {
                    write_claim(&mut draft, "Lost", None).await?;
                    binder.report(&*draft.seen, Some(report));
                }
                return Ok(Next::Done);
            }
            ForClaim::Refuse(report, error) => {
                binder.report(&*claim, Some(report));
                return Err(Error::Other(error));
            }
            ForClaim::AssignClass(class) => {
                let assigned = draft.update(|claim| claim["spec"]["storageClassName"] = class.into()).await;
                metrics::volumes::class_assigned(assigned.is_err());
                assigned?;
                return Ok(Next::Done);
            }
            ForClaim::Provision { provisioner } => binder.order(draft, &provisioner).await?,
            ForClaim::CannotProvision(report) => binder.report(&*claim, report),
        }
        Ok(again)
    }
}

impl Reconcile for Volumes {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let binder = &self.0;
        let Some(volume) = binder.volumes.get(key) else { return Ok(Next::Done) };
        let mut draft = Draft::new(client, volume).noting(&binder.volumes);
        if let Some(new) = migrated::of_volume(&draft.seen) {
            let change = |volume: &mut serde_json::Value| {
                volume["metadata"]["annotations"] = json!(new.annotations);
                volume["metadata"]["finalizers"] = json!(new.finalizers);
            };
            draft.update(change).await?;
        }
        let volume = draft.seen.clone();
        let claim = binder.claim_of(client, &volume).await?;
        match plan::for_volume(&volume, claim.as_deref()) {
            ForVolume::Enter(phase) => write_volume(&mut draft, phase, "").await?,
            ForVolume::Mismatch { of_volume, of_claim } => {
                binder.report(&*volume, Some(of_volume));
                if let Some(claim) = &claim {
                    binder.report(&**claim, Some(of_claim));
                }
                return Ok(Next::After(binder.period));
            }
            // The claim's side completes it, which a new reference of the volume brings.
            ForVolume::Complete => return Ok(Next::Done),
            ForVolume::Unbind => binder.unbind(draft).await?,
            ForVolume::Reclaim => return binder.reclaim(client, draft).await,
        }
        Ok(Next::Done)
    }
}

impl Binder {
    fn report(&self, object: &impl Object, report: Option<Report>) {
        if let Some(Report { kind, reason, message }) = report {
            self.events.event(&object.reference(), kind, reason, &message);
        }
    }

    /// The claim that a volume is bound to, where it exists. The cache may be behind, and a volume that is reclaimed too
    /// early is data lost: the server is asked, too.
    async fn claim_of(
        &self,
        client: &Client,
        volume: &PersistentVolume,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, Error> {
        let Some(reference) = volume.spec.claim_ref.as_ref().filter(|claim| !claim.uid.is_empty()) else {
            return Ok(None);
        };
        let is_it = |claim: &Arc<PersistentVolumeClaim>| claim.metadata.uid == reference.uid;
        if let Some(claim) = self.claims.get(&reference.key()).filter(is_it) {
            return Ok(Some(claim));
        }
        if volume.is_released() && self.claims.get(&reference.key()).is_none() {
            return Ok(None);
        }
        match client.get::<PersistentVolumeClaim>(Some(&reference.namespace), &reference.name).await {
            Err(error) if error.is_not_found() => Ok(None),
            found => Ok(Some(Arc::new(found?)).filter(is_it)),
        }
    }

    /// Writes the binding to both objects, the volume first.
    async fn bind(
        &self,
        client: &Client,
        volume: Arc<PersistentVolume>,
        mut claim: Draft<'_, PersistentVolumeClaim>,
    ) -> Result<(), Error> {
        let mut volume = Draft::new(client, volume).noting(&self.volumes);
        let (metadata, reserved) = (&claim.seen.metadata, volume.seen.is_for(&claim.seen));
        if !reserved || volume.seen.spec.claim_ref.as_ref().is_none_or(|of| of.uid.is_empty()) {
            let reference = json!({
                "kind": PersistentVolumeClaim::KIND, "apiVersion": PersistentVolumeClaim::API_VERSION,
                "namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid,
                "resourceVersion": metadata.resource_version,
            });
            let change = |volume: &mut serde_json::Value| {
                volume["spec"]["claimRef"] = reference;
                if !reserved {
                    volume["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
                }
            };
            volume.update(change).await?;
        }
        write_volume(&mut volume, "Bound", "").await?;
        let (name, seen) = (&volume.seen.metadata.name, &claim.seen);
        let is_chosen = seen.spec.volume_name == *name;
        if !is_chosen || seen.metadata.annotation(BIND_COMPLETED).is_none() {
            let change = |claim: &mut serde_json::Value| {
                let annotations = &mut claim["metadata"]["annotations"];
                annotations[BIND_COMPLETED] = "yes".into();
                if !is_chosen {
                    if annotations[BOUND_BY_CONTROLLER].is_null() {
                        annotations[BOUND_BY_CONTROLLER] = "yes".into();
                    }
                    claim["spec"]["volumeName"] = name.as_str().into();
                }
            };
            claim.update(change).await?;
        }
        write_claim(&mut claim, "Bound", Some(&volume.seen)).await
    }

    /// Asks a driver for a volume, by annotations.
    async fn order(
        &self,
        mut claim: Draft<'_, PersistentVolumeClaim>,
        provisioner: &str,
    ) -> Result<(), Error> {
        if claim.seen.metadata.annotation(PROVISIONER) != Some(provisioner) {
            let mut annotations = claim.seen.metadata.annotations.clone();
            annotations.insert(PROVISIONER.to_owned(), provisioner.to_owned());
            annotations.insert(BETA_PROVISIONER.to_owned(), provisioner.to_owned());
            let annotations = migrated::of_claim(&annotations).unwrap_or(annotations);
            let written = claim.update(|claim| claim["metadata"]["annotations"] = json!(annotations)).await;
            if let Err(error) = &written {
                let message = format!("Error saving claim: {error}");
                self.report(&*claim.seen, Some(Report::warning("ProvisioningFailed", message)));
            }
            written?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.report(&*claim.seen, Some(Report::normal("ExternalProvisioning", message)));
        Ok(())
    }

    /// Takes back a binding of a volume whose claim has another one.
    async fn unbind(&self, mut volume: Draft<'_, PersistentVolume>) -> Result<(), Error> {
        let is_ours = volume.seen.metadata.annotation(BOUND_BY_CONTROLLER).is_some();
        let change = |volume: &mut serde_json::Value| {
            if !is_ours {
                // The user's choice of a claim stays.
                volume["spec"]["claimRef"]["uid"] = serde_json::Value::Null;
                return;
            }
            volume["spec"]["claimRef"] = serde_json::Value::Null;
            if let Some(annotations) = volume["metadata"]["annotations"].as_object_mut() {
                annotations.remove(BOUND_BY_CONTROLLER);
            }
        };
        volume.update(change).await?;
        write_volume(&mut volume, "Available", "").await
    }

    async fn reclaim(&self, client: &Client, mut volume: Draft<'_, PersistentVolume>) -> Result<Next, Error> {
        if !volume.seen.is_released() {
            write_volume(&mut volume, "Released", "").await?;
        }
        let again = Next::After(self.period);
        let failure = match reclaim::reclaim(&volume.seen) {
            Reclaim::Nothing => return Ok(Next::Done),
            Reclaim::Fail(report) => report,
            Reclaim::Delete(path) => {
                if !volume.is_current().await? {
                    return Ok(Next::Done);
                }
                let claim = self.claim_of(client, &volume.seen).await?;
                if !matches!(plan::for_volume(&volume.seen, claim.as_deref()), ForVolume::Reclaim) {
                    return Ok(Next::Done);
                }
                match reclaim::delete(&path).await {
                    Ok(()) => {
                        volume.remove_finalizer(migrated::FINALIZER).await?;
                        volume.delete().await?;
                        return Ok(Next::Done);
                    }
                    Err(message) => Report::warning("VolumeFailedDelete", message),
                }
            }
        };
        if volume.seen.status.phase != "Failed" {
            write_volume(&mut volume, "Failed", &failure.message).await?;
            self.report(&*volume.seen, Some(failure));
        }
        Ok(again)
    }
}

impl Report {
    fn normal(reason: &'static str, message: impl Into<String>) -> Report {
        Report { kind: EventType::Normal, reason, message: message.into() }
    }

    fn warning(reason: &'static str, message: impl Into<String>) -> Report {
        Report { kind: EventType::Warning, reason, message: message.into() }
    }
}
