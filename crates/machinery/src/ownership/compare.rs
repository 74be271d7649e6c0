//! Differences between two objects of a kind, as sets of fields.

use api::Tree;

use super::element::{equal, same};
use super::types::{Form, Items, NoPath, Type};
use super::{Element, Node, Set};

/// What became of fields from one object to another. No field is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// The fields that have a new value.
    pub fn set(&self) -> Set {
        match (self.modified.nodes.is_empty(), self.added.nodes.is_empty()) {
            (_, true) => self.modified.clone(),
            (true, _) => self.added.clone(),
            _ => self.modified.union(&self.added),
        }
    }
}

/// Compares two objects.
pub fn compare(old: &Tree, new: &Tree, ty: Type<'_>) -> Result<Changes, NoPath> {
    let mut changes = Level::default();
    changed(old, new, ty, &mut changes)?;
    Ok(changes.close())
}

/// The nodes of one level while they are collected.
#[derive(Default)]
struct Level {
    removed: Vec<Node>,
    modified: Vec<Node>,
    added: Vec<Node>,
}

impl Level {
    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    fn close(self) -> Changes {
        Changes {
            removed: Set::from_nodes(self.removed),
            modified: Set::from_nodes(self.modified),
            added: Set::from_nodes(self.added),
        }
    }

    /// Adds what was found below an element.
    fn below(&mut self, element: &Element, modified: bool, inner: Level) {
        let push = |nodes: &mut Vec<Node>, member, below: Vec<Node>| {
            if member || !below.is_empty() {
                nodes.push(Node { element: element.clone(), member, below: Set::from_nodes(below) });
            }
        };
        push(&mut self.removed, false, inner.removed);
        push(&mut self.modified, modified, inner.modified);
        push(&mut self.added, false, inner.added);
    }

    /// A member or item that is in one of the objects or in both.
    fn member(
        &mut self,
        element: impl FnOnce() -> Element,
        old: Option<&Tree>,
        new: Option<&Tree>,
        ty: Type<'_>,
    ) -> Result<(), NoPath> {
        match (old, new) {
            (Some(old), Some(new)) => {
                let mut inner = Level::default();
                let modified = changed(old, new, ty, &mut inner)?;
                if modified || !inner.is_empty() {
                    self.below(&element(), modified, inner);
                }
            }
            (None, Some(new)) => {
                self.added.push(Node { element: element(), member: true, below: all(new, ty)? });
            }
            (Some(old), None) => {
                self.removed.push(Node { element: element(), member: true, below: all(old, ty)? });
            }
            (None, None) => {}
        }
        Ok(())
    }
}

fn is_empty(value: &Tree) -> bool {
    match value {
        Tree::Array(items) => items.is_empty(),
        Tree::Object(members) => members.is_empty(),
        _ => true,
    }
}

/// Compares two values that are there. Answers whether the value as a whole was modified.
fn changed(old: &Tree, new: &Tree, ty: Type<'_>, level: &mut Level) -> Result<bool, NoPath> {
    let sort = |value: &Tree| match value {
        Tree::Array(_) => 1,
        Tree::Object(_) => 2,
        Tree::Null => 3,
        _ => 0,
    };
    if ty.is_open() && sort(old) != sort(new) {
        // The value became one of another sort: the fields of the old one are gone, those of the new one are new.
        let before = changed_as(old, new, ty.form(old), level)?;
        let after = changed_as(old, new, ty.form(new), level)?;
        return Ok(before || after);
    }
    changed_as(old, new, ty.form(new), level)
}

