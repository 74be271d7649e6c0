//! Strategic merge patch: a merge patch that knows from the model which lists are maps by a key or sets, with the
//! directives `$patch`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use api::Tree;
use api::model::{Field, MessageRef, Model, PatchStrategy, Shape, Type};
use api::tree::{CompactString, Object};

use super::order::{self, identity, normalize, text};
use super::{Error, Rejection, not_a_map, remove_nulls};
use crate::bounds::Seen;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// What the model says of the tree at hand.
#[derive(Clone, Copy)]
enum Schema<'m> {
    Message(MessageRef<'m>),
    /// A map with string keys, whose values are of this type.
    Map(&'m Model, &'m Type),
    /// Not described: merged by shape alone.
    None,
}

/// How the model says a field is to be patched.
struct Member<'m> {
    schema: Schema<'m>,
    merge_list: bool,
    retain_keys: bool,
    key: &'m str,
}

/// Applies `patch` to `target`, an object of `message`.
pub fn strategic(target: &Tree, patch: &Tree, message: MessageRef<'_>) -> Result<Tree, Error> {
    let (Tree::Object(map), Tree::Object(target)) = (patch, target) else {
        return Err(not_a_map("", patch));
    };
    merge_map(target.clone(), map, Schema::Message(message)).map(Tree::Object)
}

fn find_field<'m>(message: MessageRef<'m>, name: &str) -> Option<&'m Field> {
    message.fields().iter().find_map(|field| match (&field.ty, field.json.is_empty()) {
        (Type::Message(index), true) => find_field(message.at(*index), name),
        _ => (field.json == name).then_some(field),
    })
}

fn of_type<'m>(model: &'m Model, ty: &'m Type) -> Schema<'m> {
    match ty {
        Type::Message(index) => {
            let message = model.at(*index);
            if message.leaf.is_some() { Schema::None } else { Schema::Message(message) }
        }
        _ => Schema::None,
    }
}

fn member<'m>(schema: Schema<'m>, name: &str) -> Member<'m> {
    let plain = |schema| Member { schema, merge_list: false, retain_keys: false, key: "" };
    match schema {
        Schema::None => plain(Schema::None),
        Schema::Map(model, ty) => plain(of_type(model, ty)),
        Schema::Message(message) => {
            let Some(field) = find_field(message, name) else { return plain(Schema::None) };
            let model = message.model();
            let inner = match field.shape {
                Shape::Map => Schema::Map(model, &field.ty),
                _ => of_type(model, &field.ty),
            };
            use PatchStrategy::{Merge, MergeRetainKeys, RetainKeys};
            Member {
                schema: inner,
                merge_list: matches!(field.patch, Merge | MergeRetainKeys),
                retain_keys: matches!(field.patch, RetainKeys | MergeRetainKeys),
                key: field.merge_key.as_ref(),
            }
        }
    }
}

const LIST: &str = "[]interface {}";
const MAP: &str = "map[string]interface {}";

fn wrong_kind(wanted: &str, found: &Tree) -> Error {
    Error::Internal(format!("expected a {wanted}, but received a {}", found.go_type()))
}

fn list(value: &Tree) -> Result<&Vec<Tree>, Error> {
    value.as_array().ok_or_else(|| wrong_kind(LIST, value))
}

/// Go's rendering of a map, as the error texts have it.
fn shown(map: &Object) -> String {
    let mut entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
    entries.sort();
    format!("map[{}]", entries.join(" "))
}

