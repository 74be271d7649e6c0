//! Owners that are not there.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

/// The full identity in a reference: one with the right uid but another name or kind refers to no object, and proves
/// nothing about the object that does have the uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::controllers::cleanup::garbage) struct Named {
    group: Box<str>,
    kind: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    namespace: Box<str>,
}

impl Named {
    pub(super) fn new(api_version: &str, kind: &str, name: &str, uid: &str, namespace: &str) -> Named {
        let group = group(api_version).into();
        Named { group, kind: kind.into(), name: name.into(), uid: uid.into(), namespace: namespace.into() }
    }
}

/// Owners found to be gone; bounded, the oldest are forgotten (and would be asked for again).
#[derive(Default)]
pub(super) struct Absent {
    known: FxHashSet<Named>,
    order: VecDeque<Named>,
}

const ABSENT: usize = 5000;

impl Absent {
    pub(super) fn add(&mut self, named: Named) {
        if self.known.insert(named.clone()) {
            self.order.push_back(named);
        }
        while self.order.len() > ABSENT {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    pub(super) fn has(&self, named: &Named) -> bool {
        self.known.contains(named)
    }
}

pub(super) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
