//! What is remembered of volumes on nodes, and is in no object.

use std::sync::Arc;
use std::time::Duration;

use client::Text;
use controllers::views::Node;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

#[derive(Default)]
struct Times {
    /// Since when no pod needs the attachment.
    unwanted: Option<Instant>,
    /// Since when the attachment is waited for.
    asked: Option<Instant>,
    /// Pods have had a report that they do not get the volume.
    is_reported: bool,
}

#[derive(Default)]
pub(super) struct Since {
    /// By volume and node.
    places: FxHashMap<String, FxHashMap<Text, Times>>,
    /// Nodes that were deleted with volumes attached, as they were last.
    pub(super) departed: FxHashMap<Text, Arc<Node>>,
    /// The attachments that are being deleted: their volumes must not be listed again.
    pub(super) detaching: FxHashSet<String>,
    /// Nodes whose list is being written.
    pub(super) listing: FxHashSet<Text>,
}

impl Since {
    /// Forgets all other nodes of the volume.
    pub(super) fn keep(&mut self, volume: &str, is_its: impl Fn(&Text) -> bool) {
        if let Some(places) = self.places.get_mut(volume) {
            places.retain(|node, _| is_its(node));
            if places.is_empty() {
                self.places.remove(volume);
            }
        }
    }

    fn of(&mut self, volume: &str, node: &Text) -> &mut Times {
        self.places.entry(volume.to_owned()).or_default().entry(node.clone()).or_default()
    }

    pub(super) fn note(&mut self, volume: &str, node: &Text, is_unwanted: bool) {
        let unwanted = &mut self.of(volume, node).unwanted;
        *unwanted = is_unwanted.then(|| unwanted.unwrap_or_else(Instant::now));
    }

    pub(super) fn unwanted(&self, volume: &str, node: &str) -> Duration {
        let times = self.places.get(volume).and_then(|places| places.get(node));
        times.and_then(|times| times.unwanted).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether the attachment may be deleted now: not while the list of its node is written, which may name the volume.
    pub(super) fn begin_detaching(&mut self, attachment: &str, node: &Text) -> bool {
        let may = !self.listing.contains(node);
        if may {
            self.detaching.insert(attachment.to_owned());
        }
        may
    }

    /// Nothing is waited for.
    pub(super) fn settle(&mut self, volume: &str, node: &Text) {
        let times = self.of(volume, node);
        (times.asked, times.is_reported) = (None, false);
    }

    /// How much longer an attachment is waited for; none, each time that this has taken as long as it may.
    pub(super) fn await_attachment(
        &mut self,
        volume: &str,
        node: &Text,
        patience: Duration,
    ) -> Option<Duration> {
        let asked = self.of(volume, node).asked.get_or_insert_with(Instant::now);
        let rest = patience.checked_sub(asked.elapsed()).filter(|rest| !rest.is_zero());
        if rest.is_none() {
            *asked = Instant::now();
        }
        rest
    }

    /// Whether this is the first report.
    pub(super) fn report(&mut self, volume: &str, node: &Text) -> bool {
        !std::mem::replace(&mut self.of(volume, node).is_reported, true)
    }
}
