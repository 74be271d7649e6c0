//! A profile: the plugins pods of one scheduler name go through.

use std::sync::Arc;
use std::time::Instant;

use super::waiting::{WaitingPod, WaitingPods};
use crate::cluster::{Facts, NodeView, Pod, Symbol, Table};
use crate::extenders::Extenders;
use crate::framework::{
    Adjustment, Cycle, Events, Handle, Permit, Plugin, Point, PreemptionLimits, Refusal, Reject, Slot,
};
use crate::metrics::{Ended, PointTimes};

pub struct Profile {
    pub name: Symbol,
    pub plugins: Vec<Arc<dyn Plugin>>,
    /// Places of the plugins that take part in each point.
    points: [Vec<usize>; Point::COUNT],
    weights: Vec<i64>,
    /// Percentage of nodes to find before scoring; 0 adapts to the cluster.
    pub percentage: i64,
    /// Where preemption is enabled.
    pub preemption: Option<PreemptionLimits>,
    /// Whom to ask besides the plugins, and the place of what stands for them among the plugins.
    pub extenders: Arc<Extenders>,
    extenders_place: usize,
    /// Pods that wait for its permit plugins.
    pub waiting: Arc<WaitingPods>,
    pub times: PointTimes,
}

/// The most plugins of a profile: a rejected pod keeps those that rejected it as bits.
pub const MOST_PLUGINS: usize = 64;

impl Profile {
    /// `enabled` says whether a plugin takes part in one of its points.
    pub fn new(
        name: &str,
        plugins: Vec<(Arc<dyn Plugin>, i64)>,
        percentage: i64,
        enabled: impl Fn(&str, Point) -> bool,
    ) -> Profile {
        let mut points: [Vec<usize>; Point::COUNT] = Default::default();
        for (place, (plugin, _)) in plugins.iter().enumerate().take(MOST_PLUGINS) {
            for point in plugin.points() {
                if enabled(plugin.name(), *point) {
                    points[*point as usize].push(place);
                }
            }
        }
        let preemption =
            points[Point::PostFilter as usize].iter().find_map(|place| plugins[*place].0.preemption());
        let waiting = Arc::new(WaitingPods::default());
        for (plugin, _) in &plugins {
            plugin.connect(&waiting);
        }
        let (plugins, weights) = plugins.into_iter().take(MOST_PLUGINS).unzip();
        let times = PointTimes::new(name);
        Profile {
            name: Symbol::new(name),
            plugins,
            points,
            weights,
            percentage,
            preemption,
            extenders: Arc::default(),
            extenders_place: 0,
            waiting,
            times,
        }
    }

    pub fn with_extenders(mut self, extenders: Arc<Extenders>) -> Profile {
        if !extenders.is_empty() {
            self.extenders = extenders;
            self.extenders_place = self.plugins.len();
            self.plugins.push(Arc::new(RejectedByExtender));
            self.weights.push(0);
        }
        self
    }

    /// The place by which rejections of extenders go.
    pub fn extenders_place(&self) -> usize {
        self.extenders_place
    }

    pub fn at(&self, point: Point) -> &[usize] {
        &self.points[point as usize]
    }

    pub fn each(&self, point: Point) -> impl DoubleEndedIterator<Item = (usize, &Arc<dyn Plugin>)> {
        self.at(point).iter().map(|place| (*place, &self.plugins[*place]))
    }

    /// Plugins that listen to any of these events.
    pub fn listeners(&self, events: Events) -> impl Iterator<Item = (usize, &Arc<dyn Plugin>)> {
        self.plugins.iter().enumerate().filter(move |(_, plugin)| plugin.events().intersects(events))
    }

    pub fn weight(&self, place: usize) -> i64 {
        self.weights[place].max(1)
    }

    /// The place of the plugin that keeps the pod out of the queue, and why.
    pub fn pre_enqueue(&self, pod: &Pod, facts: &Facts) -> Option<(usize, String)> {
        self.each(Point::PreEnqueue)
            .find_map(|(place, plugin)| Some((place, plugin.pre_enqueue(pod, facts).err()?)))
    }

    /// Runs reserve and permit plugins. Answers the pod that waits where one of these holds it back, or which plugin
    /// refuses it, and why.
    pub fn reserve(
        &self,
        cycle: &mut Cycle,
        pod: &Pod,
        table: &mut Table,
        row: usize,
    ) -> Result<Option<WaitingPod>, (usize, Refusal)> {
        let ended = |refusal: &Refusal| match refusal {
            Refusal::Unschedulable(_) => Ended::Unschedulable,
            Refusal::Error(_) => Ended::Error,
        };
        let started = Instant::now();
        for (place, plugin) in self.each(Point::Reserve) {
            if let Err(refusal) = plugin.reserve(place, cycle, pod, table, row) {
                self.times.observe(Point::Reserve, ended(&refusal), started);
                return Err((place, refusal));
            }
        }
        self.times.observe(Point::Reserve, Ended::Success, started);
        let started = Instant::now();
        let mut waits = Vec::new();
        for (place, plugin) in self.each(Point::Permit) {
            match plugin.permit(place, cycle, pod, &table.row(row).node.name) {
                Permit::Allow => {}
                Permit::Wait(limit) => waits.push((plugin.name(), limit)),
                Permit::Refuse(refusal) => {
                    self.times.observe(Point::Permit, ended(&refusal), started);
                    return Err((place, refusal));
                }
            }
        }
        let ended = if waits.is_empty() { Ended::Success } else { Ended::Wait };
        self.times.observe(Point::Permit, ended, started);
        Ok((!waits.is_empty()).then(|| self.waiting.add(&pod.uid, &waits)))
    }

