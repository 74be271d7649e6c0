//! Server-side apply: merges a configuration into a live object, removes what its manager applied before and nobody
//! else owns, and records who owns what.

use std::collections::BTreeMap;

use api::Tree;
use api::status::Status;
use api::tree::CompactString;

use super::conflict::Conflicts;
use super::extract::extract;
use super::managers::{self, Entry, Fields, Managers, Operation};
use super::merge::merge;
use super::prune::{remove, with_named_parents};
use super::update::{self, Write, ownable, settle};
use super::upgrade;
use super::{Set, element, validate};

/// The manager of fields that were there before the first apply.
const BEFORE: &str = "before-first-apply";

/// Why a configuration was not applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("conflicts")]
    Conflicts(Conflicts),
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Internal(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        match error {
            Error::Conflicts(conflicts) => conflicts.into(),
            Error::BadRequest(message) => Status::bad_request(message),
            Error::Internal(message) => Status::failure(500, "", message),
        }
    }
}

/// What is applied.
#[derive(Clone, Copy)]
pub struct Configuration<'a> {
    /// As the client wrote it: not defaulted, not converted.
    pub object: &'a Tree,
    /// Takes fields from others who own them.
    pub force: bool,
}

/// The live object at the request's version, and one of its kind in which nothing is set.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    pub object: &'a Tree,
    pub empty: &'a Tree,
    pub kind: &'a str,
}

