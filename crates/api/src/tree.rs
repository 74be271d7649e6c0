//! An object as the API server thinks about it: a JSON tree in the field order of the model.
//!
//! It has `serde_json::Value`'s shape and method names, and is made for objects of the API: keys and most values are
//! shorter than 24 bytes and lie in the tree itself, a key of the model is a pointer to the model's own text, and a map
//! is one vector. A clone of a pod takes a third of the time, a walk a fifth, and an empty object 32 bytes in place of 72.

mod convert;
mod object;

use std::ops::{Index, IndexMut};

pub use compact_str::CompactString;
pub use serde_json::Number;

pub use object::{Entry, Object};

use crate::model::Text;

/// A text of the model as a key: the model's own, where it lives as long as the process.
pub fn key(text: &Text) -> CompactString {
    match text {
        Text::Borrowed(text) => CompactString::const_new(text),
        Text::Owned(text) => CompactString::from(text),
    }
}

/// A tree from JSON as it is written, with expressions in it: `json!({"kind": kind, "items": []})`.
#[macro_export]
macro_rules! json {
    ($($json:tt)+) => { $crate::Tree::from($crate::serde_json::json!($($json)+)) };
}

/// A JSON value. Objects are equal whatever the order of their members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tree {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(CompactString),
    Array(Vec<Tree>),
    Object(Object),
}

static NULL: Tree = Tree::Null;

impl Tree {
    pub fn is_null(&self) -> bool {
        matches!(self, Tree::Null)
    }

    /// The values in it, itself included.
    pub fn count(&self) -> usize {
        match self {
            Tree::Array(items) => 1 + items.iter().map(Tree::count).sum::<usize>(),
            Tree::Object(members) => 1 + members.values().map(Tree::count).sum::<usize>(),
            _ => 1,
        }
    }

    /// Whether there are no more collections within each other than that.
    pub fn is_within(&self, depth: usize) -> bool {
        match self {
            Tree::Array(items) => depth > 0 && items.iter().all(|item| item.is_within(depth - 1)),
            Tree::Object(members) => depth > 0 && members.values().all(|value| value.is_within(depth - 1)),
            _ => true,
        }
    }

