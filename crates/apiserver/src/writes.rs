//! The one write path: every create, update, patch and delete of every kind, from clients and from within.
//!
//! A body is brought to the storage version, goes through admission, strategy and hooks, is encoded once, and put on condition that
//! nothing changed since it was read. The object read is the cache's; only when an attempt fails is it read from the store.

pub mod admission;
mod conversions;
pub mod creates;
pub mod delete;
mod encode;
mod metadata;
pub mod ownership;
pub mod unreadable;

pub use conversions::Conversions;
pub use encode::{encode, reordered};
pub use metadata::{check_name, check_namespace, owners_once, wrong_uid, wrong_version};

use std::borrow::Cow;
use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use bytes::Bytes;
use registry::Kind;
use registry::strategy::{Context, Strategy};
use store::{KeyValue, Written};

use crate::delegate::{Outcome, Reservation};
use crate::handlers::{Server, status_of};
use crate::request::Request;
use crate::request::options::{Way, WriteOptions};
use access::authz::Attributes;
use access::refusal;
use daemon::aside::aside;
use ownership::Owners;
use watchcache::entry::Entry;
use watchcache::event::EventType;
use watchcache::stored::Stored;
use watchcache::{Cache, converted};

/// Names tried for a `generateName` whose suffix is taken.
const NAME_ATTEMPTS: usize = 8;

/// One write of a request: what, where, and how.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    pub server: &'a Arc<Server>,
    pub request: &'a Request,
    pub options: &'a WriteOptions,
    /// At the request's version.
    pub resource: &'a Arc<Kind>,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty on create.
    pub name: &'a str,
    /// The stored object that the write changes, once it is read.
    pub old: Option<&'a Tree>,
    /// What the admission chain sees of it.
    pub admission: admission::Sees,
    /// What becomes of `managedFields`.
    pub owners: Owners,
}

/// Makes the new object out of the old one, both at the request's version. It is done again where it lacks conversions.
pub type Change<'a> = &'a (dyn Fn(&Tree, &Conversions) -> Result<Tree, Status> + Send + Sync);

/// Makes a change, with the conversions that it needs.
async fn changed(change: Change<'_>, old: &Tree) -> Result<Tree, Status> {
    let conversions = Conversions::default();
    conversions.complete(|| change(old, &conversions)).await
}

impl Write<'_> {
    pub fn cache(&self) -> Result<Arc<Cache>, Status> {
        self.server.resources.feed.cache(&self.resource.storage_prefix).ok_or_else(Status::unknown_path)
    }

    pub fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, self.name)
    }

    pub fn conflict(&self, why: &str) -> Status {
        Status::conflict(&self.resource.group, &self.resource.plural, self.name, why)
    }

    fn strategy<'k>(&self, kind: &'k Kind) -> Strategy<'k> {
        kind.strategy((!self.subresource.is_empty()).then_some(self.subresource))
    }

    fn context<'c>(&'c self, resource: &'c Resource, name: &'c str) -> Context<'c> {
        Context {
            now: jiff::Timestamp::now(),
            resource,
            subresource: (!self.subresource.is_empty()).then_some(self.subresource),
            namespace: self.namespace,
            name,
        }
    }

    /// An `Invalid` status that names the group in which the object is stored.
    fn invalid(&self, name: &str, causes: Vec<api::status::Cause>) -> Status {
        Status::invalid(&self.resource.storage_group, &self.resource.kind, name, causes)
    }
}

