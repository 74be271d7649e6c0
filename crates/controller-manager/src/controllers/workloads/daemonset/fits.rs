//! Where the pods of each set fit, node by node. A change of a node costs one look at it for each set, and a
//! reconciliation none.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Event, Key, Text};
use controllers::views::{DaemonSet, Node};
use rustc_hash::FxHashMap;

use super::fit::{Fit, Needs};

/// By the names of all nodes, whether the set's pods fit there.
pub(super) type Fits = BTreeMap<Text, Fit>;

/// Fits of the sets that have been reconciled.
#[derive(Default)]
pub(super) struct AllFits {
    sets: FxHashMap<Key, Kept>,
    /// How often a node was compared with a set.
    #[cfg(test)]
    pub(super) comparisons: usize,
}

struct Kept {
    set: Arc<DaemonSet>,
    needs: Needs,
    fits: Arc<Fits>,
}

impl AllFits {
    /// The fits of a set. `nodes` are asked for when its template is not known yet.
    pub(super) fn of(
        &mut self,
        key: &Key,
        set: &Arc<DaemonSet>,
        nodes: impl FnOnce() -> Vec<Arc<Node>>,
    ) -> Arc<Fits> {
        if let Some(kept) = self.sets.get_mut(key)
            && (Arc::ptr_eq(&kept.set, set) || kept.set.spec.template == set.spec.template)
        {
            kept.set = set.clone();
            return kept.fits.clone();
        }
        let needs = Needs::of(&set.spec.template);
        let nodes = nodes();
        #[cfg(test)]
        {
            self.comparisons += nodes.len();
        }
        let fits = nodes.iter().map(|node| (node.metadata.name.as_str().into(), needs.fit(node)));
        let fits: Arc<Fits> = Arc::new(fits.collect());
        self.sets.insert(key.clone(), Kept { set: set.clone(), needs, fits: fits.clone() });
        fits
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.sets.remove(key);
    }

    /// Follows a node; `changed` is called with the sets that have to do something about it.
    pub(super) fn apply(&mut self, event: &Event<Node>, mut changed: impl FnMut(&Key)) {
        let node = event.object();
        for (key, kept) in &mut self.sets {
            let known = kept.fits.get(node.metadata.name.as_str()).copied();
            let new = match event {
                Event::Deleted(_) => None,
                _ => Some(kept.needs.fit(node)),
            };
            #[cfg(test)]
            {
                self.comparisons += usize::from(new.is_some());
            }
            if known == new {
                continue;
            }
            let fits = Arc::make_mut(&mut kept.fits);
            match new {
                Some(fit) => drop(fits.insert(node.metadata.name.as_str().into(), fit)),
                None => drop(fits.remove(node.metadata.name.as_str())),
            }
            // Of a new node it matters whether pods run there; one that is gone leaves pods that nobody else deletes.
            if (known.is_some() && new.is_some()) || known.or(new).is_some_and(|fit| fit.runs) {
                changed(key);
            }
        }
    }
}
