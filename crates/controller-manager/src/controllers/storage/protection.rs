//! `persistentvolumeclaim-protection-controller`, `persistentvolume-protection-controller` and
//! `volumeattributesclass-protection-controller`: what is in use stays until it is not. The API server gives these
//! objects a finalizer when they are created, and here it is taken away when a deleted one is used no more.
//!
//! A claim is used by pods that have a node, a volume by the claim it is bound to, a class by claims and volumes.

mod views;

use std::sync::Arc;

use client::{Client, Event, Index, Informer, Key, ListOptions, WorkQueue};
use controllers::views::Pod;
use controllers::{Builder, Context, Error, Next, Pods, Reconcile};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::Options;
use views::{Claimant, Guarded, Kind, Raw};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

/// Claims, a namespace at a time: all that leave it are asked for at once.
struct Claims {
    pods: Pods,
    /// Those that have too few finalizers, or too many, by namespace.
    changing: Index<Guarded<PersistentVolumeClaim>, String>,
}

pub async fn run_claims(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "pvc-protection-controller";
    let mut builder = context.builder("pvcprotection", account, account).await?;
    let claims = builder.reads::<Guarded<PersistentVolumeClaim>>();
    let changing = claims.index(|claim| claim.wants_change(CLAIM).then(|| claim.metadata.namespace.clone()));
    let pods = builder.pods();
    let queue = builder.queue.clone();
    claims.on_keyed_event(move |key, event| {
        if !matches!(event, Event::Deleted(_)) && event.object().wants_change(CLAIM) {
            queue.add(Key::new("", &key.namespace));
        }
    });
    // A pod that ended holds a claim until it is gone.
    let (queue, leaving) = (builder.queue.clone(), changing.clone());
    pods.cache().on_keyed_event(move |key, event| {
        if let Event::Deleted(pod) = event
            && !pod.spec.volumes.is_empty()
            && leaving.any(&*key.namespace, |claim| claim.is_leaving())
        {
            queue.add(Key::new("", &key.namespace));
        }
    });
    builder.run(1, Claims { pods, changing }).await
}

impl Reconcile for Claims {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let mut listed: Option<Vec<Claimant>> = None;
        for claim in self.changing.get(&*key.name) {
            let name = &claim.metadata.name;
            if claim.is_leaving() {
                if self.pods.any_with_claim(&key.name, name, |pod: &Pod| !pod.spec.node_name.is_empty()) {
                    continue;
                }
                // The cache may be behind, and a claim that goes too early is a volume lost: the server is asked, too.
                let pods = match listed.take() {
                    Some(pods) => pods,
                    None => client.list(Some(&key.name), &ListOptions::default()).await?.items,
                };
                let used = pods.iter().any(|pod| pod.uses(name));
                listed = Some(pods);
                if used {
                    continue;
                }
            }
            change(client, &claim, &Key::new(&key.name, name), CLAIM).await?;
        }
        Ok(Next::Done)
    }
}

/// Volumes, which are used while they are bound.
struct Volumes {
    volumes: Informer<Guarded<PersistentVolume>>,
}

pub async fn run_volumes(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "pv-protection-controller";
    let mut builder = context.builder("pvprotection", account, account).await?;
    let volumes = builder.reads();
    enqueue(&volumes, &builder.queue, VOLUME);
    builder.run(1, Volumes { volumes }).await
}

impl Reconcile for Volumes {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        if let Some(volume) = self.volumes.get_key(key).filter(|volume| volume.wants_change(VOLUME))
            && !(volume.is_leaving() && volume.status.phase == "Bound")
        {
            change(client, &volume, key, VOLUME).await?;
        }
        Ok(Next::Done)
    }
}

/// Classes, which claims and volumes use.
struct Classes {
    classes: Informer<Guarded<VolumeAttributesClass>>,
    claims: Index<Guarded<PersistentVolumeClaim>, String>,
    volumes: Index<Guarded<PersistentVolume>, String>,
}

pub async fn run_classes(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "volumeattributesclass-protection-controller";
    let mut builder = context.builder("vacprotection", account, account).await?;
    let classes = builder.reads();
    enqueue(&classes, &builder.queue, CLASS);
    let controller = Classes { classes, claims: users(&mut builder), volumes: users(&mut builder) };
    builder.run(1, controller).await
}

impl Reconcile for Classes {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(class) = self.classes.get_key(key).filter(|class| class.wants_change(CLASS)) else {
            return Ok(Next::Done);
        };
        let used = || self.claims.count(&*key.name) + self.volumes.count(&*key.name) > 0;
        if !(class.is_leaving() && used()) {
            change(client, &class, key, CLASS).await?;
        }
        Ok(Next::Done)
    }
}

/// Objects that have too few finalizers, or too many.
fn enqueue<K: Kind>(objects: &Informer<Guarded<K>>, queue: &WorkQueue<Key>, finalizer: &'static str) {
    let queue = queue.clone();
    objects.on_keyed_event(move |key, event| {
        if !matches!(event, Event::Deleted(_)) && event.object().wants_change(finalizer) {
            queue.add(key.clone());
        }
    });
}

/// The users of classes, each of which may be the last one of its class.
fn users<K: Kind>(builder: &mut Builder) -> Index<Guarded<K>, String> {
    let users = builder.reads::<Guarded<K>>();
    let queue = builder.queue.clone();
    users.on_event(move |event| {
        let before = match event {
            Event::Added(_) => None,
            Event::Modified { old, .. } => Some(old),
            Event::Deleted(last) => Some(last),
        };
        for class in before.iter().flat_map(|user| user.classes()) {
            queue.add(Key::new("", class));
        }
    });
    users.index(|user| user.classes().map(str::to_owned).collect::<Vec<_>>())
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
