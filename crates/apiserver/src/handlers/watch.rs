//! `watch`: the initial state, past changes and new ones, as a stream of frames.
//!
//! A watcher that does not keep up loses its subscription, and then its stream ends, as upstream's does, without an error
//! frame: the client watches again from the last version it has seen, and only where history no longer reaches back that far
//! it gets 410 and lists again.
//!
//! Objects that cannot be decoded produce no event: a client keeps the state that it saw before, as upstream's do while their server
//! cannot continue. When such an object is deleted there is no last state to send, so the client has to list again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::json;
use api::{Status, Tree};
use bytes::Bytes;
use daemon::aside::{Parts, aside};
use http::{Response, StatusCode};
use rand::Rng as _;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use watchcache::entry::{Entry, proto_frame};
use watchcache::event::{Event, EventType, json_frame_open};
use watchcache::feed::Feed;
use watchcache::filter::Filter;
use watchcache::{Subscription, converted};

use super::Call;
use super::options::ListOptions;
use super::read;
use super::render::{self, Target};
use crate::body::Body;
use crate::negotiate::{Form, MediaType, STREAMS, encode_tree, response};

/// As good as never, in seconds.
const YEAR: u64 = 365 * 24 * 3600;
const BOOKMARK: Duration = Duration::from_secs(60);

