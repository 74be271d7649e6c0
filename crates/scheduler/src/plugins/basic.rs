//! The plugins of few lines: gates, order, name, cordon, taints, ports, binding.

use std::sync::LazyLock;

use serde_json::json;

use crate::cluster::{Effect, Pod, Row, Symbol, Table, Taint};
use crate::framework::{Change, Cycle, Plugin, Point, PreFilter, Reject, normalize_by_max};

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
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

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, row: &Row) -> Result<(), Reject> {
        static REASON: LazyLock<Symbol> =
            LazyLock::new(|| Symbol::new("node(s) didn't match the requested node name"));
        if pod.node.is_empty() || pod.node == row.name { Ok(()) } else { Err(Reject::unresolvable(*REASON)) }
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        matches!(change, Change::NodeAdded(row) if row.name == pod.node)
    }
}

pub struct NodeUnschedulable;

impl NodeUnschedulable {
    fn fits(pod: &Pod, row: &Row) -> bool {
        static KEY: LazyLock<Symbol> = LazyLock::new(|| Symbol::new("node.kubernetes.io/unschedulable"));
        !row.unschedulable
            || pod.tolerates(&Taint { key: *KEY, value: Symbol::default(), effect: Effect::NoSchedule })
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, row: &Row) -> Result<(), Reject> {
        static REASON: LazyLock<Symbol> = LazyLock::new(|| Symbol::new("node(s) were unschedulable"));
        if Self::fits(pod, row) { Ok(()) } else { Err(Reject::unresolvable(*REASON)) }
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        matches!(change, Change::NodeAdded(row) | Change::NodeUpdated { row, .. } if Self::fits(pod, row))
    }
}

pub struct TaintToleration;

impl TaintToleration {
    fn fits(pod: &Pod, row: &Row) -> bool {
        row.taints.iter().all(|taint| taint.effect == Effect::PreferNoSchedule || pod.tolerates(taint))
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, row: &Row) -> Result<(), Reject> {
        static REASON: LazyLock<Symbol> = LazyLock::new(|| Symbol::new("node(s) had untolerated taint(s)"));
        if Self::fits(pod, row) { Ok(()) } else { Err(Reject::unresolvable(*REASON)) }
    }

    fn score(&self, _: usize, _: &Cycle, pod: &Pod, row: &Row) -> i64 {
        let disliked = row
            .taints
            .iter()
            .filter(|taint| taint.effect == Effect::PreferNoSchedule && !pod.tolerates(taint));
        disliked.count() as i64
    }

    fn normalize(&self, _: usize, _: &Cycle, _: &Pod, _: &Table, _: &[usize], scores: &mut [i64]) {
        normalize_by_max(scores, true);
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        matches!(change, Change::NodeAdded(row) | Change::NodeUpdated { row, .. } if Self::fits(pod, row))
    }
}

pub struct NodePorts;

impl NodePorts {
    fn fits(pod: &Pod, row: &Row) -> bool {
        !pod.ports.iter().any(|port| row.ports.iter().any(|used| port.conflicts(used)))
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
        if pod.ports.is_empty() { PreFilter::Skip } else { PreFilter::Run }
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, row: &Row) -> Result<(), Reject> {
        static REASON: LazyLock<Symbol> =
            LazyLock::new(|| Symbol::new("node(s) didn't have free ports for the requested pod ports"));
        if Self::fits(pod, row) { Ok(()) } else { Err(Reject::resolvable(*REASON)) }
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::NodeAdded(row) => Self::fits(pod, row),
            Change::PodRemoved { pod: gone, .. } => {
                pod.ports.iter().any(|port| gone.ports.iter().any(|freed| port.conflicts(freed)))
            }
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

    async fn bind(&self, client: &client::Client, pod: &Pod, node: Symbol) -> Option<client::Result<()>> {
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
