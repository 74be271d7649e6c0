//! Deletes: at once, gracefully, or when the last finalizer goes.

use std::sync::Arc;

use api::status::Details;
use api::tree::Object;
use api::{Status, Tree, json};
use jiff::{SignedDuration, Timestamp};
use store::Written;
use watchcache::converted;
use watchcache::entry::Entry;
use watchcache::stored::Stored;

use super::{Write, admission, decoded, encode, metadata, read, ttl};
use crate::handlers::status_of;

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// Only if it cannot be read.
    pub ignore_read_error: bool,
}

impl DeleteOptions {
    /// As admission is shown them.
    pub fn tree(&self, dry_run: bool) -> Tree {
        let mut tree = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace_period {
            tree["gracePeriodSeconds"] = seconds.into();
        }
        for (field, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                tree["preconditions"][field] = value.as_str().into();
            }
        }
        if let Some(policy) = self.propagation {
            tree["propagationPolicy"] = format!("{policy:?}").into();
        }
        if dry_run {
            tree["dryRun"] = json!(["All"]);
        }
        tree
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Foreground,
    Background,
    Orphan,
}

/// How a delete ended.
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Entry>),
    /// The object waits for its grace period or finalizers.
    Pending(Arc<Entry>),
}

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Whether an object on its way out has nothing left to wait for.
pub fn is_done(kind: &Stored, tree: &Tree) -> bool {
    let Some(metadata) = tree.get("metadata") else { return false };
    let set = |field: &str| metadata.get(field).is_some_and(|value| !value.is_null());
    let empty = |list: Option<&Tree>| list.and_then(Tree::as_array).is_none_or(Vec::is_empty);
    set("deletionTimestamp")
        && empty(metadata.get("finalizers"))
        && metadata.get("deletionGracePeriodSeconds").and_then(Tree::as_i64).unwrap_or_default() == 0
        && (!is_namespace(kind) || empty(tree.pointer("/spec/finalizers")))
}

fn is_namespace(kind: &Stored) -> bool {
    kind.resource.profile.is_scope
}

/// The answer for an object that is gone.
pub fn success(write: &Write<'_>, entry: &Entry) -> Status {
    Status::success(Some(Details {
        name: entry.name.to_string(),
        group: write.resource.group.to_string(),
        kind: write.resource.plural.to_string(),
        uid: entry.uid.to_string(),
        ..Details::default()
    }))
}

pub async fn delete(write: &Write<'_>, options: &DeleteOptions) -> Result<Deleted, Status> {
    let cache = write.cache()?;
    let kind = &cache.kind;
    let key = kind.key(write.namespace, write.name);
    let mut current = cache.get(write.namespace, write.name);
    let mut fresh = false;
    loop {
        let Some(entry) = current.take() else {
            if fresh {
                return Err(write.not_found());
            }
            fresh = true;
            current = read(write.server, kind, &key).await?;
            continue;
        };
        match attempt(write, kind, &key, &entry, options).await {
            Ok(Attempt::Done(deleted)) => return Ok(deleted),
            Ok(Attempt::Lost { removing }) => {
                fresh = true;
                current = read(write.server, kind, &key).await?;
                if let Some(last) = removing
                    && current.as_ref().is_none_or(|now| now.uid != last.uid)
                {
                    return Ok(Deleted::Gone(last));
                }
            }
            Err(status) if !fresh => {
                fresh = true;
                current = read(write.server, kind, &key).await?;
                if current.as_ref().is_some_and(|now| now.resource_version == entry.resource_version) {
                    return Err(status);
                }
            }
            Err(status) => return Err(status),
        }
    }
}

enum Attempt {
    Done(Deleted),
    /// Another write came between. `removing`: an object that is deleted gracefully and was to go at once. Whoever sees that, as its
    /// kubelet does, may remove it as well, and be quicker: then it is gone as asked, and what has its name now is another.
    Lost {
        removing: Option<Arc<Entry>>,
    },
}

