//! The plugins of few lines: gates, order, name, cordon, taints, ports, binding.

use std::sync::LazyLock;

use serde_json::json;

use crate::cluster::{Effect, Facts, Node, NodeView, Pod, Port, Symbol, Table, Taint};
use crate::framework::{Change, Cycle, Events, Plugin, Point, PreFilter, Reject, normalize_by_max};

/// Changes of nodes that may let a pod onto them.
fn changed_node<'a>(change: &Change<'a>) -> Option<&'a Node> {
    match change {
        Change::NodeAdded(row) | Change::NodeUpdated { row, .. } => Some(&row.node),
        _ => None,
    }
}

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, pod: &Pod, _: &Facts) -> Result<(), String> {
        if pod.needs.gates.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for scheduling gates: [{}]", pod.needs.gates.join(" ")))
    }
}

/// Higher priority first, then who came first: the order the queue is built on.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }
}

/// A pod that names its node never comes here; this is for completeness of the profile.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, _: usize, _: &mut Cycle, pod: &Pod, _: &Table) -> PreFilter {
        if pod.node.is_empty() { PreFilter::Skip } else { PreFilter::Run }
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        if pod.node.is_empty() || pod.node == view.node.name {
            return Ok(());
        }
        Err(Reject::unresolvable("node(s) didn't match the requested node name"))
    }

    fn events(&self) -> Events {
        Events::NODE_ADD
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        changed_node(change).is_some_and(|node| node.name == pod.node)
    }
}

pub struct NodeUnschedulable;

impl NodeUnschedulable {
    fn fits(pod: &Pod, node: &Node) -> bool {
        static TAINT: LazyLock<Taint> = LazyLock::new(|| Taint {
            key: Symbol::new("node.kubernetes.io/unschedulable"),
            value: Symbol::default(),
            effect: Effect::NoSchedule,
        });
        !node.unschedulable || pod.tolerates(&TAINT)
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        if Self::fits(pod, view.node) {
            return Ok(());
        }
        Err(Reject::unresolvable("node(s) were unschedulable"))
    }

    fn remedies(&self, _: &Pod, view: NodeView<'_>) -> Vec<String> {
        vec![format!("uncordon: {}", view.node.name)]
    }

    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_TAINT
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        changed_node(change).is_some_and(|node| Self::fits(pod, node))
    }
}

pub struct TaintToleration;

impl TaintToleration {
    fn fits(pod: &Pod, node: &Node) -> bool {
        node.taints.iter().all(|taint| taint.effect == Effect::PreferNoSchedule || pod.tolerates(taint))
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        if Self::fits(pod, view.node) {
            return Ok(());
        }
        Err(Reject::unresolvable("node(s) had untolerated taint(s)"))
    }

    fn remedies(&self, pod: &Pod, view: NodeView<'_>) -> Vec<String> {
        let taints = view.node.taints.iter();
        let untolerated =
            taints.filter(|taint| taint.effect != Effect::PreferNoSchedule && !pod.tolerates(taint));
        untolerated
            .map(|Taint { key, value, effect }| format!("remove taint: {key}={value}:{effect:?}"))
            .collect()
    }

    fn score(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> i64 {
        let disliked = view
            .node
            .taints
            .iter()
            .filter(|taint| taint.effect == Effect::PreferNoSchedule && !pod.tolerates(taint));
        disliked.count() as i64
    }

    fn normalize(&self, _: usize, _: &Cycle, _: &Pod, _: &Table, _: &[usize], scores: &mut [i64]) {
        normalize_by_max(scores, true);
    }

    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_TAINT
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        changed_node(change).is_some_and(|node| Self::fits(pod, node))
    }
}

pub struct NodePorts;

impl NodePorts {
    fn conflicts(pod: &Pod, used: &[Port]) -> bool {
        pod.needs.ports.iter().any(|port| used.iter().any(|used| port.conflicts(used)))
    }
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, _: usize, _: &mut Cycle, pod: &Pod, _: &Table) -> PreFilter {
        if pod.needs.ports.is_empty() { PreFilter::Skip } else { PreFilter::Run }
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        if Self::conflicts(pod, &view.usage.ports) {
            return Err(Reject::resolvable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }

    fn remedies(&self, pod: &Pod, view: NodeView<'_>) -> Vec<String> {
        let ports = pod.needs.ports.iter();
        let taken = ports.filter(|port| view.usage.ports.iter().any(|used| port.conflicts(used)));
        taken.map(|port| format!("free port: {}/{}", port.port, port.protocol)).collect()
    }

    fn events(&self) -> Events {
        Events::NODE_ADD | Events::POD_DELETE
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::NodeAdded(row) => !Self::conflicts(pod, &row.usage.ports),
            Change::PodRemoved { pod: gone, .. } => Self::conflicts(pod, &gone.needs.ports),
            _ => false,
        }
    }
}

/// Binds by the `binding` subresource.
pub struct DefaultBinder;

#[async_trait::async_trait]
impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Bind]
    }

    async fn bind(&self, client: &client::Client, pod: &Pod, node: &Symbol) -> Option<client::Result<()>> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": &*pod.key.name, "namespace": &*pod.key.namespace, "uid": &*pod.uid},
            "target": {"kind": "Node", "name": node.as_str()},
        });
        let namespace = pod.key.namespace();
        let bound = client
            .create_subresource::<Pod, serde::de::IgnoredAny>(namespace, &pod.key.name, "binding", &binding)
            .await;
        Some(bound.map(drop))
    }
}
