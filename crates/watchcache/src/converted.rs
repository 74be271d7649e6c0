//! Objects of a cache in other versions of their kind. What a webhook converts is kept beside the object: lists and watches ask once
//! for each object and version, and go on while the webhook does not answer.

use std::sync::Arc;

use api::{Status, Tree};
use daemon::aside::{LARGE_BODY, aside};
use registry::Kind;
use registry::conversion::Conversion;

use crate::entry::Entry;
use crate::event::{Event, EventType};
use crate::filter::Filter;

/// Objects that a webhook is asked to convert at once, and about the bytes of these.
const OBJECTS: usize = 500;
const BYTES: usize = 2 << 20;

/// The object at this version.
pub async fn one(entry: &Entry, to: &Kind) -> Result<Tree, Status> {
    match entry.converted(to) {
        Some(tree) => Ok(tree),
        None => again(entry, to).await,
    }
}

/// [`one`], converted again where a webhook does that.
pub async fn again(entry: &Entry, to: &Kind) -> Result<Tree, Status> {
    let tree = aside(entry.size() > LARGE_BODY, || entry.read())?;
    let kind = &entry.kind.resource;
    if entry.is_at(to) || !is_asked_for(kind) {
        return kind.convert_one(to, tree).await;
    }
    let mut converted = kind.convert_one(to, tree).await.map_err(|status| entry.unconverted(status))?;
    entry.keep_converted(to, &mut converted)?;
    Ok(converted)
}

/// The object at the version in which it would be stored now.
pub async fn current(entry: &Entry) -> Result<Tree, Status> {
    if entry.is_foreign() { one(entry, &entry.kind.resource).await } else { entry.read() }
}

/// The objects at this version; those that are stored alike are converted together.
pub async fn all(entries: &[Arc<Entry>], to: &Kind, large: bool) -> Result<Vec<Tree>, Status> {
    let mut trees = Vec::with_capacity(entries.len());
    for alike in entries.chunk_by(|one, next| Arc::ptr_eq(&one.kind, &next.kind)) {
        let kind = &alike[0].kind.resource;
        if is_asked_for(kind) {
            fill(alike, to).await?;
            for entry in alike {
                trees.push(one(entry, to).await?);
            }
        } else {
            let read = || alike.iter().map(|entry| entry.read()).collect::<Result<Vec<Tree>, Status>>();
            trees.extend(kind.convert(to, aside(large, read)?).await?);
        }
    }
    Ok(trees)
}

/// Has the first of these objects converted, where a webhook does that and has not done it yet.
pub async fn fill_first(entries: &[Arc<Entry>], to: &Kind) -> Result<(), Status> {
    let Some(first) = entries.first() else { return Ok(()) };
    let kind = &first.kind.resource;
    let missing = is_asked_for(kind) && !first.is_at(to) && !first.has_converted(to);
    if missing { fill(&entries[..entries.len().min(OBJECTS)], to).await } else { Ok(()) }
}

/// Those of the objects that match, which may have to be seen at another version for it: the first ones, up to the limit.
pub async fn matching(
    entries: Vec<Arc<Entry>>,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<Arc<Entry>>, Status> {
    if !filter.converts() {
        return Ok(entries);
    }
    let mut matching = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        if matching.len() == limit {
            break;
        }
        if matches(entry, &entries[at..], filter).await? {
            matching.push(Arc::clone(entry));
        }
    }
    Ok(matching)
}

/// Whether an object matches, which may have to be seen at another version for it: then those of `beside` are asked for too.
pub async fn matches(entry: &Entry, beside: &[Arc<Entry>], filter: &Filter) -> Result<bool, Status> {
    if let Some(to) = filter.unseen(entry) {
        fill_first(beside, to).await?;
        if filter.unseen(entry).is_some() {
            let tree = one(entry, to).await?;
            entry.keep_attributes(to, &tree);
        }
    }
    Ok(filter.matches(entry) == Some(true))
}

/// What the change is to one who sees only what the filter lets through.
pub async fn seen_through(event: &Event, filter: &Filter) -> Result<Option<EventType>, Status> {
    if let Some(previous) = &event.previous
        && filter.unseen(previous).is_some()
    {
        matches(previous, &[], filter).await?;
        previous.forget_json();
    }
    if event.event_type != EventType::Deleted {
        matches(&event.entry, &[], filter).await?;
    }
    Ok(event.seen_through(filter))
}

async fn fill(entries: &[Arc<Entry>], to: &Kind) -> Result<(), Status> {
    for batch in batches(entries, to) {
        let trees = batch.iter().map(|entry| entry.read()).collect::<Result<Vec<Tree>, Status>>()?;
        let (first, kind) = (Arc::clone(&batch[0]), Arc::clone(&batch[0].kind.resource));
        let converted = kind.convert(to, trees).await.map_err(|status| first.unconverted(status))?;
        for (entry, mut tree) in batch.into_iter().zip(converted) {
            entry.keep_converted(to, &mut tree)?;
        }
    }
    Ok(())
}

/// The objects that have to be converted, in groups that are converted together.
fn batches(entries: &[Arc<Entry>], to: &Kind) -> Vec<Vec<Arc<Entry>>> {
    let mut batches: Vec<Vec<Arc<Entry>>> = Vec::new();
    let mut bytes = 0;
    for entry in entries.iter().filter(|entry| !entry.is_at(to) && !entry.has_converted(to)) {
        bytes += entry.size();
        match batches.last_mut() {
            Some(last) if last.len() < OBJECTS && bytes <= BYTES => last.push(Arc::clone(entry)),
            _ => {
                bytes = entry.size();
                batches.push(vec![Arc::clone(entry)]);
            }
        }
    }
    batches
}

fn is_asked_for(kind: &Kind) -> bool {
    matches!(kind.conversion, Conversion::Other(_))
}
