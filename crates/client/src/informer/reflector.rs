//! List, then watch from there; resume a watch that breaks off, list again when it cannot be resumed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rustc_hash::FxHashSet;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::store::{Handler, Identity, Shared};
use super::{Scope, Selectors};
use crate::resource::Head;
use crate::watch::RawEvent;
use crate::{Api, Client, Error, Key, ListOptions, Result, Text, Watch, WatchOptions};

const PAGE: u32 = 500;
/// The longest wait between tries.
const LONGEST: Duration = Duration::from_secs(30);
/// A watch that ended sooner than this says that the server is not well.
const SHORT: Duration = Duration::from_secs(1);

pub(super) struct Reflector<V> {
    pub client: Client,
    pub shared: Arc<Shared<V>>,
    pub scope: Scope,
    pub selectors: Selectors,
    pub metadata_only: bool,
}

/// Why watching ended.
enum End {
    /// At its time, or the connection broke: go on from the last resource version.
    Resume,
    /// The history since then is gone.
    Relist,
    /// The server is at a version from before ours: its store was put back to an earlier state. What has the
    /// version and identity of an object in the cache may be another state of it.
    Restored,
}

impl<V: DeserializeOwned + Send + Sync + 'static> Reflector<V> {
    /// Runs until dropped. Changes and new handlers have their turns on one task, so that each handler gets every object
    /// once and every change after it.
    pub async fn run(self, mut new_handlers: mpsc::UnboundedReceiver<Handler<V>>) {
        let follow = self.follow();
        tokio::pin!(follow);
        loop {
            tokio::select! {
                biased;
                Some(handler) = new_handlers.recv() => self.shared.replay(handler).await,
                never = &mut follow => match never {},
            }
        }
    }

    async fn follow(&self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut restored = false;
        loop {
            let resource = &self.shared.resource;
            match self.list(&mut restored).await {
                Ok(version) => {
                    if std::mem::take(&mut restored) {
                        self.shared.restart();
                    }
                    self.shared.reach(&version);
                    self.shared.state.send_modify(|state| state.listed = true);
                }
                Err(error) => {
                    tracing::warn!(resource = %resource.plural, group = %resource.group, %error, "listing failed");
                    backoff.wait(Trouble::of(&error)).await;
                    continue;
                }
            }
            loop {
                let started = Instant::now();
                let result = self.watch(&mut backoff).await;
                match &result {
                    Ok(End::Resume) => {}
                    Ok(End::Relist) => {
                        tracing::debug!(resource = %resource.plural, "the watch's history is gone, listing again");
                    }
                    Ok(End::Restored) => self.note_restored(&mut restored),
                    Err(error) => {
                        tracing::debug!(resource = %resource.plural, %error, "watching failed");
                    }
                }
                if let Err(error) = &result {
                    backoff.wait(Trouble::of(error)).await;
                } else if started.elapsed() < SHORT {
                    backoff.wait(Trouble::Unwell).await;
                }
                if matches!(result, Ok(End::Relist | End::Restored)) {
                    break;
                }
            }
        }
    }

    fn note_restored(&self, restored: &mut bool) {
        if !std::mem::replace(restored, true) {
            let resource = &self.shared.resource.plural;
            tracing::warn!(%resource, "The server's store was put back to an earlier state, listing again");
            self.shared.note_restored();
        }
    }

    fn api(&self) -> Api<'_> {
        let api = self.client.at(&self.shared.resource);
        if self.metadata_only { api.metadata_only() } else { api }
    }

    fn namespace(&self) -> Option<&str> {
        match &self.scope {
            Scope::All => None,
            Scope::Namespace(namespace) => Some(namespace),
        }
    }

    /// Brings the cache to the state of a list. Page by page, so that memory does not grow with the
    /// list; the pages are of one resource version, and what is in none of them goes at the end. `restored` has
    /// objects taken anew that seem to be known; a list of a version from before ours sets it.
    async fn list(&self, restored: &mut bool) -> Result<String> {
        let mut listed = FxHashSet::default();
        let mut options = ListOptions {
            label_selector: self.selectors.labels.clone(),
            field_selector: self.selectors.fields.clone(),
            limit: Some(PAGE),
            ..Default::default()
        };
        loop {
            let api = self.api();
            let page = api.page(self.namespace(), &options, |version, raw| {
                if is_before(version, &self.shared.resource_version()) {
                    self.note_restored(restored);
                }
                let head: Head<'_> = serde_json::from_str(raw)?;
                let identity = identity(&head);
                listed.insert(identity.key.clone());
                self.put(identity, raw, *restored);
                Ok(())
            });
            match page.await {
                Ok(page) => match page.continue_token {
                    Some(token) => options.continue_token = Some(token),
                    None => {
                        if is_before(&page.resource_version, &self.shared.resource_version()) {
                            // There may have been no object.
                            self.note_restored(restored);
                        }
                        self.shared.retain(&listed);
                        return Ok(page.resource_version);
                    }
                },
                // The snapshot went away between two pages: once more, in one piece.
                Err(error) if error.is_expired() && options.continue_token.is_some() => {
                    options.continue_token = None;
                    options.limit = None;
                    listed.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn watch(&self, backoff: &mut Backoff) -> Result<End> {
        let options = WatchOptions {
            label_selector: self.selectors.labels.clone(),
            field_selector: self.selectors.fields.clone(),
            resource_version: Some(self.shared.resource_version()),
            bookmarks: true,
            timeout_seconds: Some(rand::rng().random_range(300..600)),
            send_initial_events: false,
        };
        let mut watch: Watch<V> = match self.api().watch(self.namespace(), &options).await {
            Ok(watch) => watch,
            Err(error) if error.is_expired() => return Ok(End::Relist),
            Err(error) => return Err(error),
        };
        loop {
            match watch.next_with(|event| self.apply(event)).await {
                Ok(Some(Some(version))) => {
                    backoff.reset();
                    self.shared.reach(&version);
                }
                Ok(Some(None)) => return Ok(End::Restored),
                Ok(None) => return Ok(End::Resume),
                Err(Error::Transport { source, .. }) => {
                    tracing::debug!(resource = %self.shared.resource.plural, %source, "the watch broke off");
                    return Ok(End::Resume);
                }
                // An event cut in the middle, or an error event of the server. When it is not that the
                // history is gone, it may be anything: a list is always right.
                Err(error) => {
                    tracing::debug!(resource = %self.shared.resource.plural, %error, "the watch failed");
                    return Ok(End::Relist);
                }
            }
        }
    }

    /// Applies an event to the cache; the resource version it brings the cache to. None where that would be an earlier one.
    fn apply(&self, event: &RawEvent<'_>) -> Result<Option<String>> {
        let raw = event.object.get();
        let what = || format!("a watch event of {}", self.shared.resource.kind);
        let head: Head<'_> =
            serde_json::from_str(raw).map_err(|source| Error::Decode { what: what(), source })?;
        let version = head.metadata.resource_version.to_string();
        if is_before(&version, &self.shared.resource_version()) {
            return Ok(None);
        }
        match event.kind {
            "ADDED" | "MODIFIED" => self.put(identity(&head), raw, false),
            "DELETED" => {
                let key = identity(&head).key;
                let last = serde_json::from_str(raw).ok();
                self.shared.remove(&key, last);
            }
            "BOOKMARK" => {}
            other => tracing::warn!(kind = other, "the server sent a watch event of unknown type"),
        }
        Ok(Some(version))
    }

    fn put(&self, identity: Identity<'_>, raw: &str, restored: bool) {
        if !restored && self.shared.has(&identity) {
            return;
        }
        match serde_json::from_str(raw) {
            Ok(object) => self.shared.put(identity, object),
            // One bad object must not keep all others from being seen.
            Err(error) => tracing::error!(
                resource = %self.shared.resource.plural, key = %identity.key, %error,
                "the object cannot be decoded, its previous state stays in the cache"
            ),
        }
    }
}

/// Resource versions of one resource are numbers that grow; what is none is not compared.
fn is_before(version: &str, other: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    number(version).zip(number(other)).is_some_and(|(version, other)| version < other)
}

fn identity<'a>(head: &'a Head<'_>) -> Identity<'a> {
    let metadata = &head.metadata;
    Identity {
        // Kept with the object, and many objects share a namespace.
        key: Key { namespace: Text::from(&*metadata.namespace).into(), name: (&*metadata.name).into() },
        uid: &metadata.uid,
        resource_version: &metadata.resource_version,
    }
}

/// Why there is a wait.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    /// A server that is not there costs nothing by being asked again, and is to be found soon when it is back.
    Away,
    /// The server answers with errors and should get a pause.
    Unwell,
}

impl Trouble {
    fn of(error: &Error) -> Trouble {
        if matches!(error, Error::Transport { .. }) { Trouble::Away } else { Trouble::Unwell }
    }

    fn longest(self) -> Duration {
        match self {
            Trouble::Away => Duration::from_secs(4),
            Trouble::Unwell => LONGEST,
        }
    }
}

const SHORTEST: Duration = Duration::from_millis(800);

/// 0.8 s, doubled up to a limit, each with as much again of chance.
struct Backoff {
    next: Duration,
    away: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: SHORTEST, away: false }
    }
}

