//! What a pod's own group limits: wanted, as it is, and changed part by part.

use super::{Cgroups, log};
use crate::allocation::Part;
use crate::container_config::resources::{quota, shares};
use crate::qos;
use k8s_openapi::api::core::v1::Pod;
use std::io;
use tracing::warn;

/// A group's limits; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub shares: i64,
    /// Microseconds per period.
    pub quota: Option<i64>,
    pub period: i64,
    pub memory: Option<i64>,
}

/// An amount that is compared with others: no limit is the most.
fn rank(limit: Option<i64>) -> i64 {
    limit.unwrap_or(i64::MAX)
}

impl Limits {
    /// Whether `part` of `to` is more, and whether it is less.
    pub fn direction(&self, to: &Limits, part: Part) -> (bool, bool) {
        let of = |limits: &Limits| match part {
            Part::Memory => rank(limits.memory),
            Part::Cpu => rank(limits.quota),
        };
        (of(to) > of(self), of(to) < of(self))
    }

    /// These with `part` of others.
    pub fn with(self, part: Part, other: &Limits) -> Self {
        match part {
            Part::Memory => Self { memory: other.memory, ..self },
            Part::Cpu => Self { memory: self.memory, ..*other },
        }
    }
}

impl Cgroups {
    /// Whether pods have groups of their own.
    pub fn has_groups(&self) -> bool {
        self.per_qos
    }

    /// What the pod's group is to have.
    pub fn limits(&self, pod: &Pod) -> Limits {
        let total = |of| {
            let total = qos::pod_total(pod, of);
            i64::try_from(total.get("cpu").copied().unwrap_or_default()).unwrap_or(i64::MAX)
        };
        let limited = self.cfs_quota && all_limited(pod, "cpu");
        Limits {
            shares: shares(total(|it| it.requests.as_ref())),
            quota: limited.then(|| quota(total(|it| it.limits.as_ref()), self.period)).filter(|it| *it > 0),
            period: self.period,
            memory: memory_limit(pod),
        }
    }

    /// What the pod's group has, where it is there.
    pub fn actual(&self, pod: &Pod) -> Option<Limits> {
        if !self.per_qos {
            return None;
        }
        let group = self.parent(pod);
        let number = |controller, file: &str| self.read(&group, controller, file)?.parse::<i64>().ok();
        let memory = self.memory(&group);
        if self.v2 {
            let weight = number("cpu", "cpu.weight")?;
            let max = self.read(&group, "cpu", "cpu.max")?;
            let (quota, period) = max.split_once(' ')?;
            return Some(Limits {
                shares: (weight - 1) * 262_142 / 9999 + 2,
                quota: quota.parse().ok(),
                period: period.parse().ok()?,
                memory,
            });
        }
        Some(Limits {
            shares: number("cpu", "cpu.shares")?,
            quota: number("cpu", "cpu.cfs_quota_us").filter(|quota| *quota > 0),
            period: number("cpu", "cpu.cfs_period_us")?,
            memory,
        })
    }

    fn memory(&self, group: &str) -> Option<i64> {
        let file = if self.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        let bytes = self.read(group, "memory", file)?.parse().ok();
        // On version 1 no limit reads as the largest number of pages.
        bytes.filter(|bytes| *bytes < i64::MAX - (1 << 20))
    }

    fn read(&self, group: &str, controller: &str, file: &str) -> Option<String> {
        let mut folders = self.folders(group, controller);
        let text = folders.find_map(|folder| std::fs::read_to_string(folder.join(file)).ok())?;
        Some(text.trim().to_owned())
    }

    /// Bytes that the pod uses, files that the kernel keeps for it included.
    pub fn memory_usage(&self, pod: &Pod) -> Option<i64> {
        self.usage(&self.parent(pod))
    }

    fn usage(&self, group: &str) -> Option<i64> {
        let file = if self.v2 { "memory.current" } else { "memory.usage_in_bytes" };
        self.read(group, "memory", file)?.parse().ok()
    }

    /// Sets a part of what the pod's group has.
    pub fn set_part(&self, pod: &Pod, part: Part, limits: &Limits) -> io::Result<()> {
        let group = self.parent(pod);
        match part {
            Part::Memory => self.limit_memory(&group, limits.memory),
            Part::Cpu => {
                self.weigh_by(&group, limits.shares);
                self.limit_cpu(&group, limits)
            }
        }
    }

    pub(super) fn level(&self, group: &str, limits: &Limits) {
        self.weigh_by(group, limits.shares);
        log(self.limit_cpu(group, limits));
        // The kernel would end processes of a group that has more than it may.
        match (limits.memory, self.usage(group)) {
            (Some(limit), Some(used)) if used >= limit && self.memory(group) != Some(limit) => {
                warn!(group, limit, used, "Memory limit is below what is used, it is not set");
            }
            _ => log(self.limit_memory(group, limits.memory)),
        }
    }

    fn limit_cpu(&self, group: &str, limits: &Limits) -> io::Result<()> {
        let (quota, period) = (limits.quota.map(|quota| quota.to_string()), limits.period.to_string());
        let both = format!("{} {period}", quota.as_deref().unwrap_or("max"));
        let quota = quota.as_deref().unwrap_or("-1");
        let files = [("cpu.cfs_period_us", &*period), ("cpu.cfs_quota_us", quota), ("cpu.max", &both)];
        self.set(group, "cpu", &files)
    }
}

/// Bytes that a pod may use in all, where all of it is limited.
pub fn memory_limit(pod: &Pod) -> Option<i64> {
    let limits = qos::pod_total(pod, |it| it.limits.as_ref());
    let limit = limits.get("memory").filter(|_| all_limited(pod, "memory"))?;
    Some(i64::try_from(limit / 1000).unwrap_or(i64::MAX))
}

fn all_limited(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let pod_level =
        spec.resources.as_ref().and_then(|it| it.limits.as_ref()).is_some_and(|it| it.contains_key(name));
    pod_level
        || spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten().filter(|it| qos::is_sidecar(it)))
            .all(|container| {
                let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
                qos::amount(limits, name).is_some_and(|value| value > 0)
            })
}