    pub fn is_boolean(&self) -> bool {
        matches!(self, Tree::Bool(_))
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Tree::Number(_))
    }

    pub fn is_string(&self) -> bool {
        matches!(self, Tree::String(_))
    }

    pub fn is_array(&self) -> bool {
        matches!(self, Tree::Array(_))
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Tree::Object(_))
    }

    pub fn is_i64(&self) -> bool {
        matches!(self, Tree::Number(number) if number.is_i64())
    }

    pub fn is_f64(&self) -> bool {
        matches!(self, Tree::Number(number) if number.is_f64())
    }

    /// The name that upstream's messages have for a value that was decoded without a type.
    pub fn go_type(&self) -> &'static str {
        match self {
            Tree::Null => "<nil>",
            Tree::Bool(_) => "bool",
            Tree::Number(number) if number.is_i64() => "int64",
            Tree::Number(_) => "float64",
            Tree::String(_) => "string",
            Tree::Array(_) => "[]interface {}",
            Tree::Object(_) => "map[string]interface {}",
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Tree::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Tree::Number(number) => Some(number),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        self.as_number().and_then(Number::as_i64)
    }

    pub fn as_u64(&self) -> Option<u64> {
        self.as_number().and_then(Number::as_u64)
    }

    pub fn as_f64(&self) -> Option<f64> {
        self.as_number().and_then(Number::as_f64)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Tree::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&Vec<Tree>> {
        match self {
            Tree::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Tree>> {
        match self {
            Tree::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Tree::Object(object) => Some(object),
            _ => None,
        }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        match self {
            Tree::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A member of an object, or an item of a list.
    pub fn get<I: Step>(&self, step: I) -> Option<&Tree> {
        step.below(self)
    }

    pub fn get_mut<I: Step>(&mut self, step: I) -> Option<&mut Tree> {
        step.below_mut(self)
    }

    /// What an RFC 6901 pointer points at.
    pub fn pointer(&self, pointer: &str) -> Option<&Tree> {
        steps(pointer)?.try_fold(self, |tree, step| match tree {
            Tree::Object(object) => object.get(&step),
            Tree::Array(items) => items.get(position(&step)?),
            _ => None,
        })
    }

    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Tree> {
        steps(pointer)?.try_fold(self, |tree, step| match tree {
            Tree::Object(object) => object.get_mut(&step),
            Tree::Array(items) => items.get_mut(position(&step)?),
            _ => None,
        })
    }

    /// The value, with null left in its place.
    pub fn take(&mut self) -> Tree {
        std::mem::take(self)
    }

    /// Sorts the members of all objects by their keys.
    pub fn sort_all_objects(&mut self) {
        match self {
            Tree::Object(object) => {
                object.sort_keys();
                object.values_mut().for_each(Tree::sort_all_objects);
            }
            Tree::Array(items) => items.iter_mut().for_each(Tree::sort_all_objects),
            _ => {}
        }
    }
}

/// The steps of an RFC 6901 pointer; `None` where it is none.
fn steps(pointer: &str) -> Option<impl Iterator<Item = String>> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    Some(pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")))
}

fn position(step: &str) -> Option<usize> {
    let plain = step == "0" || !(step.starts_with('0') || step.starts_with('+'));
    if plain { step.parse().ok() } else { None }
}

/// What leads from a tree to one below it: a key or a position.
pub trait Step {
    fn below<'t>(&self, tree: &'t Tree) -> Option<&'t Tree>;
    fn below_mut<'t>(&self, tree: &'t mut Tree) -> Option<&'t mut Tree>;
    /// The place to be written: a member is made where it is absent, and an object of null.
    fn made<'t>(&self, tree: &'t mut Tree) -> &'t mut Tree;
}

impl Step for str {
    fn below<'t>(&self, tree: &'t Tree) -> Option<&'t Tree> {
        tree.as_object()?.get(self)
    }

    fn below_mut<'t>(&self, tree: &'t mut Tree) -> Option<&'t mut Tree> {
        tree.as_object_mut()?.get_mut(self)
    }

    fn made<'t>(&self, tree: &'t mut Tree) -> &'t mut Tree {
        if tree.is_null() {
            *tree = Tree::Object(Object::new());
        }
        match tree {
            Tree::Object(object) => object.entry(self).or_insert(Tree::Null),
            other => panic!("{other} has no member {self}"),
        }
    }
}

impl Step for usize {
    fn below<'t>(&self, tree: &'t Tree) -> Option<&'t Tree> {
        tree.as_array()?.get(*self)
    }

    fn below_mut<'t>(&self, tree: &'t mut Tree) -> Option<&'t mut Tree> {
        tree.as_array_mut()?.get_mut(*self)
    }

    fn made<'t>(&self, tree: &'t mut Tree) -> &'t mut Tree {
        match tree {
            Tree::Array(items) => &mut items[*self],
            other => panic!("{other} has no item {self}"),
        }
    }
}

macro_rules! steps_like {
    ($($step:ty: $as:ident),*) => {$(
        impl Step for $step {
            fn below<'t>(&self, tree: &'t Tree) -> Option<&'t Tree> {
                self.$as().below(tree)
            }

            fn below_mut<'t>(&self, tree: &'t mut Tree) -> Option<&'t mut Tree> {
                self.$as().below_mut(tree)
            }

            fn made<'t>(&self, tree: &'t mut Tree) -> &'t mut Tree {
                self.$as().made(tree)
            }
        }
    )*};
}

steps_like!(String: as_str, CompactString: as_str);

impl<S: Step + ?Sized> Step for &S {
    fn below<'t>(&self, tree: &'t Tree) -> Option<&'t Tree> {
        (**self).below(tree)
    }

    fn below_mut<'t>(&self, tree: &'t mut Tree) -> Option<&'t mut Tree> {
        (**self).below_mut(tree)
    }

    fn made<'t>(&self, tree: &'t mut Tree) -> &'t mut Tree {
        (**self).made(tree)
    }
}

/// Null where nothing is there.
impl<I: Step> Index<I> for Tree {
    type Output = Tree;

    fn index(&self, step: I) -> &Tree {
        step.below(self).unwrap_or(&NULL)
    }
}

/// # Panics
/// Where a key is used on what is neither an object nor null, or a position on what is no list that long.
impl<I: Step> IndexMut<I> for Tree {
    fn index_mut(&mut self, step: I) -> &mut Tree {
        step.made(self)
    }
}

#[cfg(test)]
mod tests;
