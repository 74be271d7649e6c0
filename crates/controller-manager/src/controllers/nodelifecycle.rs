//! `node-lifecycle-controller`: notices nodes that fell silent, says so in their conditions and taints, and marks
//! their pods not ready. Evicting them is `taint-eviction-controller`'s, by the taints.

mod health;
mod taints;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use client::{Client, EventRecorder, EventType, Informer, Key, Patch, Selectors};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Error, NODE_INDEX};
use crate::options::Options;
use crate::support::time;
use crate::views::{Condition, Lease, Node, Object, Pod, Taint};
use health::Health;
use zones::Zones;

const LEASES: &str = "kube-node-lease";

struct Controller {
    client: Client,
    events: EventRecorder,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    options: Arc<Options>,
    zones: Mutex<Zones>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("node-controller").await?;
    let events = context.events(&client, "node-controller");
    let queue = context.queue("node_lifecycle_controller");
    let nodes: Informer<Node> = context.informers.all();
    let leases: Informer<Lease> =
        context.informers.watch(client::Scope::Namespace(LEASES.to_owned()), Selectors::none());
    let pods = context.pods();
    leases.synced().await;
    pods.synced().await;
    nodes.enqueue_to(queue.clone());
    nodes.synced().await;
    let controller = Arc::new(Controller {
        client,
        events,
        nodes,
        leases,
        pods,
        options: context.options.clone(),
        zones: Mutex::new(Zones::default()),
    });
    let monitor = controller.monitor(&context);
    let worker = controller.clone();
    let workers = context.work(queue, 8, move |key| {
        let controller = worker.clone();
        async move { controller.follow(&key).await }
    });
    tokio::join!(monitor, workers);
    Ok(())
}

