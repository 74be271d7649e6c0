//! Informers of what placement depends on besides pods and nodes.

use std::sync::Arc;
use std::time::Duration;

use client::{Event, Informer, Informers, Key, View};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::facts::Budget;
use crate::cluster::facts::devices::{DeviceClass, Slice, TaintRule};
use crate::cluster::facts::selectors::{
    ReplicaSetView, ReplicationControllerView, ServiceView, StatefulSetView,
};
use crate::cluster::facts::storage::{Attachment, Capacity, Class, CsiDriver, CsiNode};
use crate::cluster::pod::OwnerKind;
use crate::core::Core;
use crate::framework::{Handle, Subject};

/// Where events go.
#[derive(Clone)]
pub struct Feed {
    pub core: Arc<Mutex<Core>>,
    pub wake: Arc<Notify>,
    pub started: Instant,
}

type Synced = Box<dyn Fn() -> bool + Send + Sync>;

impl Feed {
    /// Hands each object to `set`, and each one that is gone to `remove`.
    fn follow<V: View>(
        &self,
        informer: &Informer<V>,
        set: fn(&mut Core, &Arc<V>, Duration),
        remove: fn(&mut Core, &V, Duration),
    ) -> Synced {
        let feed = self.clone();
        informer.on_event(move |event| {
            let mut core = feed.core.lock();
            match event {
                Event::Added(object) | Event::Modified { new: object, .. } => {
                    set(&mut core, object, feed.started.elapsed());
                }
                Event::Deleted(object) => remove(&mut core, object, feed.started.elapsed()),
            }
            drop(core);
            feed.wake.notify_one();
        });
        let informer = informer.clone();
        Box::new(move || informer.has_synced())
    }
}

/// Follows volumes that are attached: the end of one may help pods.
fn follow_attachments(feed: &Feed, informer: &Informer<Attachment>) -> Synced {
    let own = feed.clone();
    informer.on_event(move |event| {
        let mut core = own.core.lock();
        match event {
            Event::Added(attachment) | Event::Modified { new: attachment, .. } => {
                core.table.facts.set_attachment(attachment);
            }
            Event::Deleted(attachment) => core.remove_attachment(attachment, own.started.elapsed()),
        }
        drop(core);
        own.wake.notify_one();
    });
    let informer = informer.clone();
    Box::new(move || informer.has_synced())
}

/// Follows all facts; returns how to see whether each of their caches is filled.
pub fn follow(informers: &Informers, handle: &Handle, feed: &Feed) -> Vec<Synced> {
    let (claims, volumes) = (handle.changes.clone(), handle.changes.clone());
    handle.claims.on_event(move |event| claims.notify(&Subject::Claim(event.object().key.clone())));
    handle.volumes.on_event(move |event| {
        let volume = event.object();
        volumes.notify(&Subject::Volume(volume.name.clone()));
        if let Some(claim) = &volume.claim {
            volumes.notify(&Subject::Claim(Key::new(&claim.namespace, &claim.name)));
        }
    });
    let devices = handle.changes.clone();
    handle.device_claims.on_event(move |event| {
        devices.notify(&Subject::DeviceClaim(event.object().key.clone()));
    });
    vec![
        follow_attachments(feed, &informers.all()),
        feed.follow(&handle.claims, Core::set_claim, |core, claim, _| {
            core.table.facts.claims.remove(&claim.key)
        }),
        feed.follow(&handle.volumes, Core::set_volume, |core, volume, _| {
            core.table.facts.remove_volume(&volume.name);
        }),
        feed.follow::<Class>(&informers.all(), Core::set_class, |core, class, _| {
            core.table.facts.classes.remove(&class.name);
        }),
        feed.follow::<CsiNode>(&informers.all(), Core::set_csi_node, |core, node, _| {
            core.table.facts.csi_nodes.remove(&node.name);
        }),
        feed.follow::<CsiDriver>(&informers.all(), Core::set_csi_driver, |core, driver, _| {
            core.table.facts.csi_drivers.remove(&driver.name);
        }),
        feed.follow::<Capacity>(&informers.all(), Core::set_capacity, |core, capacity, _| {
            core.table.facts.capacities.remove(&capacity.key);
        }),
        feed.follow(&handle.device_claims, Core::set_device_claim, Core::remove_device_claim),
        feed.follow::<DeviceClass>(&informers.all(), Core::set_device_class, |core, class, _| {
            core.table.facts.devices.classes.remove(&class.name);
        }),
        feed.follow::<Slice>(&informers.all(), Core::set_device_slice, |core, slice, _| {
            core.table.facts.devices.remove_slice(&slice.name);
        }),
        feed.follow::<TaintRule>(&informers.all(), Core::set_device_rule, |core, rule, now| {
            core.remove_device_rule(&rule.name, now);
        }),
        feed.follow::<Budget>(
            &informers.all(),
            |core, budget, _| core.table.facts.set_budget(budget),
            |core, budget, _| core.table.facts.remove_budget(&budget.key),
        ),
        feed.follow::<ServiceView>(
            &informers.all(),
            |core, service, _| core.table.facts.selectors.set_service(&service.0),
            |core, service, _| core.table.facts.selectors.remove_service(&service.0.key),
        ),
        feed.follow::<ReplicationControllerView>(
            &informers.all(),
            |core, own, _| core.table.facts.selectors.set_replication_controller(&own.0),
            |core, own, _| remove(core, OwnerKind::ReplicationController, &own.0.key),
        ),
        feed.follow::<ReplicaSetView>(
            &informers.all(),
            |core, own, _| core.table.facts.selectors.set_controller(OwnerKind::ReplicaSet, &own.0),
            |core, own, _| remove(core, OwnerKind::ReplicaSet, &own.0.key),
        ),
        feed.follow::<StatefulSetView>(
            &informers.all(),
            |core, own, _| core.table.facts.selectors.set_controller(OwnerKind::StatefulSet, &own.0),
            |core, own, _| remove(core, OwnerKind::StatefulSet, &own.0.key),
        ),
    ]
}

fn remove(core: &mut Core, kind: OwnerKind, key: &Key) {
    core.table.facts.selectors.remove_controller(kind, key);
}
