//! `NodeResourcesFit` and `NodeResourcesBalancedAllocation`: does it fit, and where best.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Node, NodeView, Pod, Resource, Row, Symbol, Table, Usage};
use crate::framework::{Change, Cycle, Events, MAX_SCORE, Plugin, Point, Reason, Reasons, Reject};

/// How utilization is scored.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    LeastAllocated,
    MostAllocated,
    /// Points of (utilization in percent, score of 0..=100), ascending.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

pub struct Fit {
    strategy: Strategy,
    resources: Vec<(Resource, i64)>,
    ignored: Vec<Symbol>,
    ignored_groups: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Arguments {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<ScoringStrategy>,
    resources: Option<Vec<Weighted>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ScoringStrategy {
    #[serde(rename = "type")]
    kind: String,
    resources: Option<Vec<Weighted>>,
    requested_to_capacity_ratio: Option<Ratio>,
}

#[derive(Deserialize)]
struct Weighted {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ratio {
    shape: Vec<ShapePoint>,
}

#[derive(Deserialize)]
pub(super) struct ShapePoint {
    utilization: i64,
    score: i64,
}

impl ShapePoint {
    /// The score is configured on a scale to ten.
    pub(super) fn scaled(&self) -> (i64, i64) {
        (self.utilization, self.score * MAX_SCORE / 10)
    }
}

fn weighted(resources: Option<Vec<Weighted>>) -> Vec<(Resource, i64)> {
    match resources.filter(|resources| !resources.is_empty()) {
        Some(resources) => resources
            .into_iter()
            .map(|resource| (Resource::new(&resource.name), resource.weight.max(1)))
            .collect(),
        None => vec![(Resource::Cpu, 1), (Resource::Memory, 1)],
    }
}

fn arguments(arguments: &Value) -> Result<Arguments, String> {
    if arguments.is_null() {
        return Ok(Arguments::default());
    }
    Arguments::deserialize(arguments).map_err(|error| error.to_string())
}

pub fn make(value: &Value) -> Result<Arc<dyn Plugin>, String> {
    let arguments = arguments(value)?;
    let scoring = arguments.scoring_strategy.unwrap_or_default();
    let strategy = match scoring.kind.as_str() {
        "" | "LeastAllocated" => Strategy::LeastAllocated,
        "MostAllocated" => Strategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let shape = scoring.requested_to_capacity_ratio.unwrap_or_default().shape;
            if shape.is_empty() {
                return Err(
                    "scoringStrategy.requestedToCapacityRatio.shape: at least one point must be specified"
                        .into(),
                );
            }
            Strategy::RequestedToCapacityRatio(shape.iter().map(ShapePoint::scaled).collect())
        }
        other => return Err(format!("scoringStrategy.type: unsupported value {other:?}")),
    };
    Ok(Arc::new(Fit {
        strategy,
        resources: weighted(scoring.resources),
        ignored: arguments.ignored_resources.iter().map(|name| Symbol::new(name)).collect(),
        ignored_groups: arguments.ignored_resource_groups,
    }))
}

impl Fit {
    fn check(&self, pod: &Pod, node: &Node, usage: &Usage) -> Result<(), Reject> {
        let (request, used, total) = (&pod.needs.requests, &usage.requested, &node.allocatable);
        let crowded = usage.pods + 1 > node.max_pods;
        let short = |request: i64, used: i64, total: i64| request > 0 && request > total - used;
        let fits = !crowded
            && !short(request.cpu, used.cpu, total.cpu)
            && !short(request.memory, used.memory, total.memory)
            && !short(request.ephemeral_storage, used.ephemeral_storage, total.ephemeral_storage);
        if fits && request.others.is_empty() {
            return Ok(());
        }
        let mut reasons = Vec::new();
        let mut unresolvable = false;
        if crowded {
            reasons.push(Reason::Text("Too many pods"));
        }
        let (storage, used_storage) = (request.ephemeral_storage, used.ephemeral_storage);
        let usual = [
            (request.cpu, used.cpu, total.cpu, "Insufficient cpu"),
            (request.memory, used.memory, total.memory, "Insufficient memory"),
            (storage, used_storage, total.ephemeral_storage, "Insufficient ephemeral-storage"),
        ];
        for (request, used, total, reason) in usual {
            if short(request, used, total) {
                reasons.push(Reason::Text(reason));
                unresolvable |= request > total;
            }
        }
        for (name, amount) in &request.others {
            if *amount == 0 || self.ignores(name) {
                continue;
            }
            let total = total.other(name);
            if *amount > total - used.other(name) {
                reasons.push(Reason::Insufficient(name.clone()));
                unresolvable |= *amount > total;
            }
        }
        match reasons.len() {
            0 => Ok(()),
            1 => Err(Reject { reasons: Reasons::One(reasons.remove(0)), unresolvable }),
            _ => Err(Reject { reasons: Reasons::Many(reasons), unresolvable }),
        }
    }

    /// Whether the pod would fit onto the node, were it not for pods that it may preempt.
    fn may_fit(&self, pod: &Pod, row: &Row) -> bool {
        let fits = |usage: &Usage| self.check(pod, &row.node, usage).is_ok();
        if fits(&row.usage) {
            return true;
        }
        let mut lower =
            row.pods.values().filter(|other| other.needs.priority < pod.needs.priority).peekable();
        if pod.needs.never_preempts || lower.peek().is_none() {
            return false;
        }
        let mut usage = row.usage.clone();
        lower.for_each(|other| usage.remove(other));
        fits(&usage)
    }

    fn ignores(&self, name: &Symbol) -> bool {
        self.ignored.contains(name)
            || name
                .as_str()
                .split_once('/')
                .is_some_and(|(group, _)| self.ignored_groups.iter().any(|ignored| ignored == group))
    }
}

/// What would be requested with the pod, as scores count it, and what there is.
fn usage(pod: &Pod, view: NodeView<'_>, resource: &Resource) -> (i64, i64) {
    let (needs, usage, total) = (&pod.needs, view.usage, view.node.allocatable.get(resource));
    match resource {
        Resource::Cpu => (usage.scored.0 + needs.scored.0, total),
        Resource::Memory => (usage.scored.1 + needs.scored.1, total),
        _ => (usage.requested.get(resource) + needs.requests.get(resource), total),
    }
}

pub(super) fn interpolate(points: &[(i64, i64)], at: i64) -> i64 {
    let after = points.iter().position(|(utilization, _)| at <= *utilization);
    match after {
        Some(0) => points[0].1,
        Some(after) => {
            let ((x0, y0), (x1, y1)) = (points[after - 1], points[after]);
            y0 + (y1 - y0) * (at - x0) / (x1 - x0).max(1)
        }
        None => points.last().map_or(0, |(_, score)| *score),
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::Score]
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        self.check(pod, view.node, view.usage)
    }

    fn remedies(&self, pod: &Pod, view: NodeView<'_>) -> Vec<String> {
        let (request, used, total) = (&pod.needs.requests, &view.usage.requested, &view.node.allocatable);
        let mut missing = Vec::new();
        let mut add = |name: &str, request: i64, free: i64, unit: &str| {
            if request > free && request > 0 {
                missing.push(format!("{name}: +{}{unit}", request - free));
            }
        };
        add("pods", 1, view.node.max_pods - view.usage.pods, "");
        add("cpu", request.cpu, total.cpu - used.cpu, "m");
        add("memory", request.memory, total.memory - used.memory, "");
        let storage = total.ephemeral_storage - used.ephemeral_storage;
        add("ephemeral-storage", request.ephemeral_storage, storage, "");
        for (name, amount) in request.others.iter().filter(|(name, _)| !self.ignores(name)) {
            add(name.as_str(), *amount, total.other(name) - used.other(name), "");
        }
        missing
    }

    fn score(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for (name, weight) in &self.resources {
            let (requested, total) = usage(pod, view, name);
            if total == 0 {
                continue;
            }
            // A resource that only some nodes have says nothing about a pod that does not ask for it.
            if !matches!(name, Resource::Cpu | Resource::Memory) && pod.needs.requests.get(name) == 0 {
                continue;
            }
            let score = match &self.strategy {
                Strategy::LeastAllocated if requested > total => 0,
                Strategy::LeastAllocated => (total - requested) * MAX_SCORE / total,
                Strategy::MostAllocated => requested.min(total) * MAX_SCORE / total,
                Strategy::RequestedToCapacityRatio(points) if requested > total => interpolate(points, 100),
                Strategy::RequestedToCapacityRatio(points) => interpolate(points, requested * 100 / total),
            };
            sum += score * weight;
            weights += weight;
        }
        if weights == 0 { 0 } else { sum / weights }
    }

    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_ALLOCATABLE | Events::POD_DELETE | Events::POD_SCALE_DOWN
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::NodeAdded(row) | Change::NodeUpdated { row, .. } | Change::PodRemoved { row, .. } => {
                self.may_fit(pod, row)
            }
            Change::PodScaled { row } => self.may_fit(pod, row),
            _ => false,
        }
    }
}