/// Applies a configuration. The result has members in any order, nulls, and no defaults.
pub fn apply(live: Live<'_>, config: Configuration<'_>, write: &Write<'_>) -> Result<Tree, Error> {
    let managers = Managers::stored(live.object)
        .map_err(|error| Error::Internal(format!("failed to decode managed fields: {error}")))?;
    let text = |field| config.object.get(field).and_then(Tree::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if (api_version, kind) != (write.api_version, live.kind) {
        return Err(Error::BadRequest(format!("invalid object type: {}", type_text(api_version, kind))));
    }
    let (mut object, managers) = match merge_in(live, config, managers.clone(), write) {
        Err(Error::Conflicts(conflicts)) if write.manager == upgrade::KUBECTL => {
            match upgrade::remaining(live.object, conflicts, write) {
                Ok(()) => merge_in(live, Configuration { force: true, ..config }, managers, write)?,
                Err(conflicts) => return Err(Error::Conflicts(conflicts)),
            }
        }
        result => result?,
    };
    if write.manager == upgrade::KUBECTL {
        upgrade::keep_up(&mut object, config.object);
    }
    managers::set(&mut object, managers.into_tree());
    Ok(object)
}

/// Group, version and kind in upstream's words.
pub(super) fn type_text(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

fn internal(what: &str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |error| Error::Internal(format!("{what}: {error}"))
}

fn merge_in(
    live: Live<'_>,
    config: Configuration<'_>,
    mut managers: Managers,
    write: &Write<'_>,
) -> Result<(Tree, Managers), Error> {
    let ty = write.ty().map_err(|error| Error::Internal(error.to_string()))?;
    if managers.is_empty() {
        managers = update::record(live.empty, live.object, managers, BEFORE, write)
            .map_err(|error| internal("failed to create manager for existing fields")(&error))?;
    }
    if managers::list(config.object).is_some() {
        return Err(Error::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    let errors = validate::validate(config.object, ty);
    if !errors.is_empty() {
        let what = format!("failed to create typed patch object ({})", object_text(config.object));
        return Err(internal(&what)(&errors));
    }
    update::refresh(&mut managers, write.versions)
        .map_err(|error| internal("failed to reconcile")(&error))?;
    let merged =
        merge(live.object, config.object, ty).map_err(|error| internal("failed to merge config")(&error))?;
    let set = extract(config.object, ty).map_err(|error| internal("failed to get field set")(&error))?;
    let set = write.versions.reset(write.api_version).filter(set);
    let own = write.by(Operation::Apply, write.manager);
    let last = managers.remove(&own);
    let last_time = last.as_ref().and_then(|last| last.time.clone());
    managers.put(Entry { manager: own.clone(), time: None, fields: Fields::Set(set.clone()) });
    let new = match last {
        Some(last) => prune(merged, &managers, &last, write)
            .map_err(|error| internal("failed to prune fields")(&error))?,
        None => merged,
    };
    match settle(live.object, &new, &mut managers, &own, config.force, write) {
        Ok(Ok(_)) => {}
        Ok(Err(conflicts)) => return Err(Error::Conflicts(conflicts)),
        Err(error) => return Err(internal("failed to compare objects")(&error)),
    }
    let changed = !element::same(live.object, &new);
    if managers.remove(&own).is_some() {
        let set = ownable(&set);
        if !set.is_empty() {
            let time = if changed { write.now() } else { last_time };
            managers.put(Entry { manager: own, time, fields: Fields::Set(set) });
        }
    }
    Ok((if changed { new } else { live.object.clone() }, managers))
}

/// The object, named as upstream's messages name it.
fn object_text(object: &Tree) -> String {
    let of = |tree: Option<&Tree>, field: &str| {
        tree.and_then(|tree| tree.get(field)).and_then(Tree::as_str).unwrap_or_default().to_owned()
    };
    let metadata = object.get("metadata");
    format!(
        "{}/{}; {}",
        of(metadata, "namespace"),
        of(metadata, "name"),
        type_text(&of(Some(object), "apiVersion"), &of(Some(object), "kind"))
    )
}

/// An object at some version.
#[derive(Clone)]
struct At {
    object: Tree,
    version: CompactString,
}

impl At {
    /// `None` where the version is not served.
    fn to(&self, version: &str, write: &Write<'_>) -> Result<Option<At>, update::Error> {
        if write.versions.ty(version).is_none() {
            return Ok(None);
        }
        let object = match self.version == version {
            true => self.object.clone(),
            false => {
                let converted = write.versions.convert(&self.object, &self.version, version);
                converted.map_err(update::Error::Conversion)?
            }
        };
        Ok(Some(At { object, version: version.into() }))
    }

    /// Its fields, with the named ones that lead to them.
    fn fields(&self, write: &Write<'_>) -> Result<Set, update::Error> {
        let ty = write.versions.ty(&self.version);
        let ty = ty.ok_or_else(|| update::Error::NoType(self.version.to_string()))?;
        Ok(with_named_parents(&extract(&self.object, ty)?, Some(ty)))
    }

    fn without(&self, set: &Set, write: &Write<'_>) -> Result<At, update::Error> {
        let ty = write.versions.ty(&self.version);
        let ty = ty.ok_or_else(|| update::Error::NoType(self.version.to_string()))?;
        Ok(At { object: remove(&self.object, set, ty), version: self.version.clone() })
    }
}

/// Removes what a manager applied last time and does not apply now, where nobody else owns it.
fn prune(merged: Tree, managers: &Managers, last: &Entry, write: &Write<'_>) -> Result<Tree, update::Error> {
    let last_version = &last.manager.api_version;
    let last_set = last.fields.set()?;
    let merged = At { object: merged, version: write.api_version.into() };
    if last_set.is_empty() {
        return Ok(merged.object);
    }
    let Some(merged_then) = merged.to(last_version, write)? else { return Ok(merged.object) };
    let last_set = with_named_parents(&last_set, write.versions.ty(last_version));
    let mut pruned = merged_then.without(&last_set, write)?;
    // What is owned comes back, version by version, the one of the last apply first.
    let mut owned: BTreeMap<(bool, CompactString), Vec<Set>> = BTreeMap::new();
    for entry in &managers.0 {
        let version = entry.manager.api_version.clone();
        let sets = owned.entry((version != *last_version, version)).or_default();
        sets.push(entry.fields.set()?.into_owned());
    }
    let mut whole = merged_then.clone();
    for ((_, version), sets) in owned {
        let Some(whole_now) = whole.to(&version, write)? else { continue };
        let Some(pruned_now) = pruned.to(&version, write)? else { continue };
        let set = with_named_parents(&Set::union_of(sets), write.versions.ty(&version));
        let kept = pruned_now.fields(write)?.union(&set);
        pruned = whole_now.without(&whole_now.fields(write)?.difference(&kept), write)?;
        whole = whole_now;
    }
    // What was not this manager's does too.
    if let Some(pruned_then) = pruned.to(last_version, write)? {
        let gone = merged_then.fields(write)?.difference(&pruned_then.fields(write)?);
        pruned = merged_then.without(&gone.intersection(&last_set), write)?;
    }
    match pruned.to(write.api_version, write)? {
        Some(pruned) => Ok(pruned.object),
        None => Ok(merged.object),
    }
}
