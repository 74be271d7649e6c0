//! The scheduler without I/O: table, queue and profiles, driven by calls with the time passed in.
//! Calls return what is to be done outside: bind, report, delete victims.

pub mod algorithm;
mod classes;
pub mod explain;
pub mod inquiry;
pub mod profile;
pub mod queue;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustc_hash::FxHashMap;

use crate::cluster::facts::devices::{DeviceClaim, DeviceClass, Slice, TaintRule};
use crate::cluster::facts::storage::{Attachment, Capacity, Claim, Class, CsiDriver, CsiNode, Volume};
use crate::cluster::{Namespace, Node, Pod, Row, Symbol, Table};
use crate::framework::{Change, Cycle, Diagnosis, Point, Refusal, Remedy};
use crate::metrics::{self, Ended};
use crate::plugins::{Preemption, Victims, choose_victims};
use algorithm::{Choice, Found};
use inquiry::{Answers, Inquiry, Question};
use profile::{Profile, Trial};
use queue::{Entry, Queue};
use waiting::{Rejection, WaitingPod};

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
    Bind(Box<Binding>),
    /// Extenders have a say: ask them, then [`Core::resume`].
    Ask(Box<Inquiry>),
    /// Scheduling it went wrong; it is in the queue again.
    Failed { pod: Arc<Pod>, message: String },
    /// Fits nowhere; it is in the queue again. Clear the nominations that have ended: its own, or those of less
    /// important pods to the node that it will get.
    Unschedulable {
        pod: Arc<Pod>,
        message: String,
        victims: Option<Victims>,
        ended_nominations: Vec<Arc<Pod>>,
        /// What else might help it.
        remedy: Option<Remedy>,
    },
    /// It need not be scheduled.
    Skipped,
}

/// A pod that is to be bound.
pub struct Binding {
    pub entry: Entry,
    pub node: Symbol,
    pub choice: Choice,
    pub profile: Arc<Profile>,
    /// Permit plugins have it wait first.
    pub wait: Option<WaitingPod>,
}

impl Core {
    /// `seed` makes the choice among equally good nodes reproducible.
    pub fn new(profiles: Vec<Profile>, backoff: queue::Backoff, seed: u64) -> Core {
        let profiles =
            profiles.into_iter().map(|profile| (profile.name.clone(), Arc::new(profile))).collect();
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
        self.profiles.get(&pod.needs.scheduler).cloned()
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
            self.table.set_pod(pod);
            let Some(old) = old.filter(|old| !old.node.is_empty()) else {
                return self.changed(&Change::PodPlaced(pod), now);
            };
            if old.labels != pod.labels {
                self.changed(&Change::PodLabelled { old, new: pod }, now);
            }
            if old.needs.requests != pod.needs.requests
                && let Some(row) = self.table.index(&pod.node)
            {
                self.changed_row(row, |row| Change::PodScaled { row }, now);
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
            self.table.nominate(pod, &pod.nominated);
        } else if old.is_some_and(|old| !old.nominated.is_empty()) {
            self.end_nomination(pod, now);
        }
        let gate = profile.pre_enqueue(pod, &self.table.facts).map(|(place, _)| place);
        self.queue.set(pod, gate, now);
    }

    /// A pod is gone, or has finished.
    pub fn remove_pod(&mut self, pod: &Arc<Pod>, now: Duration) {
        self.queue.remove(&pod.uid);
        self.updates.remove(&pod.uid);
        self.table.end_leaving(&pod.uid);
        self.end_nomination(pod, now);
        if let Some(profile) = self.profile(pod) {
            profile.waiting.reject(&pod.uid, "", "removed");
        }
        if let Some((placed, row)) = self.table.remove_pod(&pod.uid) {
            self.removed(&placed, row, now);
        }
    }

    /// A node appeared or changed.
    pub fn set_node(&mut self, node: &Arc<Node>, old: Option<&Node>, now: Duration) {
        let index = self.table.set_node(node);
        match old {
            None => self.changed_row(index, Change::NodeAdded, now),
            Some(old) => self.changed_row(index, |row| Change::NodeUpdated { row, old }, now),
        }
    }

    pub fn remove_node(&mut self, name: &Symbol, now: Duration) {
        if let Some(node) = self.table.remove_node(name) {
            self.changed(&Change::NodeRemoved(&node), now);
        }
    }

