//! Ownership of `replicas` through the `scale` subresource, whose objects have a path of their own for it.

use std::collections::HashSet;

use super::Set;
use super::managers::{Entry, Fields, Invalid, Managers, Operation};
use api::Tree;
use api::tree::CompactString;

const SCALE: &str = "autoscaling/v1";
const IN_SCALE: &[&str] = &["spec", "replicas"];

/// Where `replicas` is, by version of the scaled kind; versions without scale have no path.
pub type Paths<'a> = &'a dyn Fn(&str) -> Option<Option<Vec<String>>>;

fn has(entry: &Entry, path: &[String]) -> Result<bool, Invalid> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let set = Set::of_fields(&[&path]);
    Ok(!entry.fields.within(&set)?.is_empty())
}

/// The entries of a scaled object as entries of its `Scale`.
pub fn to_scale(parent: &Tree, paths: Paths<'_>) -> Result<Option<Tree>, Invalid> {
    let mut scale = Managers::default();
    for mut entry in Managers::stored(parent)?.0 {
        let Some(Some(path)) = paths(&entry.manager.api_version) else { continue };
        if has(&entry, &path)? {
            entry.manager.api_version = SCALE.into();
            entry.fields = Fields::Set(Set::of_fields(&[IN_SCALE]));
            scale.0.push(entry);
        }
    }
    Ok(scale.into_tree())
}

/// The entries of a scaled object after those of its `Scale` changed.
pub fn to_parent(
    parent: &Tree,
    scale: &Tree,
    version: &str,
    paths: Paths<'_>,
) -> Result<Option<Tree>, Invalid> {
    let parent = Managers::stored(parent)?;
    let scale = Managers::stored(scale)?;
    let scaled = scale.by_manager();
    let known_before = parent.by_manager();
    let mut found = HashSet::new();
    let mut merged = Managers::default();
    for entry in &parent.0 {
        let Some(path) = paths(&entry.manager.api_version) else { continue };
        let Some(path) = path.filter(|path| has(entry, path).unwrap_or(false)) else {
            merged.0.push(entry.clone());
            continue;
        };
        // Updates through another version are other managers: only those who apply are found again.
        if scaled.contains_key(&entry.manager) {
            found.insert(&entry.manager);
            merged.0.push(entry.clone());
            continue;
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let left = entry.fields.set()?.difference(&Set::of_fields(&[&path]));
        if !left.is_empty() {
            merged.0.push(Entry { fields: Fields::Set(left), ..entry.clone() });
        }
    }
    let Some(Some(path)) = paths(version) else { return Ok(merged.into_tree()) };
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    for entry in scale.0.iter().filter(|entry| !found.contains(&entry.manager)) {
        if entry.fields.within(&Set::of_fields(&[IN_SCALE]))?.is_empty() {
            continue;
        }
        let time = match entry.manager.operation {
            Operation::Apply => known_before.get(&entry.manager).and_then(|known| known.time.clone()),
            Operation::Update => None,
        };
        let mut manager = entry.manager.clone();
        manager.api_version = CompactString::from(version);
        merged.0.push(Entry { manager, time, fields: Fields::Set(Set::of_fields(&[&path])) });
    }
    Ok(merged.into_tree())
}
