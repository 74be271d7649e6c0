//! Pods waiting to be scheduled: ready ones by priority, those that failed until their time comes, those
//! that fit nowhere until something changes that could help them, and gated ones.
//!
//! Upstream's rules: a pod that fits nowhere waits for an event for which one of the plugins that rejected it
//! gives a hint; then it is ready, or in backoff if its time has not come. After five minutes it is tried anyway.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::classes::Classes;
use super::profile::Profile;
use crate::cluster::{Facts, Pod, Symbol};
use crate::framework::Change;

/// A pod fits nowhere for this long before it is tried without a reason.
const STALE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(10) }
    }
}

/// A waiting pod.
#[derive(Clone, Debug)]
pub struct Entry {
    pub pod: Arc<Pod>,
    pub attempts: u32,
    /// When it was first ready.
    pub first: Duration,
    /// When it came into its present place.
    since: Duration,
    /// Plugins that rejected it, a bit each.
    plugins: u64,
    /// Plugins for whose rejection there came a remedy while the pod was being scheduled.
    missed: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Active(ActiveKey),
    /// An event could help it, but it failed lately.
    Backoff(Duration),
    /// Scheduling it went wrong, for no reason of its own.
    Failed(Duration),
    Unschedulable,
    Gated,
    /// Extenders are being asked about it.
    Asked,
}

impl Place {
    /// As metrics name it.
    fn queue(&self) -> &'static str {
        match self {
            Place::Active(_) => "active",
            Place::Backoff(_) | Place::Failed(_) => "backoff",
            Place::Unschedulable => "unschedulable",
            Place::Gated => "gated",
            Place::Asked => "asked",
        }
    }
}

/// Priority first, then age.
type ActiveKey = (Reverse<i32>, Duration, u64);

/// How many pods wait where.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sizes {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

#[derive(Debug)]
pub struct Queue {
    backoff_times: Backoff,
    entries: FxHashMap<Box<str>, (Entry, Place)>,
    active: BTreeSet<(ActiveKey, Box<str>)>,
    backoff: BTreeSet<(Duration, Box<str>)>,
    failed: BTreeSet<(Duration, Box<str>)>,
    /// By when they came, to find those that have waited too long.
    unschedulable: BTreeSet<(Duration, Box<str>)>,
    /// By what rejected them, to find those that a change may help.
    classes: Classes,
    /// Gated pods, by the plugins that keep them out.
    gates: Classes,
    /// Pods whose victims are being deleted. They wait where they are, so as not to take others as well; whether
    /// anything has happened meanwhile for which they would have been tried.
    preempting: FxHashMap<Box<str>, bool>,
    sequence: u64,
    gated: usize,
    /// Pods that extenders are being asked about: they are in none of the others.
    asked: FxHashSet<Box<str>>,
    /// Pods added to each place, by event: upstream's metric.
    pub incoming: FxHashMap<(&'static str, &'static str), u64>,
}

impl Queue {
    pub fn new(backoff: Backoff) -> Queue {
        Queue {
            backoff_times: backoff,
            entries: FxHashMap::default(),
            active: BTreeSet::new(),
            backoff: BTreeSet::new(),
            failed: BTreeSet::new(),
            unschedulable: BTreeSet::new(),
            classes: Classes::default(),
            gates: Classes::default(),
            preempting: FxHashMap::default(),
            sequence: 0,
            gated: 0,
            asked: FxHashSet::default(),
            incoming: FxHashMap::default(),
        }
    }

    pub fn sizes(&self) -> Sizes {
        Sizes {
            active: self.active.len(),
            backoff: self.backoff.len() + self.failed.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.gated,
        }
    }

    /// How many pods each plugin of a profile rejected, by its place.
    pub fn rejected(&self, profile: &Profile) -> Vec<usize> {
        let (mut counts, gated) = (self.classes.rejected(profile), self.gates.rejected(profile));
        counts.iter_mut().zip(gated).for_each(|(count, gated)| *count += gated);
        counts
    }

    /// In which queue a pod is, and how often it was tried.
    pub fn state_of(&self, uid: &str) -> Option<(&'static str, u32)> {
        self.entries.get(uid).map(|(entry, place)| (place.queue(), entry.attempts))
    }

