//! A set's pods, node by node. It is made once for each reconciliation, in steps of nodes and pods, and all else walks it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::fit::{Fit, node_of};
use super::fits::Fits;
use controllers::views::Pod;

/// A node, and the set's pods that are on it or tied to it.
pub(super) struct Place<'a> {
    pub(super) node: &'a str,
    /// None where the node is gone.
    pub(super) fit: Option<Fit>,
    pub(super) pods: Vec<&'a Arc<Pod>>,
}

impl Place<'_> {
    pub(super) fn runs(&self) -> bool {
        self.fit.is_some_and(|fit| fit.runs)
    }
}

/// All nodes by name, then those that are gone and have pods. Pods that ended and are being deleted are as good as gone.
pub(super) fn places<'a>(fits: &'a Fits, pods: &'a [Arc<Pod>]) -> Vec<Place<'a>> {
    let mut by_node: FxHashMap<&str, Vec<&Arc<Pod>>> = FxHashMap::default();
    for pod in pods.iter().filter(|pod| !(pod.is_terminal() && pod.metadata.is_deleting())) {
        if let Some(node) = node_of(pod) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    let mut places: Vec<Place> = Vec::with_capacity(fits.len());
    places.extend(fits.iter().map(|(node, fit)| {
        let pods = by_node.remove(node.as_str()).unwrap_or_default();
        Place { node: node.as_str(), fit: Some(*fit), pods }
    }));
    let gone = places.len();
    places.extend(by_node.into_iter().map(|(node, pods)| Place { node, fit: None, pods }));
    places[gone..].sort_unstable_by_key(|place| place.node);
    places
}
