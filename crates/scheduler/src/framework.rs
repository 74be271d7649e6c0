//! The plugin framework: upstream's extension points as a trait, and what passes between them.
//!
//! A plugin keeps what it computed for one pod in the [`Cycle`]; it holds no state of its own, so that a
//! cycle is a function of pod and table.

mod changes;
mod diagnosis;
mod events;
mod slot;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use client::{EventRecorder, EventType, Informer, Report};
use rustc_hash::FxHashMap;

use crate::cluster::facts::devices::DeviceClaim;
use crate::cluster::facts::storage::{Claim, Volume};
use crate::cluster::{Facts, Node, NodeView, Pod, Symbol, Table};
use crate::core::waiting::WaitingPods;

pub use changes::{Changes, Interest, Subject};
pub use diagnosis::{Diagnosis, Reason, Reasons, Reject};
pub use events::{Change, Events};
pub use slot::Slot;

/// The highest score.
pub const MAX_SCORE: i64 = 100;

/// The extension points a plugin takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

impl Point {
    pub const COUNT: usize = Point::PostBind as usize + 1;
    /// In their order.
    pub const ALL: [Point; Point::COUNT] = {
        use Point::*;
        [
            PreEnqueue, QueueSort, PreFilter, Filter, PostFilter, PreScore, Score, Reserve, Permit, PreBind,
            Bind, PostBind,
        ]
    };

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Point::PreEnqueue => "PreEnqueue",
            Point::QueueSort => "QueueSort",
            Point::PreFilter => "PreFilter",
            Point::Filter => "Filter",
            Point::PostFilter => "PostFilter",
            Point::PreScore => "PreScore",
            Point::Score => "Score",
            Point::Reserve => "Reserve",
            Point::Permit => "Permit",
            Point::PreBind => "PreBind",
            Point::Bind => "Bind",
            Point::PostBind => "PostBind",
        }
    }
}

/// What a plugin says before filtering.
pub enum PreFilter {
    /// Its filter is to be run.
    Run,
    /// It has nothing against any node.
    Skip,
    /// Only these nodes can do.
    Only(Vec<Symbol>),
    /// No node will do.
    Reject(String),
}

/// What might help a pod that fits nowhere.
#[derive(Clone, Debug)]
pub enum Remedy {
    /// Takes back the allocation of a claim that no other pod uses.
    Deallocate(Arc<DeviceClaim>),
}

/// A permit plugin's answer.
pub enum Permit {
    Allow,
    /// Until the plugin allows the pod, for so long at most: then it is rejected.
    Wait(Duration),
    Refuse(Refusal),
}

/// Why a pod cannot go to the node that was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It waits for a change that helps it.
    #[error("{0}")]
    Unschedulable(String),
    /// It is tried again after a while.
    #[error("{0}")]
    Error(String),
}

/// What a plugin reaches of the world while a pod is being bound.
pub struct Handle {
    pub client: client::Client,
    pub pods: Informer<Pod>,
    pub nodes: Informer<Node>,
    pub claims: Informer<Claim>,
    pub volumes: Informer<Volume>,
    pub device_claims: Informer<DeviceClaim>,
    /// Changes of pods, nodes, claims and volumes, to wait for.
    pub changes: Arc<Changes>,
    /// By scheduler name.
    pub recorders: FxHashMap<Symbol, EventRecorder>,
}

/// The longest note an event may have.
const NOTE: usize = 1024;

impl Handle {
    /// Records an event of a pod in the name of its scheduler.
    pub fn event(&self, pod: &Pod, kind: EventType, reason: &str, action: &str, note: &str) {
        self.event_by(pod, kind, reason, action, note, &pod.needs.scheduler);
    }

    pub fn event_by(&self, pod: &Pod, kind: EventType, reason: &str, action: &str, note: &str, by: &Symbol) {
        let Some(recorder) = self.recorders.get(by) else { return };
        let mut note = note.to_string();
        if note.len() > NOTE {
            note.truncate(note.floor_char_boundary(NOTE - 4));
            note.push_str(" ...");
        }
        recorder.report(Report {
            regarding: pod.reference(),
            related: None,
            kind,
            reason: reason.into(),
            action: action.into(),
            message: note,
            annotations: Vec::new(),
        });
    }
}

/// The fewest candidates that preemption looks for before it chooses among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreemptionLimits {
    /// Of all nodes.
    pub percentage: usize,
    pub absolute: usize,
}

/// A pod on trial: one more on a row, or one less.
pub struct Adjustment<'a> {
    pub table: &'a Table,
    pub row: usize,
    pub other: &'a Pod,
    /// 1 or -1.
    pub by: i64,
}

/// One scheduling attempt: what plugins keep from one point to the next, by their place in the profile.
#[derive(Default)]
pub struct Cycle {
    states: Vec<Option<Box<dyn Any + Send + Sync>>>,
}

impl Cycle {
    pub fn new(plugins: usize) -> Cycle {
        Cycle { states: (0..plugins).map(|_| None).collect() }
    }

