//! Pods that wait for a place on a node that they were promised: those whose preemption makes it, and those for which
//! somebody else has named a node.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Pod;

#[derive(Debug, Default)]
pub struct Nominations {
    by_row: FxHashMap<usize, Vec<Arc<Pod>>>,
    rows: FxHashMap<Box<str>, usize>,
}

impl Nominations {
    pub fn at(&self, row: usize) -> &[Arc<Pod>] {
        self.by_row.get(&row).map_or(&[], Vec::as_slice)
    }

    /// The row a pod is nominated to.
    pub fn of(&self, uid: &str) -> Option<usize> {
        self.rows.get(uid).copied()
    }

    pub fn add(&mut self, row: usize, pod: &Arc<Pod>) {
        self.remove(&pod.uid);
        self.rows.insert(pod.uid.clone(), row);
        self.by_row.entry(row).or_default().push(pod.clone());
    }

    /// Answers with the row that the pod was nominated to.
    pub fn remove(&mut self, uid: &str) -> Option<usize> {
        let row = self.rows.remove(uid)?;
        if let Some(pods) = self.by_row.get_mut(&row) {
            pods.retain(|pod| *pod.uid != *uid);
            if pods.is_empty() {
                self.by_row.remove(&row);
            }
        }
        Some(row)
    }

    /// Drops all nominations to a row that is given up.
    pub fn clear(&mut self, row: usize) {
        for pod in self.by_row.remove(&row).unwrap_or_default() {
            self.rows.remove(&pod.uid);
        }
    }
}