    /// In which queue a pod is.
    pub fn place_of(&self, uid: &str) -> Option<&'static str> {
        self.entries.get(uid).map(|(_, place)| place.queue())
    }

    /// A pod appeared or changed; `gate` is the place of the plugin that keeps it out.
    pub fn set(&mut self, pod: &Arc<Pod>, gate: Option<usize>, now: Duration) {
        match self.take(&pod.uid) {
            None => {
                let mut entry =
                    Entry { pod: pod.clone(), attempts: 0, first: now, since: now, plugins: 0, missed: 0 };
                match gate {
                    Some(gate) => {
                        entry.plugins = 1 << gate;
                        self.put(entry, Place::Gated, "UnscheduledPodAdd");
                    }
                    None => self.activate(entry, now, "UnscheduledPodAdd"),
                }
            }
            Some((mut entry, place)) => {
                let same = entry.pod.same_needs(pod);
                entry.pod = pod.clone();
                match (place, gate) {
                    (_, Some(gate)) => {
                        entry.plugins = 1 << gate;
                        self.put(entry, Place::Gated, "UnscheduledPodUpdate");
                    }
                    (Place::Gated, None) => self.open(entry, now, "UnscheduledPodUpdate"),
                    // It may fit now: ready, unless its backoff still runs.
                    (Place::Unschedulable, None) if !same => self.retry(entry, now, "UnscheduledPodUpdate"),
                    // The priority may have changed.
                    (Place::Active(_), None) if !same => self.activate(entry, now, "UnscheduledPodUpdate"),
                    (Place::Asked, None) if !same => {
                        entry.missed = u64::MAX;
                        self.put_back(entry, Place::Asked);
                    }
                    (place, None) => self.put_back(entry, place),
                }
            }
        }
    }

    /// Nothing keeps the pod out any longer.
    fn open(&mut self, mut entry: Entry, now: Duration, event: &'static str) {
        (entry.first, entry.plugins) = (now, 0);
        self.activate(entry, now, event);
    }

    pub fn remove(&mut self, uid: &str) {
        self.preempting.remove(uid);
        self.take(uid);
    }

    /// The deletion of the pod's victims begins.
    pub fn preempts(&mut self, uid: &str) {
        self.preempting.insert(uid.into(), false);
    }

    /// The pod's preemption has ended. If an event asked for another attempt meanwhile, it is made now.
    pub fn preemption_ended(&mut self, uid: &str, now: Duration) {
        if self.preempting.remove(uid) == Some(true)
            && let Some((entry, place)) = self.take(uid)
        {
            match place {
                Place::Unschedulable => self.retry(entry, now, "ForceActivate"),
                place => self.put_back(entry, place),
            }
        }
    }

    /// Whether the pod's victims are being deleted; then it is remembered that it is to be tried afterwards.
    fn waits_for_preemption(&mut self, uid: &str) -> bool {
        let Some(missed) = self.preempting.get_mut(uid) else { return false };
        *missed = true;
        true
    }

    /// The next pod, after moving those whose time has come. When none is ready, one that an event could help does
    /// not wait for the end of its backoff: there is nothing that it would delay.
    pub fn pop(&mut self, now: Duration) -> Option<Entry> {
        self.flush(now);
        let uid = match self.active.first() {
            Some((_, uid)) => uid.clone(),
            None => self.backoff.first()?.1.clone(),
        };
        self.take(&uid).map(|(entry, _)| entry)
    }

    /// When there will be something to do without an event.
    pub fn next(&self) -> Option<Duration> {
        if !self.active.is_empty() || !self.backoff.is_empty() {
            return Some(Duration::ZERO);
        }
        let failed = self.failed.first().map(|(at, _)| *at);
        let stale = self.unschedulable.first().map(|(since, _)| *since + STALE);
        [failed, stale].into_iter().flatten().min()
    }

    fn due(&self, now: Duration) -> Option<Box<str>> {
        let mut firsts = [self.backoff.first(), self.failed.first()].into_iter().flatten();
        firsts.find(|(at, _)| *at <= now).map(|(_, uid)| uid.clone())
    }

    fn flush(&mut self, now: Duration) {
        while let Some(uid) = self.due(now) {
            if let Some((entry, _)) = self.take(&uid) {
                self.activate(entry, now, "BackoffComplete");
            }
        }
        while let Some((since, uid)) = self.unschedulable.first().cloned()
            && since + STALE <= now
        {
            if let Some((entry, _)) = self.take(&uid) {
                self.retry(entry, now, "UnschedulableTimeout");
            }
        }
    }

    /// The pod fits nowhere; these plugins rejected it.
    pub fn unschedulable(&mut self, mut entry: Entry, plugins: u64, now: Duration) {
        entry.plugins = plugins;
        entry.since = now;
        let has_missed = std::mem::take(&mut entry.missed) & plugins != 0;
        if has_missed {
            return self.retry(entry, now, "ScheduleAttemptFailure");
        }
        self.put(entry, Place::Unschedulable, "ScheduleAttemptFailure");
    }

    /// Extenders are being asked about the pod; what happens meanwhile is taken down.
    pub fn ask(&mut self, entry: Entry) {
        self.put_back(entry, Place::Asked);
    }

    /// Extenders have answered. None when the pod is no longer to be scheduled.
    pub fn answered(&mut self, uid: &str) -> Option<Entry> {
        self.asked.contains(uid).then(|| self.take(uid)).flatten().map(|(entry, _)| entry)
    }

    /// Something else went wrong: try again after a while.
    pub fn failed(&mut self, mut entry: Entry, now: Duration) {
        (entry.plugins, entry.missed) = (0, 0);
        entry.since = now;
        let at = now + self.delay(entry.attempts);
        self.put(entry, Place::Failed(at), "ScheduleAttemptFailure");
    }

    /// No change will come that would help a pod that waits for one: try again after a while.
    pub fn give_up_waiting(&mut self, uid: &str, now: Duration) {
        if let Some((entry, place)) = self.take(uid) {
            match place {
                Place::Unschedulable if self.waits_for_preemption(uid) => self.put_back(entry, place),
                Place::Unschedulable => self.failed(entry, now),
                place => self.put_back(entry, place),
            }
        }
    }

    /// Moves the pods that a change could help.
    pub fn changed(
        &mut self,
        profiles: &FxHashMap<Symbol, Arc<Profile>>,
        facts: &Facts,
        change: &Change<'_>,
        now: Duration,
    ) {
        for uid in self.gates.helped(profiles, change) {
            let Some((mut entry, place)) = self.take(&uid) else { continue };
            let profile = profiles.get(&entry.pod.needs.scheduler);
            match profile.and_then(|profile| profile.pre_enqueue(&entry.pod, facts)) {
                Some((gate, _)) => {
                    entry.plugins = 1 << gate;
                    self.put_back(entry, place);
                }
                None => self.open(entry, now, change.name()),
            }
        }
        let mut helped: Vec<(Duration, Box<str>)> = Vec::new();
        for uid in self.classes.helped(profiles, change) {
            if let Some((entry, _)) = self.entries.get(&uid) {
                helped.push((entry.since, uid));
            }
        }
        helped.sort_unstable();
        for uid in &self.asked {
            let Some((entry, _)) = self.entries.get_mut(uid) else { continue };
            let Some(profile) = profiles.get(&entry.pod.needs.scheduler) else { continue };
            for (place, plugin) in profile.listeners(change.events()) {
                if entry.missed & (1 << place) == 0 && plugin.hint(&entry.pod, change) {
                    entry.missed |= 1 << place;
                }
            }
        }
        for (_, uid) in helped {
            if let Some((entry, _)) = self.take(&uid) {
                self.retry(entry, now, change.name());
            }
        }
    }

    /// Has a pod tried that waits for a change.
    pub fn wake(&mut self, uid: &str, event: &'static str, now: Duration) {
        if let Some((entry, Place::Asked)) = self.entries.get_mut(uid) {
            entry.missed = u64::MAX;
        }
        if let Some((_, Place::Unschedulable)) = self.entries.get(uid)
            && let Some((entry, _)) = self.take(uid)
        {
            self.retry(entry, now, event);
        }
    }

    fn delay(&self, attempts: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff_times.initial.saturating_mul(doubled).min(self.backoff_times.max)
    }

    /// Ready, or in backoff until its time.
    fn retry(&mut self, mut entry: Entry, now: Duration, event: &'static str) {
        if self.waits_for_preemption(&entry.pod.uid) {
            if entry.since + STALE <= now {
                entry.since = now;
            }
            return self.put_back(entry, Place::Unschedulable);
        }
        let at = entry.since + self.delay(entry.attempts);
        if at > now {
            self.put(entry, Place::Backoff(at), event);
        } else {
            entry.since = now;
            self.activate(entry, now, event);
        }
    }

    fn activate(&mut self, entry: Entry, now: Duration, event: &'static str) {
        self.sequence += 1;
        let key = (Reverse(entry.pod.needs.priority), now, self.sequence);
        self.put(entry, Place::Active(key), event);
    }

    fn put(&mut self, entry: Entry, place: Place, event: &'static str) {
        *self.incoming.entry((place.queue(), event)).or_default() += 1;
        self.put_back(entry, place);
    }

    fn put_back(&mut self, entry: Entry, place: Place) {
        let uid = entry.pod.uid.clone();
        match &place {
            Place::Active(key) => drop(self.active.insert((*key, uid.clone()))),
            Place::Backoff(at) => drop(self.backoff.insert((*at, uid.clone()))),
            Place::Failed(at) => drop(self.failed.insert((*at, uid.clone()))),
            Place::Unschedulable => {
                self.unschedulable.insert((entry.since, uid.clone()));
                self.classes.insert(&entry.pod, entry.plugins);
            }
            Place::Gated => {
                self.gated += 1;
                self.gates.insert(&entry.pod, entry.plugins);
            }
            Place::Asked => drop(self.asked.insert(uid.clone())),
        }
        self.entries.insert(uid, (entry, place));
    }

    fn take(&mut self, uid: &str) -> Option<(Entry, Place)> {
        let (uid, (entry, place)) = self.entries.remove_entry(uid)?;
        match &place {
            Place::Active(key) => drop(self.active.remove(&(*key, uid))),
            Place::Backoff(at) => drop(self.backoff.remove(&(*at, uid))),
            Place::Failed(at) => drop(self.failed.remove(&(*at, uid))),
            Place::Unschedulable => {
                self.unschedulable.remove(&(entry.since, uid));
                self.classes.remove(&entry.pod, entry.plugins);
            }
            Place::Gated => {
                self.gated -= 1;
                self.gates.remove(&entry.pod, entry.plugins);
            }
            Place::Asked => drop(self.asked.remove(&uid)),
        }
        Some((entry, place))
    }
}
