//! `node-lifecycle-controller`: notices nodes that fell silent, says so in their conditions and taints, and marks
//! their pods not ready. Evicting them is `taint-eviction-controller`'s, by the taints.

mod health;
mod taints;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use client::{Client, EventRecorder, EventType, Informer, Key, Patch};
use controllers::many::call_all;
use controllers::views::{Condition, Lease, Node, Object, Pod, Taint};
use controllers::{Context, Error, Next, Pods, Reconcile, time};
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Options, metrics};
use health::Health;
use zones::Zones;

const LEASES: &str = "kube-node-lease";

/// Nodes that are written at a time.
const AT_ONCE: usize = 8;

/// Keeps taints and labels as the conditions say.
struct Follower {
    nodes: Informer<Node>,
}

/// Watches for nodes that fall silent.
struct Monitor {
    client: Client,
    events: EventRecorder,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Pods,
    options: Arc<Options>,
    zones: Mutex<Zones>,
    /// Nodes by zone, and how many of them are not ready, as metrics have them.
    counted: Mutex<BTreeMap<String, (u32, u32)>>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let queue = "node_lifecycle_controller";
    let mut builder = context.builder(queue, "node-controller", "node-controller").await?;
    let nodes = builder.reconciles();
    let monitor = Monitor {
        client: builder.client.clone(),
        events: builder.events.clone(),
        nodes: nodes.clone(),
        leases: builder.reads(),
        pods: builder.pods(),
        options,
        zones: Mutex::default(),
        counted: Mutex::default(),
    };
    if !builder.synced().await {
        return Ok(());
    }
    let (_, ended) = tokio::join!(monitor.run(&context.shutdown), builder.run(8, Follower { nodes }));
    ended
}

impl Reconcile for Follower {
    /// The taints that keep new pods away follow the conditions at once, and labels under earlier names the present ones.
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(Next::Done) };
        let labels = old_labels(&node);
        if !labels.is_empty() {
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            match client.patch::<Node>(None, &node.metadata.name, None, patch).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                // Its next state comes here again.
                _ => return Ok(Next::Done),
            }
        }
        if let Some(wanted) = taints::no_schedule(&node, jiff::Timestamp::now()) {
            write_taints(client, &node, wanted).await?;
        }
        Ok(Next::Done)
    }
}

