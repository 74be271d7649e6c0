//! Defaults and validation as data over the model: every message has its rules, and they hold wherever the message
//! occurs, so that a pod's are a template's too. One engine fills, and one checks an object beside what it was.

pub(crate) mod beside;
mod set;

use std::panic::RefUnwindSafe;

use api::model::{MessageRef, Shape, Type};
use api::status::Cause;
use api::{Status, Tree};
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;
use machinery::shape::{self, Visit};

use crate::tree::{Object, same, unset};
use beside::Former;
pub use set::RuleSet;

/// One rule of a message. Fields are the message's own.
pub enum Rule {
    /// The value of a field that is unset (a pointer: absent).
    Default(&'static str, Literal),
    /// A default that needs thought.
    DefaultFn(fn(&mut Object)),
    Required(&'static str),
    /// Required, with a remark.
    RequiredBy(&'static str, &'static str),
    /// One of these values, in the order in which the message shows them, where it is set.
    OneOf(&'static str, &'static [&'static str]),
    /// As above, and it must be set.
    MustBeOneOf(&'static str, &'static [&'static str]),
    AtLeast(&'static str, i64),
    Between(&'static str, i64, i64),
    /// A string of a format, where it is set.
    Format(&'static str, fn(&str) -> Vec<String>),
    /// An associative list's key occurs once.
    Unique(&'static str, &'static str),
    /// This field's own rules come before those of the fields that precede it.
    Before(&'static str),
    /// This field is walked by a check of the message itself, by [`descend`]; without a name, what is inlined.
    Own(&'static str),
    /// A check that comes when all below has been checked.
    After(fn(&Tree, &Path<'_>, &mut Vec<Cause>)),
    /// A check that needs thought.
    Check(fn(&Tree, &Path<'_>, &mut Vec<Cause>)),
    /// The same, of nothing that an update leaves as it was.
    Ratcheted(fn(&Tree, &Path<'_>, &mut Vec<Cause>)),
    /// A check of what an update makes of the message: the new one, and the old one of the same place.
    Update(fn(&Tree, &Tree, &Path<'_>, &mut Vec<Cause>)),
    /// An update does not change the field; what is said of an attempt.
    Immutable(&'static str, &'static str),
    /// Defaults and checks made at run time, of the message and of all below it.
    Schema(Box<dyn Schema>),
}

/// What a custom resource's schema says of an object.
pub trait Schema: Send + Sync + RefUnwindSafe {
    fn default(&self, object: &mut Object) -> Result<(), DefaultsTooLarge>;
    /// Checks the object, beside what it was where this is an update; `status`: of its status subresource.
    fn check(&self, tree: &Tree, old: Option<&Tree>, status: bool, errors: &mut Vec<Cause>);
}

pub enum Literal {
    Text(&'static str),
    Number(i64),
    Bool(bool),
    Json(&'static str),
}

impl Literal {
    fn tree(&self) -> Tree {
        match self {
            Literal::Text(text) => (*text).into(),
            Literal::Number(number) => (*number).into(),
            Literal::Bool(value) => (*value).into(),
            Literal::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

/// Rules by message name, as the modules of `kinds` declare them.
pub type Table = &'static [(&'static str, &'static [Rule])];

/// What would be set in an object is more than one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Request entity too large: defaults are limited to {limit} bytes", limit = DefaultsTooLarge::LIMIT)]
pub struct DefaultsTooLarge;

impl DefaultsTooLarge {
    /// As much as the body of a request.
    pub const LIMIT: usize = 3 << 20;
}

impl From<DefaultsTooLarge> for Status {
    fn from(error: DefaultsTooLarge) -> Status {
        Status::failure(413, "RequestEntityTooLarge", error.to_string())
    }
}

struct Defaults<'r> {
    rules: &'r RuleSet,
    outcome: Result<(), DefaultsTooLarge>,
}

impl Visit for Defaults<'_> {
    fn message(&mut self, message: MessageRef<'_>, object: &mut Object) {
        for rule in self.rules.of(message) {
            match rule {
                Rule::Default(name, literal) => {
                    let fields = message.fields();
                    let pointer = fields.iter().any(|field| field.json == *name && field.optional);
                    let vacant = object
                        .get(name)
                        .is_none_or(|value| if pointer { value.is_null() } else { unset(value) });
                    if vacant {
                        object.insert((*name).to_owned(), literal.tree());
                    }
                }
                Rule::DefaultFn(apply) => apply(object),
                Rule::Schema(schema) => self.outcome = self.outcome.and(schema.default(object)),
                _ => {}
            }
        }
        set::round_amounts(message, object);
    }
}

/// Fills what is unset and brings the tree into the model's shape.
pub fn default(tree: &mut Tree, message: MessageRef<'_>, rules: &RuleSet) -> Result<(), DefaultsTooLarge> {
    let mut defaults = Defaults { rules, outcome: Ok(()) };
    shape::normalize_with(tree, message, &mut defaults);
    defaults.outcome
}

/// Which of an object's rules hold.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// Fields of the outermost message that are not looked at.
    pub skip: &'s [&'s str],
    /// It is written by its status subresource.
    pub status: bool,
}

/// Checks a tree against the rules of its message and of all below it; an update beside what the object was.
pub fn validate(
    tree: &Tree,
    old: Option<&Tree>,
    message: MessageRef<'_>,
    rules: &RuleSet,
    scope: Scope<'_>,
    errors: &mut Vec<Cause>,
) {
    Walk { rules, status: scope.status, errors }.message(tree, old, message, &Path::root(), scope.skip);
}

/// Checks a part of an object by the rules of its message.
pub fn descend(tree: &Tree, message: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(message) = api::tables::message(message) {
        let rules = RuleSet::built_in();
        Walk { rules, status: false, errors }.message(tree, None, message, path, &[]);
    }
}

struct Walk<'w> {
    rules: &'w RuleSet,
    status: bool,
    errors: &'w mut Vec<Cause>,
}

impl Walk<'_> {
    fn message(
        &mut self,
        tree: &Tree,
        old: Option<&Tree>,
        message: MessageRef<'_>,
        path: &Path<'_>,
        skip: &[&str],
    ) {
        if is_full(self.errors) || !self.rules.validate(message) {
            return;
        }
        for rule in self.rules.of(message) {
            match rule {
                Rule::Schema(schema) => schema.check(tree, old, self.status, self.errors),
                rule => check(rule, tree, old, path, self.errors),
            }
        }
        let rules = self.rules;
        let early = |field: &&api::model::Field| {
            rules.of(message).any(|rule| matches!(rule, Rule::Before(name) if *name == field.json))
        };
        let fields = message.fields();
        for field in fields.iter().filter(early).chain(fields.iter().filter(|field| !early(field))) {
            let Type::Message(inner) = field.ty else { continue };
            let inner = message.at(inner);
            let own = |rule: &Rule| matches!(rule, Rule::Own(name) if *name == field.json);
            if rules.of(message).any(own) {
                continue;
            }
            if field.json.is_empty() {
                self.message(tree, old, inner, path, skip);
                continue;
            }
            if skip.contains(&field.json.as_ref()) {
                continue;
            }
            let Some(value) = tree.get(field.json.as_ref()) else { continue };
            let before = old.and_then(|old| old.get(field.json.as_ref()));
            let at = path.field(&field.json);
            match (field.shape, value) {
                (_, Tree::Null) => {}
                (Shape::One, value) => self.message(value, before, inner, &at, &[]),
                (Shape::List, Tree::Array(items)) if rules.validate(inner) => {
                    let former = Former::of(before, field);
                    for (index, item) in items.iter().enumerate() {
                        self.message(item, former.counterpart(item), inner, &at.index(index), &[]);
                    }
                }
                (Shape::Map, Tree::Object(map)) => {
                    for (key, item) in map {
                        let before = before.and_then(|before| before.get(key.as_str()));
                        self.message(item, before, inner, &at.key(key), &[]);
                    }
                }
                _ => {}
            }
        }
        for rule in self.rules.of(message) {
            if let Rule::After(check) = rule {
                check(tree, path, self.errors);
            }
        }
    }
}

fn check(rule: &Rule, tree: &Tree, old: Option<&Tree>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let text = |name: &str| tree.get(name).and_then(Tree::as_str).unwrap_or_default();
    let absent = |name: &str| tree.get(name).is_none_or(unset);
    match rule {
        Rule::Default(..)
        | Rule::DefaultFn(_)
        | Rule::Before(_)
        | Rule::After(_)
        | Rule::Own(_)
        | Rule::Schema(_) => {}
        Rule::Required(name) if absent(name) => errors.push(path.field(name).required("")),
        Rule::RequiredBy(name, detail) if absent(name) => errors.push(path.field(name).required(detail)),
        Rule::Required(_) | Rule::RequiredBy(..) => {}
        Rule::OneOf(name, values) => one_of(tree, name, values, path, errors),
        Rule::MustBeOneOf(name, values) if text(name).is_empty() => {
            let _ = values;
            errors.push(path.field(name).required(""));
        }
        Rule::MustBeOneOf(name, values) if !values.contains(&text(name)) => {
            errors.push(path.field(name).not_supported(text(name), values));
        }
        Rule::MustBeOneOf(..) => {}
        Rule::AtLeast(name, least) => {
            if let Some(value) = tree.get(*name).and_then(Tree::as_i64).filter(|value| value < least) {
                let detail = format!("must be greater than or equal to {least}");
                errors.push(path.field(name).invalid(value, &detail));
            }
        }
        Rule::Between(name, least, most) => {
            if let Some(value) = tree.get(*name).and_then(Tree::as_i64).filter(|v| v < least || v > most) {
                let detail = format!("must be between {least} and {most}, inclusive");
                errors.push(path.field(name).invalid(value, &detail));
            }
        }
        Rule::Format(name, format) => {
            if !text(name).is_empty() {
                errors.extend(
                    format(text(name)).iter().map(|problem| path.field(name).invalid(text(name), problem)),
                );
            }
        }
        Rule::Unique(name, key) => {
            let items = tree.get(*name).and_then(Tree::as_array).map(Vec::as_slice).unwrap_or_default();
            let list = path.field(name);
            let mut seen = Seen::new();
            for (index, item) in items.iter().enumerate() {
                if is_full(errors) {
                    break;
                }
                let Some(value) = item.get(*key) else { continue };
                if seen.repeats(value) {
                    errors.push(list.index(index).field(key).duplicate(value));
                }
            }
        }
        Rule::Check(check) => check(tree, path, errors),
        Rule::Ratcheted(_) if old.is_some_and(|old| same(tree, old)) => {}
        Rule::Ratcheted(check) => check(tree, path, errors),
        Rule::Update(check) => {
            if let Some(old) = old {
                check(tree, old, path, errors);
            }
        }
        Rule::Immutable(name, detail) => {
            let changed = |old: &Tree| !same(&tree[*name], &old[*name]);
            if old.is_some_and(changed) {
                errors.push(path.field(name).invalid(&tree[*name], detail));
            }
        }
    }
}

/// The string of a field that is there, empty or not: what a pointer holds.
pub fn given<'t>(tree: &'t Tree, field: &str) -> Option<&'t str> {
    tree.get(field).and_then(Tree::as_str)
}

/// One of the values, where the field is there at all.
pub fn one_of(tree: &Tree, field: &str, values: &[&str], path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(value) = given(tree, field).filter(|value| !values.contains(value)) {
        errors.push(path.field(field).not_supported(value, values));
    }
}

/// A string of a format, where the field is there at all.
pub fn formatted(
    tree: &Tree,
    field: &str,
    format: fn(&str) -> Vec<String>,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    if let Some(value) = given(tree, field) {
        errors.extend(format(value).iter().map(|problem| path.field(field).invalid(value, problem)));
    }
}

/// The complaint about a port's number, if any.
pub fn port(value: i64, path: &Path<'_>, errors: &mut Vec<Cause>) {
    errors.extend(names::port_number(value).map(|problem| path.invalid(value, problem)));
}

/// `must be greater than or equal to 0`.
pub fn not_negative(value: i64, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if value < 0 {
        errors.push(path.invalid(value, "must be greater than or equal to 0"));
    }
}

/// Every complaint of a format about a string.
pub fn format(value: &str, problems: Vec<String>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    errors.extend(problems.iter().map(|problem| path.invalid(value, problem)));
}

#[cfg(test)]
mod tests;