/// `GET ?watch=true`.
pub async fn watch(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let options = ListOptions::parse(call.request.query())?;
    let filter = Arc::new(read::filter(call, &options)?);
    let version = options.watch_version()?;
    let cache = call.cache()?;
    let server = call.server;
    let feed = &server.resources.feed;
    let from_now = matches!(version, None | Some(0));
    let initial = options.send_initial_events.unwrap_or(from_now);
    let format = Format { target: call.target.clone(), columns_sent: false };
    let timeout = options.timeout_seconds.filter(|seconds| *seconds > 0);
    let timeout = timeout.unwrap_or_else(|| unasked_timeout(server.settings.min_request_timeout));
    let deadline = Instant::now() + Duration::from_secs(timeout.min(YEAR));
    let mut frames = Frames {
        format,
        filter: Arc::clone(&filter),
        feed: Arc::clone(feed),
        shutdown: server.resources.shutdown.clone(),
        initial: Vec::new().into_iter(),
        mark_end: None,
        past: Vec::new().into_iter(),
        after: 0,
        subscription: None,
        error: None,
        bookmarks: options.bookmarks,
        next_bookmark: Box::pin(tokio::time::sleep_until(next_bookmark(deadline))),
        deadline,
        timer: Box::pin(tokio::time::sleep_until(deadline)),
        parts: Parts::begin(),
    };
    let from_state = from_now || options.send_initial_events == Some(true);
    // A state of a version that has not come yet is worth waiting for; changes after it are not there, whether it comes or not.
    let reached = if from_state { read::wait_for(call, version).await } else { Ok(()) };
    if let Err(status) = reached {
        if version.is_none() {
            return Err(status);
        }
        frames.error = Some(status);
    } else if from_state {
        let (snapshot, subscription) = cache.watch_from_now(filter.clone(), feed.revision());
        if initial {
            let namespaced = cache.kind.is_namespaced();
            let entries: Vec<Arc<Entry>> = aside(snapshot.objects.len() > read::MANY, || {
                snapshot.select(&filter, "", namespaced).cloned().collect()
            });
            frames.initial = entries.into_iter();
        }
        if options.send_initial_events == Some(true) && options.bookmarks {
            frames.mark_end = Some(snapshot.revision);
        }
        frames.subscription = Some(subscription);
    } else {
        let version = version.map_or(0, |version| i64::try_from(version).unwrap_or(i64::MAX));
        frames.after = version;
        match cache.watch(filter, version) {
            Ok((past, subscription)) => {
                frames.past = past.into_iter();
                frames.subscription = Some(subscription);
            }
            Err(too_old) => frames.error = Some(Status::expired(too_old.to_string())),
        }
    }
    if let Some(subscription) = &frames.subscription {
        subscription.events.ends(deadline.into_std() + LEEWAY);
    }
    if call.target.media == MediaType::Yaml {
        return Err(Status::representation_not_acceptable(&STREAMS));
    }
    let content_type = match call.target.media {
        MediaType::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let stream = futures::stream::unfold(frames, |mut frames| async move {
        let frame = frames.next().await?;
        Some((Ok(frame), frames))
    });
    Ok(response(StatusCode::OK, content_type, Body::stream(stream)))
}

/// After this a watch that should have ended gives up its queue, whether or not its client reads.
const LEEWAY: Duration = Duration::from_secs(5);

/// Default watch timeout in seconds, randomised so that watches do not restart together.
fn unasked_timeout(shortest: u64) -> u64 {
    match shortest.min(YEAR) {
        0 => YEAR,
        shortest => rand::rng().random_range(shortest..2 * shortest),
    }
}

/// The last bookmark goes out shortly before the end.
fn next_bookmark(deadline: Instant) -> Instant {
    let now = Instant::now();
    let last = deadline.checked_sub(Duration::from_secs(2)).unwrap_or(now);
    let regular = now + BOOKMARK;
    if last > now + Duration::from_secs(1) { regular.min(last) } else { regular }
}

struct Frames {
    format: Format,
    filter: Arc<Filter>,
    feed: Arc<Feed>,
    shutdown: CancellationToken,
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// Revision of the bookmark that marks the end of the initial events.
    mark_end: Option<i64>,
    past: std::vec::IntoIter<Arc<Event>>,
    /// Changes up to this version are passed over.
    after: i64,
    /// Gone when the watch is to end.
    subscription: Option<Subscription>,
    error: Option<Status>,
    bookmarks: bool,
    next_bookmark: Pin<Box<Sleep>>,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    parts: Parts,
}

impl Frames {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Err(status) =
                converted::fill_first(self.initial.as_slice(), &self.format.target.resource).await
            {
                return self.cut(&status);
            }
            let Some(entry) = self.initial.next() else { break };
            self.parts.pause().await;
            match converted::matches(&entry, self.initial.as_slice(), &self.filter).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(status) => return self.cut(&status),
            }
            match self.format.entry(EventType::Added, &entry).await {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(status) => return self.cut(&status),
            }
        }
        if let Some(revision) = self.mark_end.take() {
            return self.bookmark(revision, true);
        }
        while let Some(event) = self.past.next() {
            self.parts.pause().await;
            if let Some(frame) = self.event(&event).await {
                return Some(frame);
            }
        }
        if let Some(status) = self.error.take() {
            self.subscription = None;
            return Some(self.format.error(&status));
        }
        loop {
            let subscription = self.subscription.as_mut()?;
            tokio::select! {
                biased;
                event = subscription.events.recv() => {
                    // closed: too slow, the client goes on from where it is
                    let Some(event) = event else {
                        self.subscription = None;
                        return None;
                    };
                    // Frames that all share are there already; another form is made for this one alone.
                    if self.format.target.form != Form::Object {
                        self.parts.pause().await;
                    }
                    if let Some(frame) = self.event(&event).await {
                        return Some(frame);
                    }
                }
                () = self.shutdown.cancelled() => {
                    self.subscription = None;
                    return None;
                }
                () = &mut self.timer => {
                    self.subscription = None;
                    return None;
                }
                () = &mut self.next_bookmark, if self.bookmarks => {
                    self.next_bookmark.as_mut().reset(next_bookmark(self.deadline));
                    // Everything up to the feed's revision is in the queue; only an empty queue makes the mark true.
                    let revision = self.feed.revision();
                    if subscription.events.is_empty() {
                        return self.bookmark(revision, false);
                    }
                }
            }
        }
    }
}

impl Frames {
    /// The frame of an event, where the watcher gets one.
    async fn event(&mut self, event: &Event) -> Option<Bytes> {
        if event.revision() <= self.after {
            return None;
        }
        let seen = match converted::seen_through(event, &self.filter).await {
            Ok(seen) => seen?,
            Err(status) => return self.cut(&status),
        };
        let frame = match self.format.event(event, seen).await {
            Ok(frame) => frame,
            Err(status) => return self.cut(&status),
        };
        if frame.is_some() || seen != EventType::Deleted {
            return frame;
        }
        self.past = Vec::new().into_iter();
        self.subscription = None;
        Some(self.format.error(&Status::expired("an object that could not be read is gone")))
    }
}