fn plain(value: &Tree) -> String {
    match value {
        Tree::Object(map) => shown(map),
        Tree::Array(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Tree::Null => "<nil>".to_owned(),
        other => text(other),
    }
}

fn merge_map(mut target: Object, patch: &Object, schema: Schema<'_>) -> Result<Object, Error> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Tree::String(directive)) => match directive.as_str() {
            "replace" => {
                let mut replacement = patch.clone();
                replacement.remove(DIRECTIVE);
                return Ok(replacement);
            }
            "delete" => return Ok(Object::new()),
            other => {
                return Err(Error::Internal(format!("unknown patch type: {other} in map: {}", shown(patch))));
            }
        },
        Some(other) => {
            return Err(Error::Internal(format!(
                "unknown patch type: {} in map: {}",
                plain(other),
                shown(patch)
            )));
        }
    }
    retain_keys(&mut target, patch)?;
    for (key, order) in patch.iter().filter(|(key, _)| key.starts_with(ELEMENT_ORDER)) {
        let name = &key[ELEMENT_ORDER.len()..];
        ordered_list(&mut target, patch, name, list(order)?, schema)?;
    }
    remove_nulls(&mut target, patch, |key| !key.starts_with('$'));
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_PRIMITIVES) {
            if let Some(Tree::Array(items)) = target.get_mut(name) {
                let gone: Seen<&Tree> = list(value)?.iter().collect();
                items.retain(|item| !gone.contains(&item));
            }
            continue;
        }
        let done = key.starts_with(ELEMENT_ORDER) || key == DIRECTIVE || key == RETAIN_KEYS;
        if done
            || value.is_null()
            || (value.is_array() && patch.contains_key(&format!("{ELEMENT_ORDER}{key}")))
        {
            continue;
        }
        let member = member(schema, key);
        let merged = match (target.get_mut(key).map(Tree::take), value) {
            (Some(old), Tree::Object(_)) if api::raw::kept(&old).is_some() => {
                return Err(Error::Rejected(Rejection::default()));
            }
            (Some(Tree::Object(old)), Tree::Object(new)) => {
                if new.contains_key(RETAIN_KEYS) && !member.retain_keys {
                    return Err(Error::Malformed("invalid patch format of retainKeys".to_owned()));
                }
                Tree::Object(merge_map(old, new, member.schema)?)
            }
            (Some(Tree::Array(old)), Tree::Array(new)) if member.merge_list => {
                let merged = merge_list(old.clone(), new, &member)?;
                Tree::Array(normalize(merged, new, &old, member.key))
            }
            // where there is nothing to act on
            (_, value) if value.get(DIRECTIVE).is_some() => continue,
            (_, value) => without_directives(value),
        };
        target.insert(key.clone(), merged);
    }
    Ok(target)
}

/// Drops what `$retainKeys` does not name; what the patch sets must be among the names.
fn retain_keys(target: &mut Object, patch: &Object) -> Result<(), Error> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || Error::Malformed("invalid patch format of retainKeys".to_owned());
    let keys = keys.as_array().ok_or_else(malformed)?;
    let named: Seen<&str> = keys.iter().filter_map(Tree::as_str).collect();
    let foreign = |(key, value): (&CompactString, &Tree)| {
        !key.starts_with('$') && !value.is_null() && !named.contains(key.as_str())
    };
    if patch.iter().any(foreign) {
        return Err(malformed());
    }
    target.retain(|key, _| named.contains(key.as_str()));
    Ok(())
}

/// A list whose order the patch declares, with or without changes to it.
fn ordered_list(
    target: &mut Object,
    patch: &Object,
    name: &str,
    order: &[Tree],
    schema: Schema<'_>,
) -> Result<(), Error> {
    let changes = match patch.get(name) {
        None => None,
        // All that the patch has as null goes in one pass, afterwards.
        Some(Tree::Null) => return Ok(()),
        Some(changes) => Some(list(changes)?),
    };
    let member = member(schema, name);
    if let Some(changes) = changes {
        check_order(changes, order, member.key)?;
    }
    let before = match (target.get(name), changes) {
        (Some(Tree::Array(before)), _) => before.clone(),
        (_, Some(_)) => Vec::new(),
        (_, None) => return Ok(()),
    };
    let mut merged = before.clone();
    if let Some(changes) = changes {
        merged = if member.merge_list { merge_list(merged, changes, &member)? } else { changes.clone() };
    }
    target.insert(name.to_owned(), Tree::Array(normalize(merged, order, &before, member.key)));
    Ok(())
}

