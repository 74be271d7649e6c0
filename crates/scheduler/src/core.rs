//! The scheduler without I/O: table, queue and profiles, driven by calls with the time passed in.
//! Calls return what is to be done outside: bind, report, delete victims.

pub mod algorithm;
pub mod profile;
pub mod queue;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustc_hash::FxHashMap;

use crate::cluster::{Node, Pod, Symbol, Table};
use crate::framework::{Change, Cycle, Diagnosis, Point};
use crate::metrics::{self, Ended};
use crate::plugins::{Preemption, Victims};
use algorithm::Choice;
use profile::Profile;
use queue::{Entry, Queue};
use waiting::WaitingPod;

/// The state of a scheduler.
pub struct Core {
    pub table: Table,
    pub queue: Queue,
    pub profiles: FxHashMap<Symbol, Arc<Profile>>,
    /// Newest states of pods whose binding is under way, needed if it fails.
    updates: FxHashMap<Box<str>, Arc<Pod>>,
    start: usize,
    random: SmallRng,
}

/// Result of scheduling a pod that was taken from the queue.
pub enum Attempt {
    /// Assumed on a node: bind it, then [`Core::bound`] or [`Core::bind_failed`]. Wait first where permit plugins ask for it.
    Bind { entry: Entry, node: Symbol, choice: Choice, profile: Arc<Profile>, wait: Option<WaitingPod> },
    /// Fits nowhere; it is in the queue again. Clear the nominations that have ended: its own, or those of less
    /// important pods to the node that it will get.
    Unschedulable {
        pod: Arc<Pod>,
        message: String,
        victims: Option<Victims>,
        ended_nominations: Vec<Arc<Pod>>,
    },
    /// It need not be scheduled.
    Skipped,
}