impl Backoff {
    async fn wait(&mut self, trouble: Trouble) {
        let chance = 1.0 + rand::rng().random::<f64>();
        tokio::time::sleep(self.pause(trouble).mul_f64(chance)).await;
    }

    /// The next wait, before chance.
    fn pause(&mut self, trouble: Trouble) -> Duration {
        // A server that has come back refuses for a moment while it starts: that is no fresh trouble.
        if std::mem::replace(&mut self.away, trouble == Trouble::Away) && trouble == Trouble::Unwell {
            self.next = SHORTEST;
        }
        let pause = self.next.min(trouble.longest());
        self.next = (self.next * 2).min(trouble.longest());
        pause
    }

    fn reset(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_back_is_asked_again_soon() {
        let mut backoff = Backoff::default();
        let mut pause = |trouble| backoff.pause(trouble).as_secs_f64();
        let away: Vec<_> = (0..4).map(|_| pause(Trouble::Away)).collect();
        assert_eq!(away, [0.8, 1.6, 3.2, 4.0]);
        assert_eq!([pause(Trouble::Unwell), pause(Trouble::Unwell)], [0.8, 1.6]);
        let unwell: Vec<_> = (0..5).map(|_| pause(Trouble::Unwell)).collect();
        assert_eq!(unwell, [3.2, 6.4, 12.8, 25.6, 30.0]);
        assert_eq!(pause(Trouble::Away), 4.0);
    }
}