/// Validation errors of an object, which is at the storage version. An object written through another group than it is stored in is
/// validated by that group's rules: an event of `events.k8s.io` must be complete.
async fn causes(write: &Write<'_>, kind: &Stored, tree: &Tree) -> Result<Vec<api::status::Cause>, Status> {
    // The versions of a custom resource have rules of their own.
    let own_rules = write.resource.custom().is_some() && !write.resource.is_same_version(&kind.resource);
    let shown;
    let (resource, shown, old) = if write.resource.group == kind.resource.group && !own_rules {
        (&kind.resource, tree, write.old)
    } else {
        let both = [Some(tree), write.old].into_iter().flatten().cloned().collect();
        shown = kind.resource.convert(write.resource, both).await?;
        (write.resource, shown.first().unwrap_or(tree), shown.get(1))
    };
    let costly = write.resource.custom().is_some_and(|custom| custom.costly);
    // Nothing is waited for until it is given back.
    let permit = if costly { write.server.costly.acquire().await.ok() } else { None };
    let (strategy, context) = (write.strategy(resource), write.context(resource, write.name));
    let mut causes = aside(costly, || match old {
        None => strategy.validate(&context, shown),
        Some(old) => strategy.validate_update(&context, shown, old),
    });
    drop(permit);
    causes.extend(privileged(write, &kind.resource, tree));
    Ok(causes)
}

/// Lifetime of an object in seconds, where its kind's objects expire.
fn ttl(write: &Write<'_>, kind: &Stored) -> Option<u32> {
    let seconds = u32::try_from(write.server.settings.event_ttl.as_secs()).unwrap_or(u32::MAX);
    (kind.resource.profile.passing && seconds > 0).then_some(seconds)
}

/// What a cluster without privileged containers has against an object. Of subresources, only one brings containers.
fn privileged(write: &Write<'_>, resource: &Resource, tree: &Tree) -> Vec<api::status::Cause> {
    match write.server.settings.allow_privileged || !matches!(write.subresource, "" | "ephemeralcontainers") {
        true => Vec::new(),
        false => registry::privileged::causes(resource, tree),
    }
}

/// Creates an object given at the request's version, defaults not yet applied.
pub async fn create(write: &Write<'_>, body: Tree) -> Result<Arc<Entry>, Status> {
    let cache = write.cache()?;
    may_have_objects(write, write.resource)?;
    let mut body = body;
    metadata::check_namespace(&mut body, write.namespace, cache.kind.is_namespaced())?;
    if write.options.way == Way::Apply {
        metadata::unset(&mut body, "resourceVersion");
    } else if !write.options.dry_run
        && metadata::text(&body, "resourceVersion").parse::<u64>().is_ok_and(|version| version > 0)
    {
        return Err(Status::failure(500, "", "resourceVersion should not be set on objects to be created"));
    }
    write.request.warn_all(owners_once(&mut body, false));
    write.strategy(write.resource).default(&mut body)?;
    metadata::wipe(&mut body);
    ownership::record_update(write, None, &mut body).await;
    body = write.resource.convert_one(&cache.kind.resource, body).await?;
    let name = metadata::text(&body, "name").to_owned();
    let named = Write { name: if name.is_empty() { write.name } else { &name }, ..*write };
    let before = ownership::Before::of(&body);
    admission::mutate(&named, &cache.kind.resource, &mut body).await?;
    write.request.warn_all(before.check(&mut body));
    write.request.warn_all(owners_once(&mut body, true));
    let may_generate = !metadata::text(&body, "generateName").is_empty();
    let generated = may_generate && metadata::text(&body, "name").is_empty();
    for attempt in 1.. {
        let tree = if generated { body.clone() } else { std::mem::take(&mut body) };
        match create_once(write, &cache.kind, tree).await {
            Err(status) if generated && status.reason == "AlreadyExists" && attempt < NAME_ATTEMPTS => {}
            Err(status) if may_generate && status.reason == "AlreadyExists" => {
                return Err(not_unique(status));
            }
            other => return other.map(Arc::new),
        }
    }
    Err(Status::internal("unreachable"))
}