    /// Labels of a namespace, by which terms of affinity select.
    pub fn set_namespace(&mut self, namespace: &Namespace) {
        self.table.namespaces.set(namespace);
    }

    /// A claim came or changed.
    pub fn set_claim(&mut self, claim: &Arc<Claim>, now: Duration) {
        self.table.facts.claims.set(claim.key.clone(), claim.clone());
        self.changed(&Change::Claim(claim), now);
    }

    pub fn set_volume(&mut self, volume: &Arc<Volume>, now: Duration) {
        self.table.facts.set_volume(volume);
        self.changed(&Change::Volume(volume), now);
    }

    pub fn set_class(&mut self, class: &Arc<Class>, now: Duration) {
        self.table.facts.classes.insert(class.name.clone(), class.clone());
        self.changed(&Change::Class(class), now);
    }

    pub fn set_csi_node(&mut self, node: &Arc<CsiNode>, now: Duration) {
        self.table.facts.csi_nodes.insert(node.name.clone(), node.clone());
        self.changed(&Change::CsiNode, now);
    }

    pub fn set_csi_driver(&mut self, driver: &Arc<CsiDriver>, now: Duration) {
        self.table.facts.csi_drivers.insert(driver.name.clone(), driver.clone());
        self.changed(&Change::Csi, now);
    }

    pub fn set_capacity(&mut self, capacity: &Arc<Capacity>, now: Duration) {
        self.table.facts.capacities.insert(capacity.key.clone(), capacity.clone());
        self.changed(&Change::Csi, now);
    }

    pub fn remove_attachment(&mut self, attachment: &Attachment, now: Duration) {
        self.table.facts.remove_attachment(attachment);
        self.changed(&Change::Detached, now);
    }

    pub fn set_device_claim(&mut self, claim: &Arc<DeviceClaim>, now: Duration) {
        let change = self.table.facts.devices.set_claim(claim);
        self.changed(&Change::DeviceClaim { claim, change }, now);
    }

    pub fn remove_device_claim(&mut self, claim: &DeviceClaim, now: Duration) {
        let change = self.table.facts.devices.remove_claim(claim);
        self.changed(&Change::DeviceClaim { claim, change }, now);
    }

    pub fn set_device_class(&mut self, class: &Arc<DeviceClass>, now: Duration) {
        self.table.facts.devices.classes.insert(class.name.clone(), class.clone());
        self.changed(&Change::Devices, now);
    }

    pub fn set_device_slice(&mut self, slice: &Arc<Slice>, now: Duration) {
        self.table.facts.devices.set_slice(slice);
        self.changed(&Change::Devices, now);
    }

    pub fn set_device_rule(&mut self, rule: &Arc<TaintRule>, now: Duration) {
        self.table.facts.devices.set_rule(rule);
        self.changed(&Change::Devices, now);
    }

    pub fn remove_device_rule(&mut self, name: &Symbol, now: Duration) {
        self.table.facts.devices.remove_rule(name);
        self.changed(&Change::Devices, now);
    }

    fn changed(&mut self, change: &Change<'_>, now: Duration) {
        self.queue.changed(&self.profiles, &self.table.facts, change, now);
    }

    fn changed_row<'a>(&'a mut self, row: usize, change: impl Fn(&'a Row) -> Change<'a>, now: Duration) {
        self.queue.changed(&self.profiles, &self.table.facts, &change(self.table.row(row)), now);
    }

    /// What a pod took of a row is free again.
    fn removed(&mut self, pod: &Pod, row: usize, now: Duration) {
        let change = Change::PodRemoved { pod, row: self.table.row(row) };
        self.queue.changed(&self.profiles, &self.table.facts, &change, now);
        // Pods that were promised the node see whether it is still for them.
        for other in self.table.nominated(row) {
            self.queue.wake(&other.uid, change.name(), now);
        }
    }

    /// Takes the next pod and schedules it. None when none is ready.
    pub fn attempt(&mut self, now: Duration) -> Option<Attempt> {
        let mut entry = self.queue.pop(now)?;
        let Some(profile) = self.profile(&entry.pod) else { return Some(Attempt::Skipped) };
        if entry.pod.deleting || self.table.node_of(&entry.pod.uid).is_some() {
            return Some(Attempt::Skipped);
        }
        entry.attempts += 1;
        Some(self.schedule(entry, profile, Answers::default(), now))
    }

