//! `node-ipam-controller`: gives every node its range of pod addresses, with `--allocate-node-cidrs`.
//!
//! What is taken is read from the nodes themselves, so a restart knows all of it.

mod ranges;

use std::collections::HashSet;
use std::sync::Arc;

use client::{Client, Event, EventRecorder, EventType, Informer, Key, Patch};
use ipnet::IpNet;
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Error};
use crate::options::Options;
use crate::views::{Node, Object};
use ranges::Ranges;

struct Controller {
    client: Client,
    events: EventRecorder,
    nodes: Informer<Node>,
    /// One set of ranges per IP family.
    ranges: Mutex<Vec<Ranges>>,
    /// Uids of nodes that have got theirs, which the cache does not show yet.
    served: Mutex<HashSet<String>>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    if !context.options.allocate_node_cidrs {
        tracing::info!("node-ipam-controller does nothing: --allocate-node-cidrs is off");
        context.shutdown.cancelled().await;
        return Ok(());
    }
    let client = context.client("node-controller").await?;
    let events = context.events(&client, "cidrAllocator");
    let mut ranges = configured(&context.options)?;
    let queue = context.queue("cidrallocator_node");
    let nodes: Informer<Node> = context.informers.all();
    nodes.synced().await;
    for node in nodes.list() {
        occupy(&mut ranges, &node);
    }
    let controller = Arc::new(Controller {
        client,
        events,
        nodes: nodes.clone(),
        ranges: Mutex::new(ranges),
        served: Mutex::default(),
    });
    let (touch, freed) = (queue.clone(), controller.clone());
    nodes.on_keyed_event(move |key, event| {
        if let Event::Deleted(node) = event {
            freed.served.lock().remove(&*node.metadata.uid);
            let mut ranges = freed.ranges.lock();
            for cidr in cidrs(node) {
                ranges.iter_mut().for_each(|ranges| ranges.release(cidr));
            }
        }
        touch.add(key.clone());
    });
    context
        .work(queue, 30, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    Ok(())
}

fn configured(options: &Options) -> Result<Vec<Ranges>, Error> {
    let bad = |what: &str, text: &str| Error::Other(format!("invalid {what}: {text:?}"));
    let list = |what: &str, text: &str| {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse::<IpNet>().map_err(|_| bad(what, part))).collect::<Result<Vec<_>, _>>()
    };
    let services = list("service-cluster-ip-range", &options.service_cluster_ip_range)?;
    let clusters = list("cluster-cidr", &options.cluster_cidr)?;
    if clusters.is_empty() {
        return Err(Error::Other("--cluster-cidr is needed with --allocate-node-cidrs".to_owned()));
    }
    let dual = clusters.len() > 1;
    let mask = |cluster: &IpNet| {
        let own = if matches!(cluster, IpNet::V4(_)) {
            options.node_cidr_mask_size_ipv4
        } else {
            options.node_cidr_mask_size_ipv6
        };
        let given = if own != 0 || dual { own } else { options.node_cidr_mask_size };
        match (given, cluster) {
            (0, IpNet::V4(_)) => 24,
            (0, IpNet::V6(_)) => 64,
            (given, _) => given,
        }
    };
    let made = clusters.into_iter().map(|cluster| {
        let mut ranges = Ranges::new(cluster, mask(&cluster)).ok_or_else(|| {
            Error::Other(format!("node mask {} does not fit in cluster CIDR {cluster}", mask(&cluster)))
        })?;
        services.iter().for_each(|service| ranges.occupy_all(*service));
        Ok(ranges)
    });
    made.collect()
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let all = node.spec.pod_cidrs.iter().chain(node.spec.pod_cidrs.is_empty().then_some(&node.spec.pod_cidr));
    all.filter_map(|text| text.parse().ok()).collect()
}

fn occupy(ranges: &mut [Ranges], node: &Node) {
    for cidr in cidrs(node) {
        ranges.iter_mut().for_each(|ranges| ranges.occupy_all(cidr));
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(()) };
        if !cidrs(&node).is_empty() {
            occupy(&mut self.ranges.lock(), &node);
            self.served.lock().remove(&*node.metadata.uid);
            return Ok(());
        }
        if self.served.lock().contains(&*node.metadata.uid) {
            return Ok(());
        }
        let name = &node.metadata.name;
        let taken: Option<Vec<IpNet>> = {
            let mut ranges = self.ranges.lock();
            let taken: Vec<_> = ranges.iter_mut().map(Ranges::take).collect();
            if taken.iter().any(Option::is_none) {
                for (ranges, cidr) in ranges.iter_mut().zip(taken) {
                    cidr.into_iter().for_each(|cidr| ranges.release(cidr));
                }
                None
            } else {
                Some(taken.into_iter().flatten().collect())
            }
        };
        let Some(taken) = taken else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.events.event(&node.reference(), EventType::Normal, "CIDRNotAvailable", &message);
            return Err(Error::Other(format!("no range of pod addresses is left for node {name}")));
        };
        let texts: Vec<String> = taken.iter().map(IpNet::to_string).collect();
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": texts[0], "podCIDRs": texts},
        });
        match self.client.patch::<Node>(None, name, None, Patch::Strategic(patch)).await {
            Ok(_) => {
                tracing::info!(node = %name, cidrs = ?texts, "Set node PodCIDR");
                self.served.lock().insert(node.metadata.uid.to_string());
                Ok(())
            }
            Err(error) => {
                // After a refusal the range is free again; without an answer it may have been written, and the
                // node's next state shows it.
                if error.status().is_some() {
                    let mut ranges = self.ranges.lock();
                    for (ranges, cidr) in ranges.iter_mut().zip(taken) {
                        ranges.release(cidr);
                    }
                }
                if error.is_not_found() { Ok(()) } else { Err(error.into()) }
            }
        }
    }
}