async fn create_once(write: &Write<'_>, kind: &Arc<Stored>, mut tree: Tree) -> Result<Entry, Status> {
    let name = metadata::name_for_create(&mut tree);
    let named = Write { name: &name, ..*write };
    let strategy = named.strategy(&kind.resource);
    metadata::fill_for_create(&mut tree);
    let context = named.context(&kind.resource, &name);
    write.request.warn_all(strategy.first_warnings(&tree));
    strategy.prepare_for_create(&context, &mut tree)?;
    // some kinds name themselves
    let name = metadata::text(&tree, "name").to_owned();
    let named = Write { name: &name, ..*write };
    let context = named.context(&kind.resource, &name);
    let reservations = begin(&named, &mut tree).await?;
    let mut outcome = Outcome::Refused;
    let result = async {
        let causes = causes(&named, kind, &tree).await?;
        if !causes.is_empty() {
            return Err(named.invalid(&name, causes));
        }
        write.request.warn_all(strategy.warnings(&context, &tree, None));
        // a name in the path: what should be updated is not there, and to make it is another right
        if !write.name.is_empty() {
            may(write, "create").await?;
        }
        admission::validate(&named, &kind.resource, &tree).await?;
        // a dry run shows the version that was sent
        let sent = metadata::text(&tree, "resourceVersion").parse().unwrap_or(0);
        let value = encode(kind, tree)?;
        let key = kind.key(named.namespace, &name);
        let revision = if named.options.dry_run {
            match named.server.resources.store.get(key.as_bytes()).await.map_err(status_of)? {
                (Some(_), _) => return Err(already_exists(&named, kind, &key).await),
                (None, _) => sent,
            }
        } else {
            let resources = &named.server.resources;
            let _under_way = match write.resource.custom() {
                None => None,
                Some(_) => {
                    let under_way = named.server.creates.begin(&write.resource.storage_prefix);
                    // as it is served by now
                    let (catalog, own) = (named.server.catalog(), write.resource);
                    let now = catalog.kind(&own.group, &own.version, &own.plural);
                    may_have_objects(write, now.ok_or_else(Status::unknown_path)?)?;
                    Some(under_way)
                }
            };
            match resources.store.put(key.as_bytes(), value.clone(), 0, ttl(&named, kind)).await {
                Ok(Written::Done(revision)) => {
                    outcome = Outcome::Committed;
                    revision
                }
                Ok(Written::Conflict(_)) => return Err(already_exists(&named, kind, &key).await),
                Err(error) => return Err(unwritten(error, &mut outcome)),
            }
        };
        decoded(kind, &key, &value, revision)
    }
    .await;
    finish(reservations, outcome).await;
    result
}

/// Refuses new objects of a definition that is being deleted.
fn may_have_objects(write: &Write<'_>, kind: &Kind) -> Result<(), Status> {
    if !kind.custom().is_some_and(|custom| custom.terminating) {
        return Ok(());
    }
    let why = "create not allowed while custom resource definition is terminating";
    Err(Status::forbidden(&kind.group, &kind.plural, write.name, why))
}

/// Whether the user may do this, too.
async fn may(write: &Write<'_>, verb: &str) -> Result<(), Status> {
    let (resource, user) = (write.resource, &write.request.user);
    let (namespace, name) = (write.namespace, write.name);
    let attributes = Attributes {
        version: &resource.version,
        ..Attributes::resource(user, verb, &resource.group, &resource.plural, namespace, name)
    };
    let answer = write.server.authorizer.authorize(&attributes).await;
    if answer.allowed() { Ok(()) } else { Err(refusal::denied(&attributes, &answer.reason)) }
}

/// Marks the status so that a `generateName` client retries: a new suffix may be free.
fn not_unique(mut status: Status) -> Status {
    status.message.push_str(", the server was not able to generate a unique name for the object");
    if let Some(details) = &mut status.details {
        details.retry_after_seconds = 1;
    }
    status
}

/// An `AlreadyExists` status, which says whether the existing object is being deleted.
async fn already_exists(write: &Write<'_>, kind: &Arc<Stored>, key: &str) -> Status {
    let resource = write.resource;
    let mut status = Status::already_exists(&resource.group, &resource.plural, write.name);
    let going = |entry: &Entry| {
        entry.read().is_ok_and(|object| !metadata::text(&object, "deletionTimestamp").is_empty())
    };
    if let Ok(Some(entry)) = read(write.server, kind, key).await
        && going(&entry)
    {
        status.message.insert_str(0, "object is being deleted: ");
    }
    status
}

