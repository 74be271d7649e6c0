//! `node-ipam-controller`: gives every node its range of pod addresses, with `--allocate-node-cidrs`.
//!
//! What is taken is read from the nodes themselves, so a restart knows all of it.

mod ranges;

use std::sync::Arc;

use client::{Client, Event, EventRecorder, EventType, Informer, Key, Patch};
use controllers::views::{Node, Object};
use controllers::{Context, Error, Next, Reconcile};
use ipnet::IpNet;
use parking_lot::Mutex;
use serde_json::json;

use crate::Options;
use ranges::Ranges;

struct Controller {
    events: EventRecorder,
    nodes: Informer<Node>,
    /// One set of ranges per IP family.
    ranges: Arc<Mutex<Vec<Ranges>>>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    if !options.allocate_node_cidrs {
        tracing::info!("node-ipam-controller does nothing: --allocate-node-cidrs is off");
        context.shutdown.cancelled().await;
        return Ok(());
    }
    let mut builder = context.builder("cidrallocator_node", "node-controller", "cidrAllocator").await?;
    let controller = Controller {
        events: builder.events.clone(),
        nodes: builder.reconciles(),
        ranges: Arc::new(Mutex::new(configured(&options)?)),
    };
    // Every node's ranges are noted before the first one gets any.
    let ranges = controller.ranges.clone();
    controller.nodes.on_event(move |event| {
        let mut ranges = ranges.lock();
        match event {
            Event::Deleted(node) => {
                for cidr in cidrs(node) {
                    ranges.iter_mut().for_each(|ranges| ranges.release(cidr));
                }
            }
            Event::Added(node) | Event::Modified { new: node, .. } => occupy(&mut ranges, node),
        }
    });
    builder.run(30, controller).await
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

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(node) = self.nodes.get_key(key).filter(|node| cidrs(node).is_empty()) else {
            return Ok(Next::Done);
        };
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
        match client.patch::<Node>(None, name, None, Patch::Strategic(patch)).await {
            Ok(_) => {
                tracing::info!(node = %name, cidrs = ?texts, "Set node PodCIDR");
                Ok(Next::Done)
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
                if error.is_not_found() { Ok(Next::Done) } else { Err(error.into()) }
            }
        }
    }
}
