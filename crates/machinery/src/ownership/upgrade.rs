//! From client-side apply to server-side apply: what kubectl's annotation says that it applied is its own, so that no
//! conflict with it counts, and the annotation follows what it applies now.

use api::Tree;
use api::tree::Object;

use super::compare::compare;
use super::conflict::Conflicts;
use super::extract::extract;
use super::update::Write;
use super::{Set, validate};

/// The manager that both kinds of apply share.
pub(super) const KUBECTL: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Bytes that an object's annotations may have.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Whether all conflicts are with what client-side apply left. Answers those that are not.
pub(super) fn remaining(live: &Tree, conflicts: Conflicts, write: &Write<'_>) -> Result<(), Conflicts> {
    let Some(allowed) = applied_by_client(live, write) else { return Err(conflicts) };
    let foreign = conflicts.without(&allowed);
    if foreign.is_empty() { Ok(()) } else { Err(foreign) }
}

fn annotation(object: &Tree) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields that the annotation states and that still have that value.
fn applied_by_client(live: &Tree, write: &Write<'_>) -> Option<Set> {
    let applied = api::decode::untyped(annotation(live)?.as_bytes()).ok()?;
    if applied.get("apiVersion")?.as_str()? != write.api_version || applied.get("kind").is_none() {
        return None;
    }
    let ty = write.ty().ok()?;
    if !validate::validate(&applied, ty).is_empty() {
        return None;
    }
    let set = extract(&applied, ty).ok()?;
    let changes = compare(&applied, live, ty).ok()?;
    Some(set.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
}

/// Sets the annotation to what was applied, where there is one. One that makes annotations too large is dropped.
pub(super) fn keep_up(object: &mut Tree, config: &Tree) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    let metadata = config.get_mut("metadata").and_then(Tree::as_object_mut);
    if let Some(Tree::Object(annotations)) = metadata.and_then(|metadata| metadata.get_mut("annotations")) {
        annotations.remove(ANNOTATION);
    }
    config.sort_all_objects();
    let mut text = String::from_utf8_lossy(&api::json::to_vec(&config)).into_owned();
    text.push('\n');
    let metadata = object.get_mut("metadata").and_then(Tree::as_object_mut);
    let Some(Tree::Object(annotations)) = metadata.and_then(|metadata| metadata.get_mut("annotations"))
    else {
        return;
    };
    annotations.insert(ANNOTATION, Tree::from(text));
    let size = |annotations: &Object| -> usize {
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
    };
    if size(annotations) > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}
