//! The plugin framework: upstream's extension points as a trait, and what passes between them.
//!
//! A plugin keeps what it computed for one pod in the [`Cycle`]; it holds no state of its own, so that a
//! cycle is a function of pod and table.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::cluster::selector::Labels;
use crate::cluster::{Pod, Row, Symbol, Table};
use crate::core::waiting::WaitingPods;

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

/// Why a node is not for a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    pub reasons: Reasons,
    /// Taking other pods away would not change it.
    pub unresolvable: bool,
}

/// Almost always one reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Reasons {
    One(Symbol),
    Many(Vec<Symbol>),
}

impl Reasons {
    pub fn as_slice(&self) -> &[Symbol] {
        match self {
            Reasons::One(reason) => std::slice::from_ref(reason),
            Reasons::Many(reasons) => reasons,
        }
    }
}

impl Reject {
    pub fn resolvable(reason: Symbol) -> Reject {
        Reject { reasons: Reasons::One(reason), unresolvable: false }
    }

    pub fn unresolvable(reason: Symbol) -> Reject {
        Reject { reasons: Reasons::One(reason), unresolvable: true }
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

/// A permit plugin's answer.
pub enum Permit {
    Allow,
    /// Until the plugin allows the pod, for so long at most: then it is rejected.
    Wait(Duration),
    Reject(String),
}

/// What happened in the cluster that may make a pod schedulable.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    NodeAdded(&'a Row),
    NodeUpdated {
        row: &'a Row,
        /// The node's labels before.
        labels: &'a Labels,
    },
    /// A node went away; it had these labels.
    NodeRemoved(&'a Labels),
    /// A placed pod went away, or asks for less now.
    PodRemoved {
        pod: &'a Pod,
        node: Symbol,
    },
    /// A pod was placed, or the labels of a placed one changed.
    PodPlaced(&'a Pod),
}

impl Change<'_> {
    /// The event's name in upstream's metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Change::NodeAdded(_) => "NodeAdd",
            Change::NodeUpdated { .. } => "NodeUpdate",
            Change::NodeRemoved(_) => "NodeDelete",
            Change::PodRemoved { .. } => "AssignedPodDelete",
            Change::PodPlaced(_) => "AssignedPodAdd",
        }
    }
}

/// One scheduling attempt: what plugins keep from one point to the next, by their place in the profile.
#[derive(Default)]
pub struct Cycle {
    states: Vec<Option<Box<dyn Any + Send>>>,
}

impl Cycle {
    pub fn new(plugins: usize) -> Cycle {
        Cycle { states: (0..plugins).map(|_| None).collect() }
    }

    pub fn state<T: 'static>(&self, plugin: usize) -> Option<&T> {
        self.states.get(plugin)?.as_ref()?.downcast_ref()
    }

    pub fn set(&mut self, plugin: usize, state: impl Any + Send) {
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
    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), String> {
        Ok(())
    }

    fn pre_filter(&self, _own: usize, _cycle: &mut Cycle, _pod: &Pod, _table: &Table) -> PreFilter {
        PreFilter::Run
    }

    fn filter(&self, _own: usize, _cycle: &Cycle, _pod: &Pod, _row: &Row) -> Result<(), Reject> {
        Ok(())
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

    fn score(&self, _own: usize, _cycle: &Cycle, _pod: &Pod, _row: &Row) -> i64 {
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

    /// The pod will go to this node; an error takes it back, at every plugin that reserved.
    fn reserve(&self, _pod: &Pod, _node: Symbol) -> Result<(), String> {
        Ok(())
    }

    fn unreserve(&self, _pod: &Pod, _node: Symbol) {}

    /// Gives the plugin the waiting pods, which it may allow or reject.
    fn connect(&self, _waiting: &Arc<WaitingPods>) {}

    fn permit(&self, _pod: &Pod, _node: Symbol) -> Permit {
        Permit::Allow
    }

    async fn pre_bind(&self, _pod: &Pod, _node: Symbol) -> Result<(), String> {
        Ok(())
    }

    /// Binds the pod; none when this plugin does not bind it.
    async fn bind(&self, _client: &client::Client, _pod: &Pod, _node: Symbol) -> Option<client::Result<()>> {
        None
    }

    fn post_bind(&self, _pod: &Pod, _node: Symbol) {}

    /// The queueing hint: whether this change could help a pod that this plugin rejected.
    fn hint(&self, _pod: &Pod, _change: &Change<'_>) -> bool {
        false
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

/// Why a pod fits nowhere.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    pub nodes: usize,
    pub counts: FxHashMap<Symbol, u32>,
    /// The plugins that rejected a node, by their place in the profile: bit by bit.
    pub plugins: u64,
    /// Rows where taking pods away might help.
    pub resolvable: Vec<usize>,
    /// A plugin's word on the pod as a whole, instead of counts.
    pub message: Option<String>,
    /// Result of preemption.
    pub post_filter: Option<String>,
}

impl Diagnosis {
    pub fn add(&mut self, plugin: usize, reject: &Reject, row: usize) {
        self.plugins |= 1 << plugin;
        for reason in reject.reasons.as_slice() {
            *self.counts.entry(*reason).or_default() += 1;
        }
        if !reject.unresolvable {
            self.resolvable.push(row);
        }
    }

    /// The text of the condition and the event.
    pub fn text(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut text = format!("0/{} nodes are available", self.nodes);
        if let Some(message) = &self.message {
            text.push_str(&format!(": {message}."));
        }
        if !self.counts.is_empty() {
            let mut reasons: Vec<String> =
                self.counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            reasons.sort_unstable();
            text.push_str(&format!(": {}.", reasons.join(", ")));
        }
        if let Some(message) = &self.post_filter {
            text.push(' ');
            text.push_str(message);
        }
        text
    }
}
