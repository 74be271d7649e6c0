//! `podgroup-protection-controller`: a group of pods that is deleted stays until none of its pods runs. Admission gives it a
//! finalizer, which is taken away here.

use std::sync::Arc;

use client::{Client, Event, Index, Informer, Key};
use controllers::views::{HasMeta, Meta, Pod};
use controllers::{Context, Draft, Error, Next, Reconcile};
use k8s_openapi::api::scheduling::v1beta1;
use serde::Deserialize;

use crate::Options;

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodGroup {
    metadata: Meta,
}

impl client::View for PodGroup {
    type Of = v1beta1::PodGroup;
}

impl HasMeta for PodGroup {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

struct Controller {
    groups: Informer<PodGroup>,
    /// Pods that have not ended.
    pods: Index<Pod, Key>,
}

fn group_of(pod: &Pod) -> Option<Key> {
    let name = pod.spec.scheduling_group.as_ref()?.pod_group_name.as_ref()?;
    Some(Key::new(&pod.metadata.namespace, name))
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "podgroup-protection-controller";
    let mut builder = context.builder("podgroupprotection", account, account).await?;
    let groups = builder.reconciles::<PodGroup>();
    let pods = builder.pods();
    let queue = builder.queue.clone();
    pods.cache().on_event(move |event| {
        let pod = event.object();
        if let Some(group) = group_of(pod).filter(|_| pod.is_terminal() || matches!(event, Event::Deleted(_)))
        {
            queue.add(group);
        }
    });
    let pods = pods.cache().index(|pod| group_of(pod).filter(|_| !pod.is_terminal()));
    builder.run(1, Controller { groups, pods }).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(group) = self.groups.get_key(key) else { return Ok(Next::Done) };
        let is_leaving = group.metadata.is_deleting() && group.metadata.has_finalizer(FINALIZER);
        if is_leaving && self.pods.count(key) == 0 {
            Draft::new(client, group).remove_finalizer(FINALIZER).await?;
        }
        Ok(Next::Done)
    }
}