impl Frames {
    /// The frame of a bookmark, where events have the form that was asked for.
    fn bookmark(&mut self, revision: i64, end: bool) -> Option<Bytes> {
        if let Err(status) = self.format.fits() {
            return self.cut(&status);
        }
        Some(self.format.bookmark(revision, end))
    }

    /// Ends a watch of objects that nobody can convert: the client comes back, and may find that somebody can. It also ends one of
    /// events that cannot be what was asked for.
    fn cut(&mut self, status: &Status) -> Option<Bytes> {
        tracing::warn!(error = status.message, resource = ?self.format.target.resource, "Unable to encode a watch's object");
        self.initial = Vec::new().into_iter();
        self.past = Vec::new().into_iter();
        self.mark_end = None;
        self.subscription = None;
        None
    }
}

/// How events are put into frames.
struct Format {
    target: Target,
    columns_sent: bool,
}

impl Format {
    /// `None` where the object cannot be read, an error where it cannot be converted.
    async fn event(&mut self, event: &Event, seen: EventType) -> Result<Option<Bytes>, Status> {
        if self.target.is_native(&event.entry) {
            match self.target.media {
                MediaType::Protobuf => {
                    if let Some(frame) = event.proto_frame(seen) {
                        return Ok(Some(frame));
                    }
                }
                _ => return Ok(event.json_frame(seen)),
            }
        }
        self.formed(seen.name(), &event.shown(seen)).await
    }

    async fn entry(&mut self, seen: EventType, entry: &Entry) -> Result<Option<Bytes>, Status> {
        if self.target.is_native(entry) {
            match self.target.media {
                MediaType::Protobuf => {
                    if let Some(frame) = entry.proto_watch_frame(seen.name()) {
                        return Ok(Some(frame));
                    }
                }
                _ => return Ok(watchcache::event::json_frame(seen, entry)),
            }
        }
        self.formed(seen.name(), entry).await
    }

    /// An event is one object, and no list.
    fn fits(&self) -> Result<(), Status> {
        match self.target.form {
            Form::MetadataList => Err(Status::internal("an object cannot be shown as a list of metadata")),
            _ => Ok(()),
        }
    }

    async fn formed(&mut self, event_type: &str, entry: &Entry) -> Result<Option<Bytes>, Status> {
        self.fits()?;
        let kind = &entry.kind.resource;
        let tree = if kind.custom().is_some() {
            converted::one(entry, &self.target.resource).await?
        } else {
            let Ok(tree) = entry.read() else { return Ok(None) };
            kind.convert_one(&self.target.resource, tree).await?
        };
        let headers = !std::mem::replace(&mut self.columns_sent, true);
        let tree = render::form(tree, &self.target, headers);
        Ok(Some(self.frame(event_type, &tree)))
    }

    fn bookmark(&mut self, revision: i64, end: bool) -> Bytes {
        let resource = &self.target.resource;
        let mut tree = json!({
            "kind": resource.kind,
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if end {
            tree["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let message = resource.message();
        if let Ok(decoded) = api::decode::tree(&tree, message, api::decode::Strictness::Ignore) {
            let mut whole = json!({"kind": resource.kind, "apiVersion": resource.api_version()});
            if let (Some(whole), Tree::Object(fields)) = (whole.as_object_mut(), decoded.tree) {
                for (name, value) in fields {
                    whole.entry(name).or_insert(value);
                }
            }
            tree = whole;
        }
        let headers = !std::mem::replace(&mut self.columns_sent, true);
        let tree = render::form(tree, &self.target, headers);
        self.frame("BOOKMARK", &tree)
    }

    fn error(&self, status: &Status) -> Bytes {
        match self.target.media {
            MediaType::Protobuf => proto_frame("ERROR", &status.to_proto()).into(),
            _ => self.frame("ERROR", &status.to_tree()),
        }
    }

    fn frame(&self, event_type: &str, tree: &Tree) -> Bytes {
        if self.target.media == MediaType::Protobuf {
            let (media, bytes) = encode_tree(MediaType::Protobuf, tree);
            if media == MediaType::Protobuf {
                return proto_frame(event_type, &bytes).into();
            }
        }
        let mut out = Vec::new();
        json_frame_open(event_type, &mut out);
        api::json::write(tree, &mut out);
        out.extend_from_slice(b"}\n");
        out.into()
    }
}