/// Prefers nodes on which the resources would be used in equal measure.
pub struct Balanced {
    resources: Vec<Resource>,
}

pub fn make_balanced(value: &Value) -> Result<Arc<dyn Plugin>, String> {
    let resources = weighted(arguments(value)?.resources).into_iter().map(|(name, _)| name).collect();
    Ok(Arc::new(Balanced { resources }))
}

impl Plugin for Balanced {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    /// A pod without requests changes no balance.
    fn pre_score(&self, _: usize, _: &mut Cycle, pod: &Pod, _: &Table, _: &[usize]) -> bool {
        self.resources.iter().any(|name| pod.needs.requests.get(name) > 0)
    }

    fn score(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> i64 {
        let fractions = |with_pod: bool| {
            self.resources.iter().filter_map(move |name| {
                let (total, wanted) = (view.node.allocatable.get(name), pod.needs.requests.get(name));
                // What the pod does not ask for takes no part, but for the usual ones.
                if total <= 0 || (wanted == 0 && matches!(name, Resource::Other(_))) {
                    return None;
                }
                let used = view.usage.requested.get(name) + if with_pod { wanted } else { 0 };
                Some((used as f64 / total as f64).min(1.0))
            })
        };
        // How much better the balance becomes: around three quarters where it stays as it is.
        MAX_SCORE / 2 + (MAX_SCORE / 2 + balance(fractions(true)) - balance(fractions(false))) / 2
    }
}

/// The less the fractions differ, the higher.
fn balance(fractions: impl Iterator<Item = f64> + Clone) -> i64 {
    let (mut first, count) = (fractions.clone(), fractions.clone().count());
    let deviation = match (first.next(), first.next(), count) {
        (Some(one), Some(other), 2) => ((one - other) / 2.0).abs(),
        (Some(_), Some(_), _) => {
            let count = count as f64;
            let mean = fractions.clone().sum::<f64>() / count;
            let squares: f64 = fractions.map(|fraction| (fraction - mean) * (fraction - mean)).sum();
            (squares / count).sqrt()
        }
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