async fn attempt(
    write: &Write<'_>,
    kind: &Arc<Stored>,
    key: &str,
    entry: &Arc<Entry>,
    options: &DeleteOptions,
) -> Result<Attempt, Status> {
    check(write, entry, options)?;
    let old = converted::current(entry).await?;
    let write = &Write { old: Some(&old), ..*write };
    admission::delete(write, &kind.resource, options).await?;
    let mut tree = old.clone();
    let strategy = kind.resource.strategy(None);
    let prepared = metadata::text(&old, "deletionTimestamp").is_empty()
        && strategy.prepare_for_delete(&mut tree, Timestamp::now());
    let grace = strategy.grace_period(&old, options.grace_period);
    let pending = mark(&mut tree, grace, options);
    if collected(write, kind) {
        set_finalizers(&mut tree, options, strategy.orphans_dependents());
    }
    let has_finalizers = !finalizers(&tree).is_empty();
    let waits_for_spec = is_namespace(kind) && !is_namespace_done(&tree);
    if is_namespace(kind) && (waits_for_spec || has_finalizers) {
        set_phase(&mut tree);
    }
    let wait = match pending {
        // already on its way, and not asked to be quicker: nothing is left to say
        Grace::Waiting => return Ok(Attempt::Done(Deleted::Pending(Arc::clone(entry)))),
        Grace::Started => true,
        Grace::Now | Grace::Over => false,
    };
    if !wait && !prepared && (has_finalizers || waits_for_spec) {
        mark_now(&mut tree, is_namespace(kind));
    }
    let gone = !wait && !has_finalizers && !waits_for_spec;
    if gone && !matches!(pending, Grace::Now) {
        return remove(write, kind, key, entry, grace.is_some()).await;
    }
    let value = encode(kind, tree)?;
    let same = decoded(kind, key, &value, entry.resource_version)?;
    if same.has_same_bytes(entry) {
        return Ok(Attempt::Done(Deleted::Pending(Arc::clone(entry))));
    }
    if write.options.dry_run {
        let same = Arc::new(same);
        return Ok(Attempt::Done(if gone { Deleted::Gone(same) } else { Deleted::Pending(same) }));
    }
    let store = &write.server.resources.store;
    let lease = ttl(write, kind);
    match store.put(key.as_bytes(), value.clone(), entry.resource_version, lease).await.map_err(status_of)? {
        Written::Done(revision) => {
            let marked = Arc::new(decoded(kind, key, &value, revision)?);
            // watchers see the deletion timestamp before the object is gone
            if gone {
                remove(write, kind, key, &marked, true).await
            } else {
                Ok(Attempt::Done(Deleted::Pending(marked)))
            }
        }
        Written::Conflict(_) => Ok(Attempt::Lost { removing: None }),
    }
}

async fn remove(
    write: &Write<'_>,
    kind: &Arc<Stored>,
    key: &str,
    entry: &Arc<Entry>,
    graceful: bool,
) -> Result<Attempt, Status> {
    if write.options.dry_run {
        return Ok(Attempt::Done(Deleted::Gone(Arc::clone(entry))));
    }
    let store = &write.server.resources.store;
    match store.delete(key.as_bytes(), entry.resource_version).await.map_err(status_of)? {
        Written::Done(revision) => {
            notify_hooks(write, kind, entry).await;
            let last = entry.at(revision, "DELETED").map_err(Status::internal)?;
            Ok(Attempt::Done(Deleted::Gone(Arc::new(last))))
        }
        Written::Conflict(_) => Ok(Attempt::Lost { removing: graceful.then(|| Arc::clone(entry)) }),
    }
}

/// Notifies the hooks that an object is gone.
pub async fn notify_hooks(write: &Write<'_>, kind: &Stored, entry: &Entry) {
    if write.server.hooks.is_empty() {
        return;
    }
    // what an object had that cannot be read is found by the hooks' repairs
    let Ok(tree) = entry.read() else { return };
    for hook in write.server.hooks.iter() {
        hook.deleted(write.server, &kind.resource, &tree).await;
    }
}

fn check(write: &Write<'_>, entry: &Entry, options: &DeleteOptions) -> Result<(), Status> {
    let kind = &write.resource.kind;
    if let Some(uid) = &options.uid
        && **uid != *entry.uid
    {
        return Err(Status::conflict(
            &write.resource.group,
            kind,
            write.name,
            &format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                entry.uid
            ),
        ));
    }
    if let Some(version) = &options.resource_version
        && *version != entry.resource_version.to_string()
    {
        return Err(Status::conflict(
            &write.resource.group,
            kind,
            write.name,
            &format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
                entry.resource_version
            ),
        ));
    }
    Ok(())
}