async fn write_taints(client: &Client, node: &Node, taints: Vec<Taint>) -> Result<(), Error> {
    let patch = json!({
        "metadata": {"resourceVersion": node.metadata.resource_version},
        "spec": {"taints": taints},
    });
    match client.patch::<Node>(None, &node.metadata.name, None, Patch::Merge(patch)).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

impl Monitor {
    async fn run(&self, shutdown: &CancellationToken) {
        let mut known: BTreeMap<String, Health> = BTreeMap::new();
        let work = async {
            loop {
                self.round(&mut known).await;
                tokio::time::sleep(*self.options.node_monitor_period).await;
            }
        };
        let _: Option<std::convert::Infallible> = shutdown.run_until_cancelled(work).await;
    }

    async fn round(&self, known: &mut BTreeMap<String, Health>) {
        let began = Instant::now();
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
        }
        let each = nodes.iter().zip(known.values_mut()).map(|(node, health)| self.look(node, health, now));
        futures::stream::iter(each).for_each_concurrent(AT_ONCE, |look| look).await;
        metrics::nodes_looked_at(began.elapsed());
        let zones = nodes.iter().map(|node| (zones::key(node), state(known, node) == "True"));
        metrics::zones(zones, &mut self.counted.lock());
        self.taint_silent(&nodes, known).await;
    }

    /// One node: what its silence makes of its conditions and its pods.
    async fn look(&self, node: &Node, health: &mut Health, now: Instant) {
        let (name, began) = (&node.metadata.name, Instant::now());
        let grace = match Condition::find(&node.status.conditions, "Ready") {
            Some(_) => *self.options.node_monitor_grace_period,
            None => *self.options.node_startup_grace_period,
        };
        if health.is_silent(grace, now) {
            let wanted = health::unknown(node, jiff::Timestamp::now());
            if !wanted.is_empty() {
                tracing::info!(node = %name, "Node has not been updated in time, its status is unknown now");
                let patch = Patch::Strategic(json!({"status": {"conditions": wanted}}));
                if let Err(error) = self.client.patch::<Node>(None, name, Some("status"), patch).await
                    && !error.is_not_found()
                {
                    tracing::error!(node = %name, %error, "Updating the node's status failed");
                    return;
                }
            }
            if health.falls_silent(node) {
                let message = format!("Node {name} status is now: NodeNotReady");
                self.report(name, &node.metadata.uid, "NodeNotReady", &message);
            }
        }
        self.settle_marks(name, health).await;
        metrics::node_looked_at(began.elapsed());
    }

    async fn settle_marks(&self, name: &str, health: &mut Health) {
        if health.owes_marks {
            health.owes_marks = !self.mark_pods(name).await;
        }
    }

    /// No pod of a silent node is ready. False where not all could be marked.
    async fn mark_pods(&self, name: &str) -> bool {
        let pods = self.pods.on_node(name);
        let marks = pods.iter().filter(|pod| pod.is_ready()).map(|pod| self.mark(pod));
        call_all(marks).await.into_iter().all(|marked| marked)
    }

    async fn mark(&self, pod: &Pod) -> bool {
        self.events.event(&pod.reference(), EventType::Warning, "NodeNotReady", "Node is not ready");
        let meta = &pod.metadata;
        let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [{
            "type": "Ready", "status": "False", "lastTransitionTime": time::text(jiff::Timestamp::now()),
        }]}});
        let patch = Patch::Strategic(patch);
        match self.client.patch::<Pod>(meta.namespace(), &meta.name, Some("status"), patch).await {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(pod = %meta.key(), %error, "Marking a pod not ready failed");
                false
            }
            _ => true,
        }
    }

    /// The taints that drive pods away come at a limited rate, and not at all when every node is silent: then it is
    /// rather we who are cut off.
    async fn taint_silent(&self, nodes: &[Arc<Node>], known: &mut BTreeMap<String, Health>) {
        let now = Instant::now();
        let all_silent = {
            let mut zones = self.zones.lock();
            let before = zones.all_disrupted();
            zones.count(
                nodes.iter().map(|node| (zones::of(node), state(known, node) == "True")),
                &self.options,
                now,
            );
            let all_silent = zones.all_disrupted();
            if before && !all_silent {
                // It was rather we who were cut off, and nothing was heard of any node.
                known.values_mut().for_each(|health| health.excuse(now));
            }
            all_silent
        };
        let known = &*known;
        let each = nodes.iter().map(|node| async move {
            let state = if all_silent { "True" } else { state(known, node) };
            let Some(wanted) = taints::no_execute(node, state, jiff::Timestamp::now()) else { return };
            let adds = taints::adds_no_execute(&node.spec.taints, &wanted);
            if adds && (self.was_heard(node, known) || !self.zones.lock().may_evict(&zones::of(node), now)) {
                return;
            }
            if let Err(error) = self.taint_fresh(&node.metadata.name, state).await {
                tracing::debug!(node = %node.metadata.name, %error, "Tainting failed, the next round tries again");
                if adds {
                    self.zones.lock().give_back(&zones::of(node));
                }
            } else if adds {
                metrics::node_evicted(&zones::key(node));
            }
        });
        futures::stream::iter(each).for_each_concurrent(AT_ONCE, |taint| taint).await;
    }

    /// Whether a silent node has been heard of since the round began.
    fn was_heard(&self, node: &Node, known: &BTreeMap<String, Health>) -> bool {
        let name = &node.metadata.name;
        let health = known.get(name).filter(|health| health.silent);
        let (current, lease) = (self.nodes.get(None, name), self.leases.get(Some(LEASES), name));
        health.zip(current).is_some_and(|(health, current)| health.is_news(&current, lease.as_deref()))
    }

    /// The node has just been written, by us among others, so that the cache would be refused.
    async fn taint_fresh(&self, name: &str, state: &str) -> Result<(), Error> {
        let node: Node = match self.client.get(None, name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            result => result?,
        };
        match taints::no_execute(&node, state, jiff::Timestamp::now()) {
            Some(wanted) => write_taints(&self.client, &node, wanted).await,
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

/// The readiness of a node that its taints follow.
fn state(known: &BTreeMap<String, Health>, node: &Node) -> &'static str {
    let ready = Condition::find(&node.status.conditions, "Ready");
    match (known.get(&node.metadata.name), ready) {
        (Some(health), _) if health.silent => "Unknown",
        (_, Some(ready)) => match ready.status.as_str() {
            "True" => "True",
            "False" => "False",
            _ => "Unknown",
        },
        (_, None) => "Unstarted",
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