    /// Schedules a pod as far as what extenders have said of it goes.
    fn schedule(
        &mut self,
        entry: Entry,
        profile: Arc<Profile>,
        mut answers: Answers,
        now: Duration,
    ) -> Attempt {
        let pod = entry.pod.clone();
        self.table.arrange();
        let (start, random) = (&mut self.start, &mut self.random);
        match algorithm::schedule(&profile, &self.table, &pod, &mut answers, start, random) {
            Ok(Found::Choice(choice)) => self.place(entry, profile, choice, now),
            Ok(Found::Ask(question)) => self.inquire(entry, profile, question, answers, Diagnosis::default()),
            Err(failure) => {
                let (mut diagnosis, mut cycle, active) = *failure;
                if let Some(message) = diagnosis.failure {
                    self.queue.failed(entry, now);
                    return Attempt::Failed { pod, message };
                }
                let trial = Trial { profile: &profile, table: &self.table, pod: &pod, active: &active };
                match help(&trial, &mut cycle, &mut diagnosis) {
                    Some(Preemption::Candidates(candidates)) if profile.extenders.preempt(&pod.needs) => {
                        self.inquire(entry, profile, Question::Victims(candidates), answers, diagnosis)
                    }
                    found => self.unschedulable(entry, found, diagnosis, now),
                }
            }
        }
    }

    /// Assumes the pod on the chosen node, and lets plugins reserve what it needs there.
    fn place(&mut self, entry: Entry, profile: Arc<Profile>, mut choice: Choice, now: Duration) -> Attempt {
        let pod = entry.pod.clone();
        let node = self.table.row(choice.row).node.name.clone();
        self.table.assume(&pod, &node);
        self.table.end_nomination(&pod.uid);
        profile.end_choice(&mut choice.cycle);
        let refused = match profile.reserve(&mut choice.cycle, &pod, &mut self.table, choice.row) {
            Ok(wait) => return Attempt::Bind(Box::new(Binding { entry, node, choice, profile, wait })),
            Err(refused) => refused,
        };
        profile.unreserve(&mut choice.cycle, &pod, &mut self.table, &node);
        self.table.forget(&pod.uid);
        match refused {
            (plugin, Refusal::Unschedulable(message)) => {
                let message = Diagnosis::of_chosen(plugin, &message).text();
                self.queue.unschedulable(entry, 1 << plugin, now);
                Attempt::Unschedulable {
                    pod,
                    message,
                    victims: None,
                    ended_nominations: Vec::new(),
                    remedy: None,
                }
            }
            (_, Refusal::Error(message)) => {
                self.queue.failed(entry, now);
                Attempt::Failed { pod, message }
            }
        }
    }

    /// Takes down what preemption found for a pod: its place, and the nominations that this ends.
    fn nominate(
        &mut self,
        found: Option<Preemption>,
        pod: &Arc<Pod>,
        diagnosis: &mut Diagnosis,
        now: Duration,
    ) -> (Option<Victims>, Vec<Arc<Pod>>) {
        match found {
            None => (None, Vec::new()),
            Some(Preemption::Candidates(candidates)) => {
                let Some(victims) = choose_victims(candidates) else { return (None, Vec::new()) };
                diagnosis.add_post_filter(&format!(
                    "preemption: found a potential placement for pod on node {}, preempting {} victims",
                    victims.node,
                    victims.pods.len()
                ));
                self.table.nominate(pod, &victims.node);
                self.table.set_leaving(&victims.pods);
                let ended_nominations = self.displace(pod, &victims.node, now);
                (Some(victims), ended_nominations)
            }
            Some(Preemption::Ineligible(message)) => {
                diagnosis.add_post_filter(message);
                (None, Vec::new())
            }
            Some(Preemption::None(message)) => {
                diagnosis.add_post_filter(&message);
                let ended = self.end_nomination(pod, now) || !pod.nominated.is_empty();
                (None, if ended { vec![pod.clone()] } else { Vec::new() })
            }
        }
    }

