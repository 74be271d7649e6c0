//! Thin views of trees: what rules and columns read, without a typed object. A path is dotted (`spec.replicas`).
//! Absent, null and of-another-type all read as empty.

use std::hash::{Hash, Hasher};

use api::Tree;
pub use api::tree::Object;

static NULL: Tree = Tree::Null;

pub fn get<'t>(tree: &'t Tree, path: &str) -> &'t Tree {
    path.split('.').try_fold(tree, |tree, step| tree.get(step)).unwrap_or(&NULL)
}

pub fn text<'t>(tree: &'t Tree, path: &str) -> &'t str {
    get(tree, path).as_str().unwrap_or_default()
}

pub fn int(tree: &Tree, path: &str) -> Option<i64> {
    let value = get(tree, path);
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))
}

pub fn number(tree: &Tree, path: &str) -> i64 {
    int(tree, path).unwrap_or(0)
}

pub fn flag(tree: &Tree, path: &str) -> bool {
    get(tree, path).as_bool().unwrap_or(false)
}

pub fn list<'t>(tree: &'t Tree, path: &str) -> &'t [Tree] {
    get(tree, path).as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn texts<'t>(tree: &'t Tree, path: &str) -> impl Iterator<Item = &'t str> {
    list(tree, path).iter().filter_map(Tree::as_str)
}

pub fn entries<'t>(tree: &'t Tree, path: &str) -> impl Iterator<Item = (&'t str, &'t Tree)> {
    get(tree, path).as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// Neither absent nor null.
pub fn has(tree: &Tree, path: &str) -> bool {
    !get(tree, path).is_null()
}

/// Absent, null, or the zero value of its type.
pub fn unset(tree: &Tree) -> bool {
    match tree {
        Tree::Null | Tree::Bool(false) => true,
        Tree::String(text) => text.is_empty(),
        Tree::Number(number) => number.as_f64() == Some(0.0),
        Tree::Array(list) => list.is_empty(),
        Tree::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn nothing(tree: &Tree) -> bool {
    match tree {
        Tree::Null => true,
        Tree::Object(map) => map.is_empty(),
        Tree::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Equal as the API compares: null and empty are absent, at every depth.
pub fn same(a: &Tree, b: &Tree) -> bool {
    match (a, b) {
        (Tree::Object(x), Tree::Object(y)) => {
            x.iter().all(|(key, value)| same(value, y.get(key).unwrap_or(&NULL)))
                && y.iter().all(|(key, value)| x.contains_key(key) || nothing(value))
        }
        (Tree::Array(x), Tree::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        _ => a == b || (nothing(a) && nothing(b)),
    }
}

/// Equal as [`same`] compares, but that a structure that is given and empty is not absent.
pub fn equal(a: &Tree, b: &Tree) -> bool {
    let absent = |tree: &Tree| tree.is_null() || tree.as_array().is_some_and(Vec::is_empty);
    match (a, b) {
        (Tree::Object(x), Tree::Object(y)) => {
            x.iter().all(|(key, value)| equal(value, y.get(key).unwrap_or(&NULL)))
                && y.iter().all(|(key, value)| x.contains_key(key) || absent(value))
        }
        (Tree::Array(x), Tree::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| equal(x, y)),
        _ => a == b || (absent(a) && absent(b)),
    }
}

/// A tree as [`same`] compares it, to be a key of sets.
#[derive(Clone, Copy)]
pub struct Alike<'t>(pub &'t Tree);

impl PartialEq for Alike<'_> {
    fn eq(&self, other: &Self) -> bool {
        same(self.0, other.0)
    }
}

impl Eq for Alike<'_> {}

impl Hash for Alike<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            empty if nothing(empty) => {}
            Tree::Object(map) => {
                let mut members: Vec<_> = map.iter().filter(|(_, value)| !nothing(value)).collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                members.into_iter().for_each(|(key, value)| (key, Alike(value)).hash(state));
            }
            Tree::Array(items) => items.iter().for_each(|item| Alike(item).hash(state)),
            other => other.hash(state),
        }
    }
}

/// The object at a path that exists.
pub fn object_mut<'t>(tree: &'t mut Tree, path: &str) -> Option<&'t mut Object> {
    path.split('.').try_fold(tree, |tree, step| tree.get_mut(step))?.as_object_mut()
}

/// The object at a path, made where it is absent.
pub fn ensure<'t>(tree: &'t mut Tree, path: &str) -> &'t mut Object {
    path.split('.').fold(as_object(tree), |object, step| as_object(object.entry(step).or_insert(Tree::Null)))
}

pub fn as_object(tree: &mut Tree) -> &mut Object {
    if !tree.is_object() {
        *tree = Tree::Object(Object::new());
    }
    match tree {
        Tree::Object(object) => object,
        _ => unreachable!("it was made an object above"),
    }
}

/// Sets a member of an object at the top: takes over a value, or removes it where that is null.
pub fn put(object: &mut Object, key: &str, value: Tree) {
    if value.is_null() {
        object.remove(key);
    } else {
        object.insert(key.to_owned(), value);
    }
}

/// Sets a member that is absent, null or zero.
pub fn fill(object: &mut Object, key: &str, value: impl Into<Tree>) {
    if object.get(key).is_none_or(unset) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets a member that is absent or null.
pub fn fill_pointer(object: &mut Object, key: &str, value: impl Into<Tree>) {
    if object.get(key).is_none_or(Tree::is_null) {
        object.insert(key.to_owned(), value.into());
    }
}

pub fn member<'t>(object: &'t Object, key: &str) -> &'t str {
    object.get(key).and_then(Tree::as_str).unwrap_or_default()
}
