//! When what is done about each APIService: again after a while, sooner after a failure and then ever later, at once when something has
//! changed. Nothing of one name is done twice at once.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Availability,
    Discovery,
    OpenApi,
}

impl Work {
    const ALL: [Work; 3] = [Work::Availability, Work::Discovery, Work::OpenApi];

    /// After a success.
    fn period(self) -> Duration {
        Duration::from_secs(match self {
            Work::Availability => 30,
            Work::Discovery | Work::OpenApi => 60,
        })
    }

    /// After a first failure, and at most.
    fn back_off(self) -> (Duration, Duration) {
        let (first, most) = match self {
            Work::Availability => (5, 30_000),
            Work::Discovery => (500, 60_000),
            Work::OpenApi => (60_000, 3_600_000),
        };
        (Duration::from_millis(first), Duration::from_millis(most))
    }
}

#[derive(Debug, Default)]
struct Slot {
    due: Option<Instant>,
    failures: u32,
    is_running: bool,
    /// Something has changed since it began.
    again: bool,
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.due.is_none() && !self.is_running
    }
}

#[derive(Default)]
pub struct Schedule(Mutex<HashMap<String, [Slot; Work::ALL.len()]>>);

impl Schedule {
    fn with<T>(&self, name: &str, work: Work, change: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.0.lock();
        if !slots.contains_key(name) {
            slots.insert(name.to_owned(), Default::default());
        }
        let slot = slots.get_mut(name).map(|slots| &mut slots[work as usize]);
        change(slot.expect("it was just put there"))
    }

    /// Something has changed.
    pub fn soon(&self, name: &str, work: Work, now: Instant) {
        self.at(name, work, now);
    }

    /// In a moment, when others will have settled.
    pub fn shortly(&self, name: &str, work: Work, now: Instant) {
        self.at(name, work, now + Duration::from_secs(1));
    }

    fn at(&self, name: &str, work: Work, time: Instant) {
        self.with(name, work, |slot| match slot.is_running {
            true => slot.again = true,
            false => slot.due = Some(slot.due.map_or(time, |due| due.min(time))),
        });
    }

    /// Whatever there was to do.
    pub fn forget(&self, name: &str) {
        let mut slots = self.0.lock();
        let Some(all) = slots.get_mut(name) else { return };
        for slot in all.iter_mut() {
            *slot = Slot { is_running: slot.is_running, ..Slot::default() };
        }
        if !all.iter().any(|slot| slot.is_running) {
            slots.remove(name);
        }
    }

    /// When the next thing is due.
    pub fn next(&self) -> Option<Instant> {
        self.0.lock().values().flatten().filter_map(|slot| slot.due).min()
    }

    /// What is to be begun now.
    pub fn take_due(&self, now: Instant) -> Vec<(String, Work)> {
        let mut due = Vec::new();
        for (name, slots) in self.0.lock().iter_mut() {
            for (slot, work) in slots.iter_mut().zip(Work::ALL) {
                if slot.due.is_some_and(|due| due <= now) {
                    (slot.due, slot.is_running, slot.again) = (None, true, false);
                    due.push((name.clone(), work));
                }
            }
        }
        due
    }

    /// It is done and comes again.
    pub fn ended(&self, name: &str, work: Work, succeeded: bool, now: Instant) {
        self.with(name, work, |slot| {
            slot.failures = if succeeded { 0 } else { slot.failures.saturating_add(1) };
            let (first, most) = work.back_off();
            let wait = match slot.failures {
                _ if slot.again => Duration::ZERO,
                0 => work.period(),
                failures => first.saturating_mul(1 << (failures - 1).min(20)).min(most),
            };
            (slot.is_running, slot.again, slot.due) = (false, false, Some(now + wait));
        });
    }

    /// It is done, and there is nothing to do until something changes.
    pub fn settled(&self, name: &str, work: Work, now: Instant) {
        self.with(name, work, |slot| {
            slot.due = slot.again.then_some(now);
            (slot.is_running, slot.again, slot.failures) = (false, false, 0);
        });
        let mut slots = self.0.lock();
        if slots.get(name).is_some_and(|all| all.iter().all(Slot::is_idle)) {
            slots.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_and_changes_not_at_all() {
        let (schedule, work, now) = (Schedule::default(), Work::Discovery, Instant::now());
        let waits = || (schedule.next().unwrap() - now).as_millis();
        let run = |succeeded| {
            let due = schedule.next().unwrap();
            assert_eq!(schedule.take_due(due), [("a".to_owned(), work)]);
            assert!(schedule.take_due(due).is_empty());
            schedule.ended("a", work, succeeded, now);
            waits()
        };
        schedule.soon("a", work, now);
        assert_eq!([run(false), run(false), run(false)], [500, 1000, 2000]);
        for _ in 0..40 {
            run(false);
        }
        assert_eq!([run(false), run(true)], [60_000, 60_000]);
        schedule.soon("a", work, now);
        assert_eq!(waits(), 0);
    }

    #[test]
    fn what_changes_meanwhile_is_done_again() {
        let (schedule, work, now) = (Schedule::default(), Work::Availability, Instant::now());
        schedule.soon("a", work, now);
        schedule.take_due(now);
        schedule.soon("a", work, now);
        assert_eq!(schedule.next(), None);
        schedule.ended("a", work, true, now);
        assert_eq!(schedule.take_due(now).len(), 1);
        // one that was there before may be gone and come back
        schedule.forget("a");
        schedule.soon("a", work, now);
        schedule.settled("a", work, now);
        assert_eq!(schedule.take_due(now).len(), 1);
        schedule.forget("a");
        schedule.settled("a", work, now);
        assert_eq!(schedule.next(), None);
    }
}