/// The stored value as an entry.
pub fn decoded(kind: &Arc<Stored>, key: &str, value: &[u8], revision: i64) -> Result<Entry, Status> {
    let key = key.strip_prefix(&kind.prefix).unwrap_or(key);
    Entry::decode(kind, key.into(), value, revision, EventType::Added.name()).map_err(Status::from)
}

async fn begin(write: &Write<'_>, tree: &mut Tree) -> Result<Vec<Box<dyn Reservation>>, Status> {
    let mut reservations = Vec::new();
    for hook in write.server.hooks.iter() {
        match hook.begin(write, tree).await {
            Ok(reservation) => reservations.extend(reservation),
            Err(status) => {
                finish(reservations, Outcome::Refused).await;
                return Err(status);
            }
        }
    }
    Ok(reservations)
}

async fn finish(reservations: Vec<Box<dyn Reservation>>, outcome: Outcome) {
    if outcome == Outcome::Unknown {
        return;
    }
    for reservation in reservations {
        reservation.finish(outcome == Outcome::Committed).await;
    }
}

/// The answer when the store failed. Sets the outcome, which decides what becomes of the reservations.
fn unwritten(error: store::Error, outcome: &mut Outcome) -> Status {
    *outcome = Outcome::after(&error);
    status_of(error)
}

/// Result of an update.
pub struct Updated {
    pub entry: Arc<Entry>,
    pub created: bool,
}

/// Updates an object: reads it, lets `change` make the new one, writes it; again when another write came between. What is not there
/// is made by `upsert` of nothing, where the kind allows that.
pub async fn update(
    write: &Write<'_>,
    change: Change<'_>,
    upsert: Option<Change<'_>>,
) -> Result<Updated, Status> {
    let cache = write.cache()?;
    let kind = &cache.kind;
    let key = kind.key(write.namespace, write.name);
    let mut current = cache.get(write.namespace, write.name);
    let mut fresh = false;
    let warned = write.request.warnings();
    loop {
        let Some(entry) = current.take() else {
            if !fresh {
                current = read(write.server, kind, &key).await?;
                fresh = true;
                if current.is_some() {
                    continue;
                }
            }
            return match upsert {
                Some(make)
                    if write.options.way == Way::Apply
                        || write.strategy(&kind.resource).allow_create_on_update() =>
                {
                    let entry = create(write, changed(make, &Tree::Null).await?).await?;
                    Ok(Updated { entry, created: true })
                }
                _ => Err(write.not_found()),
            };
        };
        write.request.forget_warnings(warned);
        match update_once(write, kind, &key, &entry, change).await {
            Ok(Attempt::Done(entry)) => return Ok(Updated { entry, created: false }),
            Ok(Attempt::Lost(other)) => {
                current = match other {
                    Some(other) => Some(Arc::new(decoded(kind, &key, &other.value, other.mod_revision)?)),
                    None => None,
                };
                fresh = true;
            }
            // an attempt that failed on the cached object may succeed on the stored one
            Err(status) if !fresh => {
                fresh = true;
                current = read(write.server, kind, &key).await?;
                match &current {
                    Some(now) if now.resource_version == entry.resource_version => return Err(status),
                    _ => {}
                }
            }
            Err(status) => return Err(status),
        }
    }
}

/// The object as the store has it now.
pub async fn read(server: &Server, kind: &Arc<Stored>, key: &str) -> Result<Option<Arc<Entry>>, Status> {
    let (found, _) = server.resources.store.get(key.as_bytes()).await.map_err(status_of)?;
    found.map(|found| decoded(kind, key, &found.value, found.mod_revision).map(Arc::new)).transpose()
}

enum Attempt {
    Done(Arc<Entry>),
    Lost(Option<KeyValue>),
}

