//! A profile: the plugins pods of one scheduler name go through.

use std::sync::Arc;
use std::time::Instant;

use super::waiting::{WaitingPod, WaitingPods};
use crate::cluster::{Pod, Row, Symbol};
use crate::framework::{Cycle, Permit, Plugin, Point, Reject};
use crate::metrics::{Ended, PointTimes};

pub struct Profile {
    pub name: Symbol,
    pub plugins: Vec<Arc<dyn Plugin>>,
    /// Places of the plugins that take part in each point.
    points: [Vec<usize>; Point::COUNT],
    weights: Vec<i64>,
    /// Percentage of nodes to find before scoring; 0 adapts to the cluster.
    pub percentage: i64,
    /// Preemption is enabled.
    pub preempts: bool,
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
        let preempts = !points[Point::PostFilter as usize].is_empty();
        let waiting = Arc::new(WaitingPods::default());
        for (plugin, _) in &plugins {
            plugin.connect(&waiting);
        }
        let (plugins, weights) = plugins.into_iter().take(MOST_PLUGINS).unzip();
        let times = PointTimes::new(name);
        Profile { name: Symbol::new(name), plugins, points, weights, percentage, preempts, waiting, times }
    }

    pub fn at(&self, point: Point) -> &[usize] {
        &self.points[point as usize]
    }

    pub fn each(&self, point: Point) -> impl DoubleEndedIterator<Item = (usize, &Arc<dyn Plugin>)> {
        self.at(point).iter().map(|place| (*place, &self.plugins[*place]))
    }

    pub fn weight(&self, place: usize) -> i64 {
        self.weights[place].max(1)
    }

    /// The plugin that keeps the pod out of the queue, and why.
    pub fn pre_enqueue(&self, pod: &Pod) -> Option<(&'static str, String)> {
        self.each(Point::PreEnqueue)
            .find_map(|(_, plugin)| plugin.pre_enqueue(pod).err().map(|message| (plugin.name(), message)))
    }

    /// Whether the filters in `active` let the pod onto the node; else which does not. It must fit beside the pods that
    /// have been promised the node, and without them too: they may be placed elsewhere.
    pub fn fits(
        &self,
        active: &[usize],
        cycle: &Cycle,
        pod: &Pod,
        row: &Row,
        promised: &[&Arc<Pod>],
    ) -> Result<(), (usize, Reject)> {
        let filter = |row: &Row| {
            active.iter().try_for_each(|place| {
                self.plugins[*place].filter(*place, cycle, pod, row).map_err(|reject| (*place, reject))
            })
        };
        if !promised.is_empty() {
            let mut trial = row.clone();
            for other in promised {
                trial.place(other);
            }
            filter(&trial)?;
        }
        filter(row)
    }

    /// Runs reserve and permit plugins. Answers the pod that waits where one of these holds it back, or why it is rejected.
    pub fn reserve(&self, pod: &Pod, node: Symbol) -> Result<Option<WaitingPod>, String> {
        let started = Instant::now();
        for (_, plugin) in self.each(Point::Reserve) {
            if let Err(message) = plugin.reserve(pod, node) {
                self.times.observe(Point::Reserve, Ended::Unschedulable, started);
                return Err(message);
            }
        }
        self.times.observe(Point::Reserve, Ended::Success, started);
        let started = Instant::now();
        let mut waits = Vec::new();
        for (_, plugin) in self.each(Point::Permit) {
            match plugin.permit(pod, node) {
                Permit::Allow => {}
                Permit::Wait(limit) => waits.push((plugin.name(), limit)),
                Permit::Reject(message) => {
                    self.times.observe(Point::Permit, Ended::Unschedulable, started);
                    return Err(message);
                }
            }
        }
        let ended = if waits.is_empty() { Ended::Success } else { Ended::Wait };
        self.times.observe(Point::Permit, ended, started);
        Ok((!waits.is_empty()).then(|| self.waiting.add(&pod.uid, &waits)))
    }

    pub fn unreserve(&self, pod: &Pod, node: Symbol) {
        for (_, plugin) in self.each(Point::Reserve).rev() {
            plugin.unreserve(pod, node);
        }
    }

    pub fn post_bind(&self, pod: &Pod, node: Symbol) {
        let started = Instant::now();
        for (_, plugin) in self.each(Point::PostBind) {
            plugin.post_bind(pod, node);
        }
        self.times.observe(Point::PostBind, Ended::Success, started);
    }

    /// Pre-bind plugins, then the first that binds.
    pub async fn bind(&self, client: &client::Client, pod: &Pod, node: Symbol) -> Result<(), BindError> {
        let started = Instant::now();
        for (_, plugin) in self.each(Point::PreBind) {
            if let Err(message) = plugin.pre_bind(pod, node).await {
                self.times.observe(Point::PreBind, Ended::Error, started);
                return Err(BindError::Refused(message));
            }
        }
        self.times.observe(Point::PreBind, Ended::Success, started);
        let started = Instant::now();
        for (_, plugin) in self.each(Point::Bind) {
            if let Some(result) = plugin.bind(client, pod, node).await {
                let ended = if result.is_ok() { Ended::Success } else { Ended::Error };
                self.times.observe(Point::Bind, ended, started);
                return result.map_err(BindError::Api);
            }
        }
        Err(BindError::Refused("no bind plugin bound the pod".into()))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("binding rejected: {0}")]
    Api(client::Error),
    #[error("binding rejected: {0}")]
    Refused(String),
}