    pub fn state<T: 'static>(&self, plugin: usize) -> Option<&T> {
        self.states.get(plugin)?.as_ref()?.downcast_ref()
    }

    pub fn state_mut<T: 'static>(&mut self, plugin: usize) -> Option<&mut T> {
        self.states.get_mut(plugin)?.as_mut()?.downcast_mut()
    }

    /// Drops the states of all but these plugins.
    pub fn keep(&mut self, plugins: &[usize]) {
        for (place, state) in self.states.iter_mut().enumerate() {
            if !plugins.contains(&place) {
                *state = None;
            }
        }
    }

    pub fn set(&mut self, plugin: usize, state: impl Any + Send + Sync) {
        if let Some(slot) = self.states.get_mut(plugin) {
            *slot = Some(Box::new(state));
        }
    }
}

/// A plugin, at all the extension points it has. `own` is its place in the profile, the key to its [`Cycle`] state.
#[async_trait::async_trait]
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// At which points it has something to say.
    fn points(&self) -> &'static [Point];

    /// Whether a pod may enter the queue at all; else why not.
    fn pre_enqueue(&self, _pod: &Pod, _facts: &Facts) -> Result<(), String> {
        Ok(())
    }

    fn pre_filter(&self, _own: usize, _cycle: &mut Cycle, _pod: &Pod, _table: &Table) -> PreFilter {
        PreFilter::Run
    }

    fn filter(&self, _own: usize, _cycle: &Cycle, _pod: &Pod, _view: NodeView<'_>) -> Result<(), Reject> {
        Ok(())
    }

    /// What would have to change on a node that this plugin rejects, where one can say so.
    fn remedies(&self, _pod: &Pod, _view: NodeView<'_>) -> Vec<String> {
        Vec::new()
    }

    /// Judges from now on as if another pod were on a node, or were not.
    fn adjust(&self, _own: usize, _cycle: &mut Cycle, _pod: &Pod, _adjustment: &Adjustment<'_>) {}

    /// What might help a pod that fits nowhere, and how the condition says so. The plugin had its turn before filtering.
    fn post_filter(&self, _own: usize, _cycle: &Cycle, _pod: &Pod) -> Option<(&'static str, Remedy)> {
        None
    }

    /// Whether [`Plugin::post_filter`] reads what the plugin computed before filtering.
    fn post_filter_needs_state(&self) -> bool {
        false
    }

    /// How many nodes preemption looks at, where this plugin stands for it.
    fn preemption(&self) -> Option<PreemptionLimits> {
        None
    }

    /// Before scoring; false when every node scores the same.
    fn pre_score(
        &self,
        _own: usize,
        _cycle: &mut Cycle,
        _pod: &Pod,
        _table: &Table,
        _rows: &[usize],
    ) -> bool {
        true
    }

    fn score(&self, _own: usize, _cycle: &Cycle, _pod: &Pod, _view: NodeView<'_>) -> i64 {
        0
    }

    /// Brings the scores of all nodes to 0..=[`MAX_SCORE`].
    fn normalize(
        &self,
        _own: usize,
        _cycle: &Cycle,
        _pod: &Pod,
        _table: &Table,
        _rows: &[usize],
        _scores: &mut [i64],
    ) {
    }

    /// The pod will go to the node of this row; a refusal takes it back, at every plugin that reserved.
    fn reserve(
        &self,
        _own: usize,
        _cycle: &mut Cycle,
        _pod: &Pod,
        _table: &mut Table,
        _row: usize,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    fn unreserve(&self, _own: usize, _cycle: &mut Cycle, _pod: &Pod, _table: &mut Table, _node: &Symbol) {}

    /// Gives the plugin the waiting pods, which it may allow or reject.
    fn connect(&self, _waiting: &Arc<WaitingPods>) {}

    fn permit(&self, _own: usize, _cycle: &mut Cycle, _pod: &Pod, _node: &Symbol) -> Permit {
        Permit::Allow
    }

    /// Whether [`Plugin::pre_bind`] has anything to do.
    fn has_pre_bind(&self, _own: usize, _cycle: &Cycle) -> bool {
        true
    }

    /// What has to be done before the pod is bound; an error has it tried again after a while. Few pods are bound at
    /// once: a wait for anything but a request's answer has to release the slot.
    async fn pre_bind(
        &self,
        _own: usize,
        _cycle: &Cycle,
        _pod: &Pod,
        _node: &Symbol,
        _handle: &Handle,
        _slot: &mut Slot,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Binds the pod; none when this plugin does not bind it.
    async fn bind(&self, _client: &client::Client, _pod: &Pod, _node: &Symbol) -> Option<client::Result<()>> {
        None
    }

    /// Takes back what [`Plugin::pre_bind`] wrote for a pod that is not bound after all; before [`Plugin::unreserve`].
    async fn retract(&self, _own: usize, _cycle: &Cycle, _pod: &Pod, _handle: &Handle) {}

    fn post_bind(&self, _own: usize, _cycle: &Cycle, _pod: &Pod, _table: &mut Table, _node: &Symbol) {}

    /// Changes that may help a pod that this plugin rejected.
    fn events(&self) -> Events {
        Events::NONE
    }

    /// The queueing hint: whether this change, of those that the plugin listens to, could help a pod that it rejected.
    fn hint(&self, _pod: &Pod, _change: &Change<'_>) -> bool {
        true
    }
}

/// Scales to 0..=100 by the highest score; reversed, the highest becomes 0.
pub fn normalize_by_max(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        if max == 0 {
            *score = if reverse { MAX_SCORE } else { *score };
            continue;
        }
        *score = MAX_SCORE * *score / max;
        if reverse {
            *score = MAX_SCORE - *score;
        }
    }
}