async fn update_once(
    write: &Write<'_>,
    kind: &Arc<Stored>,
    key: &str,
    entry: &Arc<Entry>,
    change: Change<'_>,
) -> Result<Attempt, Status> {
    let request_strategy = write.strategy(write.resource);
    let strategy = write.strategy(&kind.resource);
    let mut old = converted::current(entry).await?;
    strategy.default(&mut old)?;
    let write = &Write { old: Some(&old), ..*write };
    let shown = match kind.resource.is_same_version(write.resource) {
        true => Cow::Borrowed(&old),
        false if write.resource.custom().is_some() => {
            Cow::Owned(converted::one(entry, write.resource).await?)
        }
        false => Cow::Owned(kind.resource.convert_one(write.resource, old.clone()).await?),
    };
    let mut tree = changed(change, &shown).await?;
    metadata::check_name(&mut tree, write.name)?;
    metadata::check_namespace(&mut tree, write.namespace, kind.is_namespaced())?;
    request_strategy.default(&mut tree)?;
    ownership::record_update(write, Some(&shown), &mut tree).await;
    tree = write.resource.convert_one(&kind.resource, tree).await?;
    metadata::check_version(write, strategy, &mut tree, entry)?;
    metadata::check_uid(write, &mut tree, entry, key)?;
    metadata::carry_over(&mut tree, &old);
    let before = ownership::Before::of(&tree);
    admission::mutate(write, &kind.resource, &mut tree).await?;
    write.request.warn_all(before.check(&mut tree));
    write.request.warn_all(owners_once(&mut tree, true));
    let context = write.context(&kind.resource, write.name);
    strategy.prepare_for_update(&context, &mut tree, &old);
    let reservations = begin(write, &mut tree).await?;
    let mut outcome = Outcome::Refused;
    let result = async {
        let causes = causes(write, kind, &tree).await?;
        if !causes.is_empty() {
            return Err(write.invalid(write.name, causes));
        }
        write.request.warn_all(strategy.warnings(&context, &tree, Some(&old)));
        admission::validate(write, &kind.resource, &tree).await?;
        ownership::keep_times(&mut tree, &old);
        let gone = delete::is_done(kind, &tree);
        let value = encode(kind, tree)?;
        put(write, kind, key, entry, value, gone, &mut outcome).await
    }
    .await;
    if matches!(result, Ok(Attempt::Done(_))) && !write.options.dry_run {
        outcome = Outcome::Committed;
    }
    finish(reservations, outcome).await;
    result
}

/// Writes an update: nothing when nothing changed, a delete when the last finalizer went.
async fn put(
    write: &Write<'_>,
    kind: &Arc<Stored>,
    key: &str,
    entry: &Arc<Entry>,
    value: Bytes,
    gone: bool,
    outcome: &mut Outcome,
) -> Result<Attempt, Status> {
    let store = &write.server.resources.store;
    let same = decoded(kind, key, &value, entry.resource_version)?;
    if write.options.dry_run {
        return Ok(Attempt::Done(Arc::new(same)));
    }
    let expected = entry.resource_version;
    if gone {
        let deleted = store.delete(key.as_bytes(), expected).await;
        return match deleted.map_err(|error| unwritten(error, outcome))? {
            Written::Done(_) => {
                delete::notify_hooks(write, kind, &same).await;
                Ok(Attempt::Done(Arc::new(same)))
            }
            Written::Conflict(other) => Ok(Attempt::Lost(other)),
        };
    }
    if same.has_same_bytes(entry) {
        // nothing to write, if the store still has the entry that was read
        let (found, _) = store.get(key.as_bytes()).await.map_err(status_of)?;
        match found {
            Some(found) if found.mod_revision == expected && found.value == value => {
                return Ok(Attempt::Done(Arc::clone(entry)));
            }
            // It is read as it would be written, but was stored in another form or version: it is brought to this one.
            Some(found) if found.mod_revision == expected => {}
            other => return Ok(Attempt::Lost(other)),
        }
    }
    let written = store.put(key.as_bytes(), value.clone(), expected, ttl(write, kind)).await;
    match written.map_err(|error| unwritten(error, outcome))? {
        Written::Done(revision) => Ok(Attempt::Done(Arc::new(decoded(kind, key, &value, revision)?))),
        Written::Conflict(other) => Ok(Attempt::Lost(other)),
    }
}
