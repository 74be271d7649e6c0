//! `ephemeral-volume-controller`: makes the claims that pods describe in their own volumes, and that go with them.

use std::sync::Arc;

use client::{Client, Event, EventRecorder, EventType, Informer, Key};
use controllers::views::{Object, PersistentVolumeClaim, Pod, Volume};
use controllers::{Context, Error, Next, Pods, Reconcile};
use serde_json::{Value, json};

use crate::{Options, metrics};

struct Controller {
    events: EventRecorder,
    pods: Pods,
    claims: Informer<PersistentVolumeClaim>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let (account, component) = ("ephemeral-volume-controller", "ephemeral_volume");
    let mut builder = context.builder("ephemeral_volume", account, component).await?;
    let controller =
        Controller { events: builder.events.clone(), pods: builder.pods(), claims: builder.reads() };
    let queue = builder.queue.clone();
    controller.pods.cache().on_keyed_event(move |key, event| {
        if matches!(event, Event::Added(_)) && needs_claims(event.object()) {
            queue.add(key.clone());
        }
    });
    let (queue, pods) = (builder.queue.clone(), controller.pods.clone());
    controller.claims.on_keyed_event(move |key, event| {
        if matches!(event, Event::Deleted(_)) {
            let users = pods.with_claim(&key.namespace, &key.name);
            users.iter().filter(|pod| needs_claims(pod)).for_each(|pod| queue.add(pod.metadata.cache_key()));
        }
    });
    builder.run(options.concurrent_ephemeralvolume_syncs, controller).await
}

fn needs_claims(pod: &Pod) -> bool {
    !pod.metadata.is_deleting() && pod.spec.volumes.iter().any(|volume| volume.ephemeral.is_some())
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(pod) = self.pods.cache.get_key(key).filter(|pod| needs_claims(pod)) else {
            return Ok(Next::Done);
        };
        for volume in pod.spec.volumes.iter().filter(|volume| volume.ephemeral.is_some()) {
            if let Err(error) = self.provide(client, &pod, volume).await {
                let message = format!("ephemeral volume {}: {error}", volume.name);
                self.events.event(&pod.reference(), EventType::Warning, "FailedBinding", &message);
                return Err(Error::Other(format!("pod {key}, {message}")));
            }
        }
        Ok(Next::Done)
    }
}

impl Controller {
    async fn provide(&self, client: &Client, pod: &Pod, volume: &Volume) -> Result<(), Error> {
        let meta = &pod.metadata;
        let name = format!("{}-{}", meta.name, volume.name);
        if let Some(claim) = self.claims.get(meta.namespace(), &name) {
            if claim.metadata.is_controlled_by(&meta.uid) {
                return Ok(());
            }
            let (namespace, pod) = (&meta.namespace, &meta.name);
            return Err(Error::Other(format!(
                "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
            )));
        }
        let created =
            client.create::<PersistentVolumeClaim>(meta.namespace(), &claim(pod, volume, &name)).await;
        metrics::volumes::ephemeral_created(created.is_err());
        created.map(drop).map_err(|error| Error::Other(format!("create PVC {name}: {error}")))
    }
}

fn claim(pod: &Pod, volume: &Volume, name: &str) -> Value {
    let template = volume.ephemeral.as_ref().map(|ephemeral| &ephemeral["volumeClaimTemplate"]);
    let part = |pointer: &str| template.and_then(|template| template.pointer(pointer)).cloned();
    json!({
        "apiVersion": PersistentVolumeClaim::API_VERSION,
        "kind": PersistentVolumeClaim::KIND,
        "metadata": {
            "name": name,
            "namespace": pod.metadata.namespace,
            "labels": part("/metadata/labels"),
            "annotations": part("/metadata/annotations"),
            "ownerReferences": [pod.metadata.controller_reference(Pod::API_VERSION, Pod::KIND)],
        },
        "spec": part("/spec"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_made_of_its_template() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"volumes": [{"name": "e", "emptyDir": {}}, {"name": "v", "ephemeral": {"volumeClaimTemplate": {
                "metadata": {"labels": {"a": "b"}}, "spec": {"resources": {"requests": {"storage": "1Gi"}}},
            }}}]},
        }))
        .unwrap();
        assert!(needs_claims(&pod));
        let made = claim(&pod, &pod.spec.volumes[0], "p-v");
        assert_eq!(
            (&made["metadata"]["labels"]["a"], &made["metadata"]["ownerReferences"][0]["uid"]),
            (&json!("b"), &json!("u"))
        );
        assert_eq!(made["spec"]["resources"]["requests"]["storage"], "1Gi");
    }
}
