//! From the number that metrics ask for to the one that is written: recent recommendations, rates and limits.

use jiff::{SignedDuration, Timestamp};

use super::view::{Autoscaler, Policy, Rules, Status};

/// What is remembered of an autoscaler.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    recommendations: Vec<(Timestamp, i32)>,
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

/// A number, and the reason and message of it.
type Reasoned = (i32, &'static str, &'static str);

const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) current: i32,
    pub(super) least: i32,
    pub(super) most: i32,
    /// The default window of stabilization for scaling down.
    pub(super) window: SignedDuration,
    pub(super) now: Timestamp,
}

impl Memory {
    /// A new autoscaler begins with the present number, so that nothing shrinks before its window has passed.
    pub(super) fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// The number to write, with the conditions that say why.
    pub(super) fn normalize(
        &mut self,
        autoscaler: &Autoscaler,
        status: &mut Status,
        desired: i32,
        bounds: Bounds,
    ) -> i32 {
        let behavior = autoscaler.spec.behavior.as_ref();
        let rules = behavior.map(|behavior| {
            let rules = |rules: &Option<Rules>| rules.clone().unwrap_or_default();
            (rules(&behavior.scale_up), rules(&behavior.scale_down))
        });
        let (stable, reason, message) = match &rules {
            None => self.stabilize(desired, bounds),
            Some((up, down)) => self.stabilize_by(up, down, desired, bounds),
        };
        match stable == desired {
            true => status.set(
                "AbleToScale",
                true,
                "ReadyForNewScale",
                "recommended size matches current size",
                bounds.now,
            ),
            false => status.set("AbleToScale", true, reason, message, bounds.now),
        }
        let (limited, reason, message) = match &rules {
            None => limit(stable, bounds),
            Some((up, down)) => self.limit_by(up, down, stable, bounds),
        };
        status.set("ScalingLimited", limited != stable, reason, message, bounds.now);
        limited
    }

    fn stabilize(&mut self, desired: i32, bounds: Bounds) -> Reasoned {
        let cutoff = before(bounds.now, bounds.window);
        let recent = self.recommendations.iter().filter(|(time, _)| *time >= cutoff);
        let highest = recent.map(|(_, number)| *number).max().unwrap_or(desired).max(desired);
        self.remember(desired, cutoff, bounds.now);
        (highest, "ScaleDownStabilized", DOWN_STABILIZED)
    }

    fn stabilize_by(&mut self, up: &Rules, down: &Rules, desired: i32, bounds: Bounds) -> Reasoned {
        let window = |rules: &Rules, default: SignedDuration| {
            rules.stabilization_window_seconds.map_or(default, SignedDuration::from_secs)
        };
        let up_cutoff = before(bounds.now, window(up, SignedDuration::ZERO));
        let down_cutoff = before(bounds.now, window(down, bounds.window));
        let (mut lowest, mut highest) = (desired, desired);
        for (time, number) in &self.recommendations {
            if *time > up_cutoff {
                lowest = lowest.min(*number);
            }
            if *time > down_cutoff {
                highest = highest.max(*number);
            }
        }
        let recommendation = bounds.current.max(lowest).min(highest);
        self.remember(desired, up_cutoff.min(down_cutoff), bounds.now);
        match desired >= bounds.current {
            true => (
                recommendation,
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            ),
            false => (recommendation, "ScaleDownStabilized", DOWN_STABILIZED),
        }
    }

    fn remember(&mut self, desired: i32, cutoff: Timestamp, now: Timestamp) {
        self.recommendations.retain(|(time, _)| *time >= cutoff);
        self.recommendations.push((now, desired));
    }

    fn limit_by(&self, up: &Rules, down: &Rules, desired: i32, bounds: Bounds) -> Reasoned {
        let Bounds { current, least, most, .. } = bounds;
        if desired > current {
            let limit = self.rate(up, current, bounds.now, true).max(current);
            let (allowed, (reason, message)) =
                if most > limit { (limit, UP_LIMIT) } else { (most, TOO_MANY) };
            if desired > allowed {
                return (allowed, reason, message);
            }
        } else if desired < current {
            let limit = self.rate(down, current, bounds.now, false).min(current);
            let (allowed, (reason, message)) =
                if least < limit { (limit, DOWN_LIMIT) } else { (least, TOO_FEW) };
            if desired < allowed {
                return (allowed, reason, message);
            }
        }
        (desired, WITHIN.0, WITHIN.1)
    }

    /// How far the policies let the number go now.
    fn rate(&self, rules: &Rules, current: i32, now: Timestamp, up: bool) -> i32 {
        let select = rules.select_policy.as_deref().unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let proposed = |policy: &Policy| {
            let cutoff = before(now, SignedDuration::from_secs(policy.period_seconds));
            let sum = |events: &[(Timestamp, i32)]| {
                events.iter().filter(|(time, _)| *time > cutoff).map(|(_, change)| *change).sum::<i32>()
            };
            let start = current - sum(&self.ups) + sum(&self.downs);
            let share = f64::from(policy.value) / 100.0;
            match (policy.type_.as_str(), up) {
                ("Percent", true) => (f64::from(start) * (1.0 + share)).ceil() as i32,
                ("Percent", false) => (f64::from(start) * (1.0 - share)) as i32,
                (_, true) => start.saturating_add(policy.value),
                (_, false) => start.saturating_sub(policy.value),
            }
        };
        let all = rules.policies.iter().map(proposed);
        // The greatest change is the default, in either direction.
        let highest = (select == "Min") != up;
        match highest {
            true => all.max().unwrap_or(i32::MIN),
            false => all.min().unwrap_or(i32::MAX),
        }
    }

    /// A change has been written.
    pub(super) fn scaled(&mut self, autoscaler: &Autoscaler, from: i32, to: i32, now: Timestamp) {
        let Some(behavior) = &autoscaler.spec.behavior else { return };
        let (events, rules) = match to > from {
            true => (&mut self.ups, &behavior.scale_up),
            false => (&mut self.downs, &behavior.scale_down),
        };
        let policies = rules.iter().flat_map(|rules| &rules.policies);
        let longest = policies.map(|policy| policy.period_seconds).max().unwrap_or(0);
        let cutoff = before(now, SignedDuration::from_secs(longest));
        events.retain(|(time, _)| *time >= cutoff);
        events.push((now, (to - from).abs()));
    }
}

const DOWN_STABILIZED: &str =
    "recent recommendations were higher than current one, applying the highest recent recommendation";

fn before(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.checked_sub(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Twice as many at a time, or four, whichever is more.
fn limit(desired: i32, bounds: Bounds) -> Reasoned {
    let fastest = bounds.current.saturating_mul(2).max(4);
    let (most, (reason, message)) =
        if bounds.most > fastest { (fastest, UP_LIMIT) } else { (bounds.most, TOO_MANY) };
    if desired < bounds.least {
        (bounds.least, TOO_FEW.0, TOO_FEW.1)
    } else if desired > most {
        (most, reason, message)
    } else {
        (desired, WITHIN.0, WITHIN.1)
    }
}