    pub fn unreserve(&self, cycle: &mut Cycle, pod: &Pod, table: &mut Table, node: &Symbol) {
        for (place, plugin) in self.each(Point::Reserve).rev() {
            plugin.unreserve(place, cycle, pod, table, node);
        }
    }

    /// Drops what only the choice of a node needed: plugins that take part later keep their states.
    pub fn end_choice(&self, cycle: &mut Cycle) {
        let later = [Point::Reserve, Point::Permit, Point::PreBind, Point::Bind, Point::PostBind];
        let places: Vec<usize> = later.iter().flat_map(|point| self.at(*point)).copied().collect();
        cycle.keep(&places);
    }

    /// The place of a plugin.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.plugins.iter().position(|plugin| plugin.name() == name)
    }

    pub fn post_bind(&self, cycle: &Cycle, pod: &Pod, table: &mut Table, node: &Symbol) {
        let started = Instant::now();
        for (place, plugin) in self.each(Point::PostBind) {
            plugin.post_bind(place, cycle, pod, table, node);
        }
        self.times.observe(Point::PostBind, Ended::Success, started);
    }

    /// Takes back what was written for a pod that is not bound after all.
    pub async fn retract(&self, cycle: &Cycle, pod: &Pod, handle: &Handle) {
        for (place, plugin) in self.each(Point::Reserve).rev() {
            plugin.retract(place, cycle, pod, handle).await;
        }
    }

    /// Whether binding the pod takes more than a request.
    pub fn has_pre_bind(&self, cycle: &Cycle) -> bool {
        self.each(Point::PreBind).any(|(place, plugin)| plugin.has_pre_bind(place, cycle))
    }

    /// Pre-bind plugins, then the first that binds.
    pub async fn bind(
        &self,
        handle: &Handle,
        cycle: &Cycle,
        pod: &Pod,
        node: &Symbol,
        slot: &mut Slot,
    ) -> Result<(), BindError> {
        let started = Instant::now();
        for (place, plugin) in
            self.each(Point::PreBind).filter(|(place, plugin)| plugin.has_pre_bind(*place, cycle))
        {
            if let Err(message) = plugin.pre_bind(place, cycle, pod, node, handle, slot).await {
                self.times.observe(Point::PreBind, Ended::Error, started);
                return Err(BindError::PreBind { plugin: plugin.name(), message });
            }
        }
        self.times.observe(Point::PreBind, Ended::Success, started);
        if let Some(result) = self.extenders.bind(pod, node).await {
            return result.map_err(BindError::Refused);
        }
        let started = Instant::now();
        for (_, plugin) in self.each(Point::Bind) {
            if let Some(result) = plugin.bind(&handle.client, pod, node).await {
                let ended = if result.is_ok() { Ended::Success } else { Ended::Error };
                self.times.observe(Point::Bind, ended, started);
                return result.map_err(BindError::Api);
            }
        }
        Err(BindError::Refused("no bind plugin bound the pod".into()))
    }
}

/// Stands for extenders among the plugins that rejected a pod. Nobody knows what would change their mind.
struct RejectedByExtender;

impl Plugin for RejectedByExtender {
    fn name(&self) -> &'static str {
        "Extender"
    }

    fn points(&self) -> &'static [Point] {
        &[]
    }

    fn events(&self) -> Events {
        Events::ALL
    }
}

/// A pod on its way through the filters that apply to it.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    pub profile: &'a Profile,
    pub table: &'a Table,
    pub pod: &'a Arc<Pod>,
    /// Places of the filters that have something to say.
    pub active: &'a [usize],
}

impl Trial<'_> {
    /// Whether the filters let the pod onto the node; else which does not. It must fit beside the pods that have been
    /// promised the node, and without them too: they may be placed elsewhere.
    pub fn fits(
        &self,
        cycle: &mut Cycle,
        view: NodeView<'_>,
        promised: &[&Arc<Pod>],
    ) -> Result<(), (usize, Reject)> {
        if !promised.is_empty() {
            let mut usage = view.usage.clone();
            for other in promised {
                usage.add(other);
                self.adjust(cycle, view.index, other, 1);
            }
            let verdict = self.filter(cycle, NodeView { usage: &usage, ..view });
            for other in promised {
                self.adjust(cycle, view.index, other, -1);
            }
            verdict?;
        }
        self.filter(cycle, view)
    }

    fn filter(&self, cycle: &Cycle, view: NodeView<'_>) -> Result<(), (usize, Reject)> {
        self.active.iter().try_for_each(|place| {
            let plugin = &self.profile.plugins[*place];
            plugin.filter(*place, cycle, self.pod, view).map_err(|reject| (*place, reject))
        })
    }

    /// Has the filters judge as if there were another pod more or less on a row.
    pub fn adjust(&self, cycle: &mut Cycle, row: usize, other: &Pod, by: i64) {
        let adjustment = Adjustment { table: self.table, row, other, by };
        for place in self.active {
            self.profile.plugins[*place].adjust(*place, cycle, self.pod, &adjustment);
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("binding rejected: {0}")]
    Api(client::Error),
    #[error("binding rejected: {0}")]
    Refused(String),
    #[error("running PreBind plugin {plugin:?}: {message}")]
    PreBind { plugin: &'static str, message: String },
}