    /// Less important pods that were promised the node may not fit beside `pod`: they look for another.
    fn displace(&mut self, pod: &Pod, node: &Symbol, now: Duration) -> Vec<Arc<Pod>> {
        let Some(row) = self.table.index(node) else { return Vec::new() };
        let others = self.table.nominated(row).iter();
        let lower: Vec<Arc<Pod>> =
            others.filter(|other| other.needs.priority < pod.needs.priority).cloned().collect();
        for other in &lower {
            self.table.end_nomination(&other.uid);
            self.queue.give_up_waiting(&other.uid, now);
        }
        lower
    }

    /// Ends the nomination of a pod that is not placed. What was kept for it may help others.
    fn end_nomination(&mut self, pod: &Pod, now: Duration) -> bool {
        let Some(row) = self.table.end_nomination(&pod.uid) else { return false };
        self.removed(pod, row, now);
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
    pub fn bound(&mut self, binding: &Binding) {
        let pod = &binding.entry.pod;
        binding.profile.post_bind(&binding.choice.cycle, pod, &mut self.table, &binding.node);
    }

    /// The binding failed: the place is free again and the pod is tried again as it is now, unless it is gone or
    /// going, or has been seen bound meanwhile. True when it will be tried.
    pub fn bind_failed(&mut self, binding: Binding, gone: bool, now: Duration) -> bool {
        match self.take_back(binding, now).filter(|_| !gone) {
            Some(entry) => self.queue.failed(entry, now),
            None => return false,
        }
        true
    }

    /// A permit plugin let the pod wait in vain: it waits for a change that helps it. Its message, when it is still
    /// to be scheduled.
    pub fn permit_rejected(
        &mut self,
        binding: Binding,
        rejection: &Rejection,
        now: Duration,
    ) -> Option<String> {
        let profile = binding.profile.clone();
        let entry = self.take_back(binding, now)?;
        let Some(plugin) = profile.place(rejection.plugin) else {
            self.queue.failed(entry, now);
            return Some(rejection.message.clone());
        };
        self.queue.unschedulable(entry, 1 << plugin, now);
        Some(Diagnosis::of_chosen(plugin, &rejection.message).text())
    }

    /// Frees the place of a pod that will not be bound to it. Answers the pod as it is now, if it is still to be scheduled.
    fn take_back(&mut self, binding: Binding, now: Duration) -> Option<Entry> {
        let Binding { mut entry, node, mut choice, profile, .. } = binding;
        profile.unreserve(&mut choice.cycle, &entry.pod, &mut self.table, &node);
        let Some((pod, row)) = self.table.forget(&entry.pod.uid) else {
            // When the pod went, others were tried in vain: what its plugins had reserved is free only now.
            if let Some(row) = self.table.index(&node) {
                self.removed(&entry.pod, row, now);
            }
            return None;
        };
        self.removed(&pod, row, now);
        if let Some(update) = self.updates.remove(&pod.uid) {
            entry.pod = update;
        }
        (!entry.pod.deleting).then_some(entry)
    }
}

/// Runs post-filter plugins. Answers what preemption found, where it had its turn.
fn help(trial: &Trial<'_>, cycle: &mut Cycle, diagnosis: &mut Diagnosis) -> Option<Preemption> {
    if diagnosis.nodes == 0 || trial.profile.at(Point::PostFilter).is_empty() {
        return None;
    }
    let started = std::time::Instant::now();
    // Where a plugin rejected the pod before filtering, those behind it had no turn.
    let last = diagnosis.message.as_ref().map(|_| diagnosis.plugins.trailing_zeros() as usize);
    let mut found = None;
    for (place, plugin) in trial.profile.each(Point::PostFilter) {
        if plugin.post_filter_needs_state() && last.is_some_and(|last| last < place) {
            // Upstream's text for a state that is missing.
            diagnosis.post_filter = Some("not found".into());
            break;
        }
        if plugin.preemption().is_some() {
            metrics::PREEMPTIONS.inc();
            found = Some(crate::plugins::search_victims(trial, cycle, diagnosis));
        } else if let Some((message, remedy)) = plugin.post_filter(place, cycle, trial.pod) {
            diagnosis.add_post_filter(message);
            diagnosis.remedy = Some(remedy);
        }
    }
    let success = matches!(found, Some(Preemption::Candidates(_)));
    let ended = if success { Ended::Success } else { Ended::Unschedulable };
    trial.profile.times.observe(Point::PostFilter, ended, started);
    found
}