impl Core {
    /// `seed` makes the choice among equally good nodes reproducible.
    pub fn new(profiles: Vec<Profile>, backoff: queue::Backoff, seed: u64) -> Core {
        let profiles = profiles.into_iter().map(|profile| (profile.name, Arc::new(profile))).collect();
        Core {
            table: Table::default(),
            queue: Queue::new(backoff),
            profiles,
            updates: FxHashMap::default(),
            start: 0,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    fn profile(&self, pod: &Pod) -> Option<Arc<Profile>> {
        self.profiles.get(&pod.scheduler).cloned()
    }

    /// A pod appeared or changed. `old` is its state before.
    pub fn set_pod(&mut self, pod: &Arc<Pod>, old: Option<&Pod>, now: Duration) {
        if pod.finished {
            return self.remove_pod(pod, now);
        }
        if !pod.node.is_empty() {
            self.queue.remove(&pod.uid);
            self.updates.remove(&pod.uid);
            self.table.end_nomination(&pod.uid);
            let before = old.filter(|old| !old.node.is_empty());
            self.table.set_pod(pod);
            match before {
                None => self.changed(&Change::PodPlaced(pod), now),
                Some(old) => {
                    if old.requests != pod.requests {
                        self.changed(&Change::PodRemoved { pod: old, node: pod.node }, now);
                    }
                    if old.labels != pod.labels {
                        self.changed(&Change::PodPlaced(pod), now);
                        self.changed(&Change::PodRemoved { pod: old, node: pod.node }, now);
                    }
                }
            }
            return;
        }
        let Some(profile) = self.profile(pod) else { return };
        if self.table.is_assumed(&pod.uid) {
            self.updates.insert(pod.uid.clone(), pod.clone());
            return;
        }
        if pod.deleting {
            self.queue.remove(&pod.uid);
            return;
        }
        if !pod.nominated.is_empty() {
            self.table.nominate(pod, pod.nominated);
        } else if old.is_some_and(|old| !old.nominated.is_empty()) {
            self.end_nomination(pod, now);
        }
        let gate = profile.pre_enqueue(pod);
        self.queue.set(pod, gate, now);
    }

    /// A pod is gone, or has finished.
    pub fn remove_pod(&mut self, pod: &Arc<Pod>, now: Duration) {
        self.queue.remove(&pod.uid);
        self.updates.remove(&pod.uid);
        self.table.end_leaving(&pod.uid);
        self.end_nomination(pod, now);
        if let Some(profile) = self.profile(pod) {
            profile.waiting.reject(&pod.uid, "removed");
        }
        if let Some((placed, node)) = self.table.remove_pod(&pod.uid) {
            self.changed(&Change::PodRemoved { pod: &placed, node }, now);
        }
    }

    pub fn set_node(&mut self, node: &Node, old: Option<&Node>, now: Duration) {
        let index = self.table.set_node(node);
        let row = self.table.row(index);
        match old {
            None => self.queue.changed(&self.profiles, &Change::NodeAdded(row), now),
            // A heartbeat or a list of images helps no pod.
            Some(old)
                if old.allocatable != node.allocatable
                    || old.max_pods != node.max_pods
                    || old.labels != node.labels
                    || old.taints != node.taints
                    || old.unschedulable != node.unschedulable =>
            {
                let change = Change::NodeUpdated { row, labels: &old.labels };
                self.queue.changed(&self.profiles, &change, now);
            }
            Some(_) => {}
        }
    }

    pub fn remove_node(&mut self, name: Symbol, now: Duration) {
        if let Some(labels) = self.table.remove_node(name) {
            self.changed(&Change::NodeRemoved(&labels), now);
        }
    }

    fn changed(&mut self, change: &Change<'_>, now: Duration) {
        self.queue.changed(&self.profiles, change, now);
    }

    /// Takes the next pod and schedules it. None when none is ready.
    pub fn attempt(&mut self, now: Duration) -> Option<Attempt> {
        let mut entry = self.queue.pop(now)?;
        let Some(profile) = self.profile(&entry.pod) else { return Some(Attempt::Skipped) };
        if entry.pod.deleting || self.table.node_of(&entry.pod.uid).is_some() {
            return Some(Attempt::Skipped);
        }
        entry.attempts += 1;
        let pod = entry.pod.clone();
        match algorithm::schedule(&profile, &self.table, &pod, &mut self.start, &mut self.random) {
            Ok(choice) => {
                let node = self.table.row(choice.row).name;
                self.table.assume(&pod, node);
                self.table.end_nomination(&pod.uid);
                match profile.reserve(&pod, node) {
                    Ok(wait) => Some(Attempt::Bind { entry, node, choice, profile, wait }),
                    Err(message) => {
                        profile.unreserve(&pod, node);
                        self.table.forget(&pod.uid);
                        self.queue.failed(entry, now);
                        let ended_nominations = Vec::new();
                        Some(Attempt::Unschedulable { pod, message, victims: None, ended_nominations })
                    }
                }
            }
            Err(failure) => {
                let (mut diagnosis, cycle, active) = *failure;
                let before = (&cycle, active.as_slice());
                let (victims, ended_nominations) = self.preempt(&profile, &pod, &mut diagnosis, before, now);
                let message = diagnosis.text();
                if victims.is_some() {
                    self.queue.preempts(&pod.uid);
                }
                if diagnosis.plugins == 0 {
                    self.queue.failed(entry, now);
                } else {
                    self.queue.unschedulable(entry, diagnosis.plugins, now);
                }
                Some(Attempt::Unschedulable { pod, message, victims, ended_nominations })
            }
        }
    }

    fn preempt(
        &mut self,
        profile: &Profile,
        pod: &Arc<Pod>,
        diagnosis: &mut Diagnosis,
        before: (&Cycle, &[usize]),
        now: Duration,
    ) -> (Option<Victims>, Vec<Arc<Pod>>) {
        if !profile.preempts || diagnosis.nodes == 0 {
            return (None, Vec::new());
        }
        let started = std::time::Instant::now();
        metrics::PREEMPTIONS.inc();
        let (victims, ended_nominations) = self.post_filter(profile, pod, diagnosis, before, now);
        let ended = if victims.is_some() { Ended::Success } else { Ended::Unschedulable };
        profile.times.observe(Point::PostFilter, ended, started);
        (victims, ended_nominations)
    }

    fn post_filter(
        &mut self,
        profile: &Profile,
        pod: &Arc<Pod>,
        diagnosis: &mut Diagnosis,
        (cycle, active): (&Cycle, &[usize]),
        now: Duration,
    ) -> (Option<Victims>, Vec<Arc<Pod>>) {
        if diagnosis.message.is_some() {
            // Upstream's text when no node was examined.
            diagnosis.post_filter = Some("not found".into());
            return (None, Vec::new());
        }
        match crate::plugins::search_victims(profile, cycle, active, pod, &self.table, diagnosis) {
            Preemption::Victims(victims) => {
                diagnosis.post_filter = Some(format!(
                    "preemption: found a potential placement for pod on node {}, preempting {} victims",
                    victims.node,
                    victims.pods.len()
                ));
                self.table.nominate(pod, victims.node);
                self.table.set_leaving(&victims.pods);
                let ended_nominations = self.displace(pod, victims.node, now);
                (Some(victims), ended_nominations)
            }
            Preemption::Ineligible(message) => {
                diagnosis.post_filter = Some(message.into());
                (None, Vec::new())
            }
            Preemption::None(message) => {
                diagnosis.post_filter = Some(message);
                let ended = self.end_nomination(pod, now) || !pod.nominated.is_empty();
                (None, if ended { vec![pod.clone()] } else { Vec::new() })
            }
        }
    }

    /// Less important pods that were promised the node may not fit beside `pod`: they look for another.
    fn displace(&mut self, pod: &Pod, node: Symbol, now: Duration) -> Vec<Arc<Pod>> {
        let Some(row) = self.table.index(node) else { return Vec::new() };
        let others = self.table.nominated(row).iter();
        let lower: Vec<Arc<Pod>> = others.filter(|other| other.priority < pod.priority).cloned().collect();
        for other in &lower {
            self.table.end_nomination(&other.uid);
            self.queue.give_up_waiting(&other.uid, now);
        }
        lower
    }

    /// Ends the nomination of a pod that is not placed. What was kept for it may help others.
    fn end_nomination(&mut self, pod: &Pod, now: Duration) -> bool {
        let Some(node) = self.table.end_nomination(&pod.uid) else { return false };
        self.changed(&Change::PodRemoved { pod, node }, now);
        true
    }

    /// All victims have been deleted, or are on their way: their ends wake the pod from now on.
    pub fn preempted(&mut self, pod: &Pod, now: Duration) {
        self.queue.preemption_ended(&pod.uid, now);
    }

    /// Victims could not be deleted: the place is not the pod's, and no end of theirs will wake it.
    pub fn preemption_failed(&mut self, pod: &Pod, victims: &Victims, now: Duration) {
        for victim in &victims.pods {
            self.table.end_leaving(&victim.uid);
        }
        self.queue.preemption_ended(&pod.uid, now);
        self.queue.give_up_waiting(&pod.uid, now);
        self.end_nomination(pod, now);
    }

    /// The API server has accepted the binding. The pod stays assumed until it is seen bound.
    pub fn bound(&mut self, profile: &Profile, pod: &Pod, node: Symbol) {
        profile.post_bind(pod, node);
    }

    /// The binding failed: the place is free again and the pod is tried again as it is now, unless it is gone or
    /// going, or has been seen bound meanwhile. True when it will be tried.
    pub fn bind_failed(
        &mut self,
        profile: &Profile,
        mut entry: Entry,
        node: Symbol,
        gone: bool,
        now: Duration,
    ) -> bool {
        profile.unreserve(&entry.pod, node);
        let Some((pod, _)) = self.table.forget(&entry.pod.uid) else { return false };
        self.changed(&Change::PodRemoved { pod: &pod, node }, now);
        if let Some(update) = self.updates.remove(&pod.uid) {
            entry.pod = update;
        }
        if gone || entry.pod.deleting {
            return false;
        }
        self.queue.failed(entry, now);
        true
    }
}
