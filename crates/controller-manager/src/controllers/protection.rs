//! `persistentvolumeclaim-protection-controller`, `persistentvolume-protection-controller` and
//! `volumeattributesclass-protection-controller`: what is in use stays until it is not. The API server gives these
//! objects a finalizer when they are created, and here it is taken away when a deleted one is used no more.
//!
//! A claim is used by pods that have a node, a volume by the claim it is bound to, a class by claims and volumes.

mod views;

use std::sync::Arc;

use client::{Client, Event, Informer, Key, ListOptions, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::context::{Context, Error};
use views::{Claimant, Guarded, Kind, Raw};

/// Claims that are being deleted, by namespace.
const LEAVING_INDEX: &str = "leaving";
/// Claims and volumes by the names of their classes.
const CLASS_INDEX: &str = "class";

/// Who uses the objects of a kind.
trait Users: Send + Sync + 'static {
    type Of: Kind;
    const FINALIZER: &'static str;

    fn use_it(
        &self,
        client: &Client,
        object: &Guarded<Self::Of>,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
}

struct ByPods;

impl Users for ByPods {
    type Of = PersistentVolumeClaim;
    const FINALIZER: &'static str = "kubernetes.io/pvc-protection";

    /// Asks the API server: caches may be behind, and a claim that goes too early is a volume lost.
    async fn use_it(&self, client: &Client, claim: &Guarded<Self::Of>) -> Result<bool, Error> {
        let pods = client.list::<Claimant>(Some(&claim.metadata.namespace), &ListOptions::default()).await?;
        Ok(pods.items.iter().any(|pod| pod.uses(&claim.metadata.name)))
    }
}

struct ByBinding;

impl Users for ByBinding {
    type Of = PersistentVolume;
    const FINALIZER: &'static str = "kubernetes.io/pv-protection";

    async fn use_it(&self, _: &Client, volume: &Guarded<Self::Of>) -> Result<bool, Error> {
        Ok(volume.status.phase == "Bound")
    }
}

struct ByClaimsAndVolumes {
    claims: Informer<Guarded<PersistentVolumeClaim>>,
    volumes: Informer<Guarded<PersistentVolume>>,
}

impl Users for ByClaimsAndVolumes {
    type Of = VolumeAttributesClass;
    const FINALIZER: &'static str = "kubernetes.io/vac-protection";

    async fn use_it(&self, _: &Client, class: &Guarded<Self::Of>) -> Result<bool, Error> {
        let name = &class.metadata.name;
        let claimed = !self.claims.by_index(CLASS_INDEX, name).is_empty();
        Ok(claimed || !self.volumes.by_index(CLASS_INDEX, name).is_empty())
    }
}

pub async fn run_claims(context: Context) -> Result<(), Error> {
    let client = context.client("pvc-protection-controller").await?;
    let queue = context.queue("pvcprotection");
    let claims: Informer<Guarded<PersistentVolumeClaim>> = context.informers.all();
    claims.add_index(LEAVING_INDEX, |claim| {
        claim.is_leaving().then(|| claim.metadata.namespace.clone()).into_iter().collect()
    });
    enqueue(&claims, &queue, ByPods::FINALIZER);
    let pods = context.pods();
    let (leaving, touch) = (claims.clone(), queue.clone());
    pods.on_keyed_event(move |key, event| {
        if let Event::Deleted(_) = event {
            for claim in leaving.by_index(LEAVING_INDEX, &key.namespace) {
                touch.add(Key::new(&key.namespace, &claim.metadata.name));
            }
        }
    });
    claims.synced().await;
    pods.synced().await;
    work(context, client, claims, queue, ByPods).await;
    Ok(())
}

pub async fn run_volumes(context: Context) -> Result<(), Error> {
    let client = context.client("pv-protection-controller").await?;
    let queue = context.queue("pvprotection");
    let volumes: Informer<Guarded<PersistentVolume>> = context.informers.all();
    enqueue(&volumes, &queue, ByBinding::FINALIZER);
    volumes.synced().await;
    work(context, client, volumes, queue, ByBinding).await;
    Ok(())
}

pub async fn run_classes(context: Context) -> Result<(), Error> {
    let client = context.client("volumeattributesclass-protection-controller").await?;
    let queue = context.queue("vacprotection");
    let classes: Informer<Guarded<VolumeAttributesClass>> = context.informers.all();
    let claims: Informer<Guarded<PersistentVolumeClaim>> = context.informers.all();
    let volumes: Informer<Guarded<PersistentVolume>> = context.informers.all();
    follow(&claims, &queue);
    follow(&volumes, &queue);
    enqueue(&classes, &queue, ByClaimsAndVolumes::FINALIZER);
    claims.synced().await;
    volumes.synced().await;
    classes.synced().await;
    work(context, client, classes, queue, ByClaimsAndVolumes { claims, volumes }).await;
    Ok(())
}

/// Objects that have too few finalizers, or too many.
fn enqueue<K: Kind>(objects: &Informer<Guarded<K>>, queue: &WorkQueue<Key>, finalizer: &'static str) {
    let touch = queue.clone();
    objects.on_keyed_event(move |key, event| {
        let deleted = matches!(event, Event::Deleted(_));
        if !deleted && event.object().wants_change(finalizer) {
            touch.add(key.clone());
        }
    });
}

/// Classes that a claim or a volume may have been the last user of.
fn follow<K: Kind>(users: &Informer<Guarded<K>>, queue: &WorkQueue<Key>) {
    users.add_index(CLASS_INDEX, |user| user.classes().map(str::to_owned).collect());
    let touch = queue.clone();
    users.on_event(move |event| {
        let before = match event {
            Event::Added(_) => None,
            Event::Modified { old, .. } => Some(old),
            Event::Deleted(last) => Some(last),
        };
        for class in before.iter().flat_map(|user| user.classes()) {
            touch.add(Key::new("", class));
        }
    });
}

async fn work<U: Users>(
    context: Context,
    client: Client,
    objects: Informer<Guarded<U::Of>>,
    queue: WorkQueue<Key>,
    users: U,
) {
    let shared = Arc::new((client, objects, users));
    context
        .work(queue, 1, move |key| {
            let shared = shared.clone();
            async move {
                let (client, objects, users) = &*shared;
                let Some(object) = objects.get_key(&key) else { return Ok(()) };
                if !object.wants_change(U::FINALIZER) {
                    return Ok(());
                }
                if object.is_leaving() && users.use_it(client, &object).await? {
                    return Ok(());
                }
                change(client, &object, &key, U::FINALIZER).await
            }
        })
        .await;
}

/// Adds the finalizer to an object that stays, and takes it from one that goes, if it is still the object looked at.
async fn change<K: Kind>(
    client: &Client,
    object: &Guarded<K>,
    key: &Key,
    finalizer: &str,
) -> Result<(), Error> {
    let mut whole = match client.get::<Raw<K>>(key.namespace(), &key.name).await {
        Err(error) if error.is_not_found() => return Ok(()),
        found => found?,
    };
    if whole.change(object, finalizer) {
        match client.update::<Raw<K>>(key.namespace(), &key.name, &whole).await {
            Err(error) if error.is_not_found() => {}
            result => drop(result?),
        }
    }
    Ok(())
}