impl Controller {
    /// The taints that keep new pods away follow the conditions at once, the labels of old the ones that took their place.
    async fn follow(&self, key: &Key) -> Result<(), Error> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(()) };
        let labels = old_labels(&node);
        if !labels.is_empty() {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            match self.client.patch::<Node>(None, &node.metadata.name, None, patch).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                // Its next state comes here again.
                _ => return Ok(()),
            }
        }
        match taints::no_schedule(&node, jiff::Timestamp::now()) {
            Some(wanted) => self.write_taints(&node, wanted).await,
            None => Ok(()),
        }
    }

    async fn write_taints(&self, node: &Node, taints: Vec<Taint>) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        match self.client.patch::<Node>(None, &node.metadata.name, None, Patch::Merge(patch)).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    async fn monitor(&self, context: &Context) {
        let mut known: BTreeMap<String, Health> = BTreeMap::new();
        loop {
            self.round(&mut known).await;
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                () = tokio::time::sleep(*self.options.node_monitor_period) => {}
            }
        }
    }

    async fn round(&self, known: &mut BTreeMap<String, Health>) {
        let mut nodes = self.nodes.list();
        nodes.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
        known.retain(|name, health| {
            let there = self.nodes.get(None, name).is_some();
            if !there {
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.report(name, &health.uid, "RemovingNode", &message);
            }
            there
        });
        let now = Instant::now();
        for node in &nodes {
            let name = &node.metadata.name;
            let lease = self.leases.get(Some(LEASES), name);
            let fresh = !known.contains_key(name);
            let health =
                known.entry(name.clone()).or_insert_with(|| Health::new(node, lease.as_deref(), now));
            if fresh {
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.report(name, &node.metadata.uid, "RegisteredNode", &message);
            }
            health.observe(node, lease.as_deref(), now);
            let grace = match Condition::find(&node.status.conditions, "Ready") {
                Some(_) => *self.options.node_monitor_grace_period,
                None => *self.options.node_startup_grace_period,
            };
            if !health.is_silent(grace, now) {
                self.settle_marks(name, health).await;
                continue;
            }
            let wanted = health::unknown(node, jiff::Timestamp::now());
            if !wanted.is_empty() {
                tracing::info!(node = %name, "Node has not been updated in time, its status is unknown now");
                let patch = Patch::Strategic(json!({"status": {"conditions": wanted}}));
                if let Err(error) = self.client.patch::<Node>(None, name, Some("status"), patch).await
                    && !error.is_not_found()
                {
                    tracing::error!(node = %name, %error, "updating the node's status");
                    continue;
                }
            }
            if health.falls_silent(node) {
                let message = format!("Node {name} status is now: NodeNotReady");
                self.report(name, &node.metadata.uid, "NodeNotReady", &message);
            }
            self.settle_marks(name, health).await;
        }
        self.taint_silent(&nodes, known).await;
    }

    async fn settle_marks(&self, name: &str, health: &mut Health) {
        if health.owes_marks {
            health.owes_marks = !self.mark_pods(name).await;
        }
    }

    /// No pod of a silent node is ready. False where not all could be marked.
    async fn mark_pods(&self, name: &str) -> bool {
        let mut complete = true;
        for pod in self.pods.by_index(NODE_INDEX, name).into_iter().filter(|pod| pod.is_ready()) {
            self.events.event(&pod.reference(), EventType::Warning, "NodeNotReady", "Node is not ready");
            let meta = &pod.metadata;
            let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [{
                "type": "Ready", "status": "False", "lastTransitionTime": time::text(jiff::Timestamp::now()),
            }]}});
            let patched = self.client.patch::<Pod>(
                Some(&meta.namespace),
                &meta.name,
                Some("status"),
                Patch::Strategic(patch),
            );
            if let Err(error) = patched.await
                && !error.is_not_found()
            {
                tracing::warn!(pod = %meta.key(), %error, "marking a pod not ready");
                complete = false;
            }
        }
        complete
    }

    /// The taints that drive pods away come at a limited rate, and not at all when every node is silent: then it is
    /// rather we who are cut off.
    async fn taint_silent(&self, nodes: &[Arc<Node>], known: &BTreeMap<String, Health>) {
        let state = |node: &Node| match (
            known.get(&node.metadata.name),
            Condition::find(&node.status.conditions, "Ready"),
        ) {
            (Some(health), _) if health.silent => "Unknown",
            (_, Some(ready)) => match ready.status.as_str() {
                "True" => "True",
                "False" => "False",
                _ => "Unknown",
            },
            (_, None) => "Unstarted",
        };
        let now = Instant::now();
        let all_silent = {
            let mut zones = self.zones.lock();
            zones.count(
                nodes.iter().map(|node| (zones::of(node), state(node) == "True")),
                &self.options,
                now,
            );
            zones.all_disrupted()
        };
        for node in nodes {
            let state = if all_silent { "True" } else { state(node) };
            let Some(wanted) = taints::no_execute(node, state, jiff::Timestamp::now()) else { continue };
            let adds = taints::adds_no_execute(&node.spec.taints, &wanted);
            if adds && !self.zones.lock().may_evict(&zones::of(node), now) {
                continue;
            }
            if let Err(error) = self.taint_fresh(&node.metadata.name, state).await {
                tracing::debug!(node = %node.metadata.name, %error, "tainting, the next round tries again");
                if adds {
                    self.zones.lock().give_back(&zones::of(node));
                }
            } else if adds {
                crate::metrics::node_evicted(&zones::key(node));
            }
        }
    }

    /// The node has just been written, by us among others, so that the cache would be refused.
    async fn taint_fresh(&self, name: &str, state: &str) -> Result<(), Error> {
        let node: Node = match self.client.get(None, name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            result => result?,
        };
        match taints::no_execute(&node, state, jiff::Timestamp::now()) {
            Some(wanted) => self.write_taints(&node, wanted).await,
            None => Ok(()),
        }
    }

    fn report(&self, name: &str, uid: &str, reason: &str, message: &str) {
        let node = client::ObjectReference {
            api_version: Node::API_VERSION.to_owned(),
            kind: Node::KIND.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            ..Default::default()
        };
        self.events.event(&node, EventType::Normal, reason, message);
    }
}

/// Labels under their beta names that are not there, or are not what the present names say.
fn old_labels(node: &Node) -> BTreeMap<&'static str, String> {
    let labels = &node.metadata.labels;
    let pairs =
        [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];
    let missing = pairs.into_iter().filter_map(|(present, old)| {
        let value = labels.get(present)?;
        (labels.get(old) != Some(value)).then(|| (old, value.to_string()))
    });
    missing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_old() {
        let old = |labels: serde_json::Value| {
            old_labels(&serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels}})).unwrap())
        };
        assert!(old(json!({"a": "b"})).is_empty());
        assert_eq!(
            old(
                json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "beta.kubernetes.io/arch": "amd64"})
            ),
            [("beta.kubernetes.io/os", "linux".to_owned()), ("beta.kubernetes.io/arch", "arm64".to_owned())]
                .into()
        );
        assert!(old(json!({"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux"})).is_empty());
    }
}