/// What the patch changes must stand in the declared order, in that order.
fn check_order(changes: &[Tree], in_order: &[Tree], key: &str) -> Result<(), Error> {
    let mut declared = in_order.iter();
    for change in changes.iter().filter(|change| change.get(DIRECTIVE).is_none()) {
        let wanted = order::key(identity(change, key));
        if !declared.any(|one| order::key(identity(one, key)) == wanted) {
            let lines = |items: &[Tree]| items.iter().map(plain).collect::<Vec<_>>().join(" ");
            return Err(Error::Internal(format!(
                "The order in patch list:\n[{}]\n doesn't match $setElementOrder list:\n[{}]\n",
                lines(changes),
                lines(in_order)
            )));
        }
    }
    Ok(())
}

/// Items of lists to be merged are all of one type.
fn check_items(target: &[Tree], patch: &[Tree]) -> Result<(), Error> {
    let mut items = target.iter().chain(patch).map(Tree::go_type);
    let Some(first) = items.next() else { return Ok(()) };
    if first == LIST {
        return Err(Error::Internal("lists of lists are not supported".to_owned()));
    }
    if items.any(|other| other != first) {
        let shown = |items: &[Tree]| items.iter().map(plain).collect::<Vec<_>>().join(" ");
        let (target, patch) = (shown(target), shown(patch));
        return Err(Error::Internal(format!("list element types are not identical: [[{target}] [{patch}]]")));
    }
    Ok(())
}

fn merge_list(mut target: Vec<Tree>, patch: &[Tree], member: &Member<'_>) -> Result<Vec<Tree>, Error> {
    check_items(&target, patch)?;
    if !patch.iter().chain(&target).any(Tree::is_object) {
        target.extend(patch.iter().cloned());
        let mut seen = Seen::new();
        let first: Vec<bool> = target.iter().map(|item| !seen.repeats(item)).collect();
        return Ok(target.into_iter().zip(first).filter_map(|(item, first)| first.then_some(item)).collect());
    }
    let mut replace = false;
    let mut deleted = HashSet::new();
    let mut changes = Vec::with_capacity(patch.len());
    for item in patch {
        let map = item.as_object().ok_or_else(|| wrong_kind(MAP, item))?;
        match map.get(DIRECTIVE).and_then(Tree::as_str) {
            Some("replace") => replace = true,
            Some("delete") => {
                let Some(key) = map.get(member.key) else {
                    return Err(missing_key(map, member.key));
                };
                deleted.insert(order::key(key));
            }
            Some("merge") => {
                return Err(Error::Internal("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some(other) => {
                return Err(Error::Internal(format!("unknown patch type: {other} in map: {}", shown(map))));
            }
            None => changes.push(map),
        }
    }
    if replace {
        return Ok(changes.into_iter().map(|map| without_directives(&Tree::Object(map.clone()))).collect());
    }
    let key_of = |item| order::key(identity(item, member.key)).map(Cow::into_owned);
    if !deleted.is_empty() {
        target.retain(|one| !deleted.contains(&order::key(identity(one, member.key))));
    }
    // Among several items with one key, the first is merged.
    let mut places: HashMap<Option<String>, usize> =
        target.iter().enumerate().rev().map(|(place, item)| (key_of(item), place)).collect();
    for map in changes {
        let key = map.get(member.key).ok_or_else(|| missing_key(map, member.key))?;
        let key = order::key(key).map(Cow::into_owned);
        match places.get(&key).map(|place| &mut target[*place]) {
            Some(place) => {
                let Tree::Object(old) = place.take() else { continue };
                *place = Tree::Object(merge_map(old, map, member.schema)?);
            }
            None => {
                places.insert(key, target.len());
                target.push(without_directives(&Tree::Object(map.clone())));
            }
        }
    }
    Ok(target)
}

fn missing_key(map: &Object, key: &str) -> Error {
    Error::Internal(format!("map: {} does not contain declared merge key: {key}", shown(map)))
}

/// A patch's value where the object has none: what says how to act on something takes itself away, and nulls go. Lists of keys and
/// of elements are no such directives.
fn without_directives(value: &Tree) -> Tree {
    match value {
        Tree::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null() && value.get(DIRECTIVE).is_none());
            Tree::Object(kept.map(|(key, value)| (key.clone(), without_directives(value))).collect())
        }
        Tree::Array(items) => {
            let kept = items.iter().filter(|item| item.get(DIRECTIVE).is_none());
            Tree::Array(kept.map(without_directives).collect())
        }
        other => other.clone(),
    }
}