enum Grace {
    /// The object now has its time to end.
    Started,
    /// It had that already.
    Waiting,
    /// Its time is over as of now, and has to be shown as such.
    Now,
    /// There is nothing to wait for.
    Over,
}

/// Sets the time at which a gracefully deleted object ends.
fn mark(tree: &mut Tree, grace: Option<i64>, options: &DeleteOptions) -> Grace {
    let Some(grace) = grace else { return Grace::Over };
    let now = Timestamp::now();
    let Some(object) = tree.get_mut("metadata").and_then(Tree::as_object_mut) else { return Grace::Over };
    let ends = object
        .get("deletionTimestamp")
        .and_then(Tree::as_str)
        .and_then(|text| text.parse::<Timestamp>().ok());
    if let Some(ends) = ends {
        let running = object.get("deletionGracePeriodSeconds").and_then(Tree::as_i64).unwrap_or_default();
        if running == 0 {
            return Grace::Over;
        }
        if options.grace_period.is_none() || grace >= running {
            return Grace::Waiting;
        }
        let sooner = later(later(ends, running.saturating_neg()), grace);
        put_end(object, sooner.max(now.min(ends)), grace);
        return if grace == 0 { Grace::Now } else { Grace::Started };
    }
    put_end(object, later(now, grace), grace);
    raise_generation(object);
    if grace == 0 { Grace::Now } else { Grace::Started }
}

/// The sum, or the latest representable time if that is earlier.
fn later(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn put_end(object: &mut Object, ends: Timestamp, grace: i64) {
    let text = ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    object.insert("deletionTimestamp", text.into());
    object.insert("deletionGracePeriodSeconds", grace.into());
}

fn raise_generation(object: &mut Object) {
    let generation = object.get("generation").and_then(Tree::as_i64).unwrap_or_default();
    if generation > 0 {
        object.insert("generation", (generation + 1).into());
    }
}

/// An object that only waits for its finalizers is deleted as of now. A namespace has no grace period to speak of.
fn mark_now(tree: &mut Tree, namespace: bool) {
    let Some(object) = tree.get_mut("metadata").and_then(Tree::as_object_mut) else { return };
    if !object.get("deletionTimestamp").is_some_and(Tree::is_string) {
        object.insert("deletionTimestamp", metadata::now().into());
        raise_generation(object);
    }
    if !namespace {
        object.insert("deletionGracePeriodSeconds", 0.into());
    }
}

fn finalizers(tree: &Tree) -> Vec<&str> {
    let list = tree.pointer("/metadata/finalizers").and_then(Tree::as_array);
    list.into_iter().flatten().filter_map(Tree::as_str).collect()
}

/// Whether the garbage collector takes care of the kind's objects.
fn collected(write: &Write<'_>, kind: &Stored) -> bool {
    write.server.settings.garbage_collector && !kind.resource.profile.passing
}

/// Puts the garbage collector's finalizers as the propagation policy asks; where none is named, as they are, or else by the kind's.
fn set_finalizers(tree: &mut Tree, options: &DeleteOptions, orphans: bool) {
    let old: Vec<String> = finalizers(tree).into_iter().map(str::to_owned).collect();
    let collectors = |finalizer: &String| *finalizer == FOREGROUND || *finalizer == ORPHAN;
    let propagation = match options.propagation {
        Some(propagation) => propagation,
        None if orphans && !old.iter().any(collectors) => Propagation::Orphan,
        None => return,
    };
    let mut new: Vec<String> = old.iter().filter(|finalizer| !collectors(finalizer)).cloned().collect();
    match propagation {
        Propagation::Foreground => new.push(FOREGROUND.to_owned()),
        Propagation::Orphan => new.push(ORPHAN.to_owned()),
        Propagation::Background => {}
    }
    if let Some(object) = tree.get_mut("metadata").and_then(Tree::as_object_mut)
        && new != old
    {
        object.insert("finalizers", new.into());
    }
}

fn is_namespace_done(tree: &Tree) -> bool {
    tree.pointer("/spec/finalizers").and_then(Tree::as_array).is_none_or(Vec::is_empty)
}

fn set_phase(tree: &mut Tree) {
    let Some(object) = tree.as_object_mut() else { return };
    let status = object.entry("status").or_insert_with(|| Object::new().into());
    if let Some(status) = status.as_object_mut() {
        status.insert("phase", "Terminating".into());
    }
}
