//! How much of a quota the objects of its namespace use, and what of that its status may say.

use std::sync::Arc;

use client::Text;
use controllers::views::{
    DeviceClass, PersistentVolumeClaim, Pod, Quantities, ResourceClaim, ResourceQuota, Service,
};
use machinery::Quantity;
use machinery::quantity::Format;
use machinery::quota::{self, Amounts, Facts, Measure, counted};
use rustc_hash::FxHashMap;

use super::facts::{self, DeviceClasses};

/// The objects of a namespace.
pub(super) struct Objects<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) services: &'a [Arc<Service>],
    pub(super) volume_claims: &'a [Arc<PersistentVolumeClaim>],
    pub(super) device_claims: &'a [Arc<ResourceClaim>],
    pub(super) classes: &'a [Arc<DeviceClass>],
    /// Of what is counted by number alone.
    pub(super) numbers: &'a FxHashMap<Text, i64>,
}

/// The plural and group of what a quota's resource counts by number, where that needs no more than metadata.
pub(super) fn by_number(name: &str) -> Option<(&str, &str)> {
    counted(name).filter(|(plural, group)| matches!(Measure::of(group, plural), Measure::Number { .. }))
}

/// What is used of those resources of a quota that can be known.
pub(super) fn used(quota: &ResourceQuota, objects: &Objects, now: jiff::Timestamp) -> Amounts {
    let classes = DeviceClasses(objects.classes);
    let scopes = facts::scopes(quota);
    let measures = [Measure::Pods, Measure::Services, Measure::VolumeClaims, Measure::DeviceClaims];
    let mut total = Amounts::new();
    for name in quota.spec.hard.keys() {
        let number = objects.numbers.get(name);
        if number.is_some() || measures.iter().any(|measure| measure.tracks(name, &classes)) {
            // only some kinds have the properties that scopes speak of
            let count = if scopes.is_empty() { number.copied().unwrap_or(0) } else { 0 };
            total.insert(name.to_string(), Quantity::new(count, Format::DecimalSi));
        }
    }
    let mut note = |measure: &Measure, facts: Facts<'_>| {
        if facts.is_in_all(&scopes) {
            let usage = measure.usage(&facts, &classes);
            quota::add(&mut total, &quota::mask(&usage, |name| quota.spec.hard.contains_key(name)));
        }
    };
    objects.pods.iter().for_each(|pod| note(&Measure::Pods, facts::pod(pod, now)));
    objects.services.iter().for_each(|service| note(&Measure::Services, facts::service(service)));
    objects.volume_claims.iter().for_each(|claim| note(&Measure::VolumeClaims, facts::volume_claim(claim)));
    for claim in objects.device_claims {
        note(&Measure::DeviceClaims, facts::device_claim(claim, objects.pods, now));
    }
    total
}

/// What the status says after a count.
#[derive(Debug, PartialEq)]
pub(super) struct Level {
    pub(super) used: Amounts,
    /// Another count is needed, a while later.
    pub(super) again: bool,
}

/// Admission charges a request before its object is there, so less than the status says may only be said of what was charged a while
/// ago: `settled` is what the status said then. What was charged since is added to the count, some of it twice until it is counted again.
pub(super) fn level(quota: &ResourceQuota, counted: &Amounts, settled: Option<&Quantities>) -> Level {
    let known = quota.status.used.as_ref().map(facts::read).unwrap_or_default();
    let settled = settled.map(facts::read);
    let mut level = Level { used: Amounts::new(), again: false };
    for name in quota.spec.hard.keys().map(Text::as_str) {
        let used = match (counted.get(name), known.get(name)) {
            (None, None) => continue,
            (None, Some(known)) => *known,
            (Some(counted), Some(known)) if counted < known => {
                let Some(settled) = &settled else {
                    level.again = true;
                    level.used.insert(name.to_owned(), *known);
                    continue;
                };
                let charged = known.sub(settled.get(name).unwrap_or(&Quantity::ZERO)).max(Quantity::ZERO);
                level.again |= !charged.is_zero();
                counted.add(&charged).min(*known)
            }
            (Some(counted), Some(known)) if counted == known => *known,
            (Some(counted), known) => {
                level.again |= known.is_none();
                *counted
            }
        };
        level.used.insert(name.to_owned(), used);
    }
    level
}

pub(super) fn written(amounts: &Amounts) -> Quantities {
    amounts.iter().map(|(name, amount)| (name.as_str().into(), amount.to_string().into())).collect()
}
