//! `persistentvolume-expander-controller`: reports that a claim waits for its driver to enlarge the volume, and names the
//! driver where it took over from a plugin.
//!
//! Absent: volumes of flex plugins, which the kubelet enlarges.

use std::cmp::Ordering;
use std::sync::Arc;

use client::{Client, Event, EventRecorder, EventType, Informer, Key, Patch};
use controllers::views::{Object, PersistentVolume, PersistentVolumeClaim, Quantities};
use controllers::{Context, Error, Next, Reconcile};
use machinery::quantity::Quantity;
use serde_json::json;

use super::binder::{PRE_RESIZE_CAPACITY, migrated};
use crate::Options;

const RESIZER: &str = "volume.kubernetes.io/storage-resizer";
const WORKERS: usize = 10;

struct Controller {
    events: EventRecorder,
    claims: Informer<PersistentVolumeClaim>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let mut builder = context.builder("volume_expand", "expand-controller", "volume_expand").await?;
    let controller = Controller { events: builder.events.clone(), claims: builder.reads() };
    let queue = builder.queue.clone();
    controller.claims.on_keyed_event(move |key, event| {
        let new = event.object();
        let grows = |old: &PersistentVolumeClaim| {
            compare(&new.spec.resources.requests, &old.spec.resources.requests).is_gt()
                || compare(&new.status.capacity, &old.status.capacity).is_gt()
        };
        let is_new = !matches!(event, Event::Deleted(_)) && event.old().is_none_or(|old| grows(old));
        if is_new && new.status.phase == "Bound" {
            queue.add(key.clone());
        }
    });
    builder.run(WORKERS, controller).await
}

fn compare(one: &Quantities, other: &Quantities) -> Ordering {
    let size = |amounts: &Quantities| {
        let text = amounts.get("storage");
        text.and_then(|text| Quantity::parse(text).ok()).unwrap_or(Quantity::ZERO)
    };
    size(one).cmp(&size(other))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(Next::Done) };
        let name = &claim.spec.volume_name;
        let volume = client.get::<PersistentVolume>(None, name).await;
        let volume = volume.map_err(|error| Error::Other(format!("failed to get PV {name:?}: {error}")))?;
        let is_its = |of: &controllers::views::ClaimReference| {
            of.uid == claim.metadata.uid && of.namespace == claim.metadata.namespace
        };
        if !volume.spec.claim_ref.as_ref().is_some_and(is_its) {
            return Err(Error::Other(format!("persistent Volume is not bound to PVC being updated : {key}")));
        }
        let is_large_enough = compare(&claim.spec.resources.requests, &claim.status.capacity).is_le();
        if is_large_enough && volume.metadata.annotation(PRE_RESIZE_CAPACITY).is_none() {
            return Ok(Next::Done);
        }
        let report = |message: &str| {
            self.events.event(&claim.reference(), EventType::Normal, "ExternalExpanding", message);
        };
        let Some(plugin) = volume.spec.migrated_plugin() else {
            if volume.spec.flex_volume.is_none() {
                report("waiting for an external controller to expand this PVC");
            }
            return Ok(Next::Done);
        };
        report(&format!(
            "CSI migration enabled for {plugin}; waiting for external resizer to expand the pvc"
        ));
        let driver = migrated::driver(plugin);
        if let Some(driver) = driver.filter(|driver| claim.metadata.annotation(RESIZER) != Some(driver)) {
            let meta = &claim.metadata;
            let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version,
                "annotations": {RESIZER: driver}}});
            let patch = Patch::Strategic(patch);
            client
                .patch::<PersistentVolumeClaim>(meta.namespace(), &meta.name, Some("status"), patch)
                .await?;
        }
        Ok(Next::Done)
    }
}