fn changed_as(old: &Tree, new: &Tree, form: Form<'_>, level: &mut Level) -> Result<bool, NoPath> {
    match form {
        Form::Scalar(_) | Form::List(None) => Ok(!same(old, new)),
        Form::Map(map) => {
            let (old_members, new_members) = (old.as_object(), new.as_object());
            let empty = old_members.is_none_or(|members| members.is_empty())
                && new_members.is_none_or(|members| members.is_empty());
            if map.atomic || empty {
                return Ok(!same(old, new));
            }
            for (key, value) in old_members.into_iter().flatten() {
                let other = new_members.and_then(|members| members.get(key));
                let looked_ahead = !map.is_open();
                if looked_ahead && other.is_some_and(|other| equal(value, other)) {
                    continue;
                }
                let ty = map.member(key).unwrap_or(Type::Opaque);
                level.member(|| Element::Field(key.clone()), Some(value), other, ty)?;
            }
            for (key, value) in new_members.into_iter().flatten() {
                if old_members.is_none_or(|members| !members.contains_key(key)) {
                    let ty = map.member(key).unwrap_or(Type::Opaque);
                    level.member(|| Element::Field(key.clone()), None, Some(value), ty)?;
                }
            }
            Ok(false)
        }
        Form::List(Some(list)) => {
            let empty = |value: &Tree| value.as_array().is_none_or(|items| items.is_empty());
            if empty(old) && empty(new) {
                return Ok(!same(old, new));
            }
            let items = |value| Items::of(list, value).map_err(|(_, error)| error);
            let none = Vec::new();
            let old = items(old.as_array().unwrap_or(&none))?;
            let new = items(new.as_array().unwrap_or(&none))?;
            let both = old.found.iter().map(|(element, _)| element);
            let later = new.found.iter().map(|(element, _)| element);
            for element in both.chain(later.filter(|element| old.get(element).is_empty())) {
                item(element, old.get(element), new.get(element), list.item(), level)?;
            }
            Ok(false)
        }
    }
}

/// Compares the items of one element. Several of them are compared, and owned, as one.
fn item(
    element: &Element,
    old: &[&Tree],
    new: &[&Tree],
    ty: Type<'_>,
    level: &mut Level,
) -> Result<(), NoPath> {
    let whole = || Node { element: element.clone(), member: true, below: Set::default() };
    match (old, new) {
        ([], [one]) => level.member(|| element.clone(), None, Some(one), ty),
        ([one], []) => level.member(|| element.clone(), Some(one), None, ty),
        ([old], [new]) if equal(old, new) => Ok(()),
        ([old], [new]) => level.member(|| element.clone(), Some(old), Some(new), ty),
        ([_, _, ..], [_, _, ..]) => {
            let equal = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new));
            if !equal {
                level.modified.push(whole());
            }
            Ok(())
        }
        ([_, _, ..], new) => {
            if let [new, ..] = new {
                level.member(|| element.clone(), None, Some(new), ty)?;
            }
            level.removed.push(whole());
            Ok(())
        }
        (old, _) => {
            if let [old, ..] = old {
                level.member(|| element.clone(), Some(old), None, ty)?;
            }
            level.added.push(whole());
            Ok(())
        }
    }
}

/// All fields below a value that only one of the objects has.
fn all(value: &Tree, ty: Type<'_>) -> Result<Set, NoPath> {
    let nodes = match (ty.form(value), value) {
        _ if is_empty(value) => Vec::new(),
        (Form::Map(map), Tree::Object(members)) if !map.atomic => {
            let mut nodes = Vec::with_capacity(members.len());
            for (key, value) in members {
                let below = all(value, map.member(key).unwrap_or(Type::Opaque))?;
                nodes.push(Node { element: Element::Field(key.clone()), member: true, below });
            }
            nodes
        }
        (Form::List(Some(list)), Tree::Array(items)) => {
            let items = Items::of(list, items).map_err(|(_, error)| error)?;
            let mut nodes = Vec::with_capacity(items.found.len());
            for (element, items) in items.found {
                let below = match items[..] {
                    [item] => all(item, list.item())?,
                    _ => Set::default(),
                };
                nodes.push(Node { element, member: true, below });
            }
            nodes
        }
        _ => Vec::new(),
    };
    Ok(Set::from_nodes(nodes))
}
