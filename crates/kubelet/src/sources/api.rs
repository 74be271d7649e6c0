//! Pods bound to this node, by an informer over `spec.nodeName`.

use super::{Change, Changes};
use client::{Event, Informer, Informers, Scope, Selectors};
use k8s_openapi::api::core::v1::Pod;

pub fn watch(informers: &Informers, node: &str, changes: Changes) -> Informer<Pod> {
    let informer = informers.watch::<Pod>(Scope::All, Selectors::fields(format!("spec.nodeName={node}")));
    informer.on_event(move |event| {
        let change = match event {
            Event::Added(pod) | Event::Modified { new: pod, .. } => Change::Put(pod.clone()),
            Event::Deleted(pod) => Change::Removed(pod.clone()),
        };
        changes.send(change);
    });
    informer
}
