//! Defaults and validation as data over the model: every message has its rules, and they hold wherever the message
//! occurs, so that a pod's are a template's too. One engine fills and one checks.

use std::collections::HashMap;
use std::sync::LazyLock;

use api::Tree;
use api::model::{Message, MessageRef, Shape, Type};
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;
use machinery::shape::{self, Visit};

use crate::tree::{Object, unset};

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
    /// This field is walked by a check of the message itself, by [`descend`].
    Own(&'static str),
    /// A check that comes when all below has been checked.
    After(fn(&Tree, &Path<'_>, &mut Vec<Cause>)),
    /// A check that needs thought.
    Check(fn(&Tree, &Path<'_>, &mut Vec<Cause>)),
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

struct Index {
    /// By message index.
    rules: Vec<Vec<&'static [Rule]>>,
    /// Whether the message or one below it has rules that validate.
    checked: Vec<bool>,
    /// Fields that are lists of resources.
    amounts: HashMap<u32, Vec<&'static str>>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut rules: Vec<Vec<&'static [Rule]>> = Vec::new();
    for (name, list) in crate::kinds::tables().flatten() {
        let Some(index) = api::tables::message_index(name) else {
            debug_assert!(false, "no message {name}");
            continue;
        };
        let index = index as usize;
        if rules.len() <= index {
            rules.resize_with(index + 1, Vec::new);
        }
        rules[index].push(list);
    }
    let mut checked: Vec<Option<bool>> = Vec::new();
    for index in 0..rules.len() {
        below(index, &rules, &mut checked);
    }
    let checked = checked.into_iter().map(|value| value.unwrap_or(false)).collect();
    Index { rules, checked, amounts: amounts() }
});

/// Lists of resources of the first group alone: others are not rounded.
fn amounts() -> HashMap<u32, Vec<&'static str>> {
    let messages = (0..).zip(api::tables::messages());
    let of_message = |(index, message): (u32, &'static Message)| {
        let lists = message.fields.iter().filter(|field| field.go_type == "|v1.ResourceList");
        let names: Vec<&'static str> = lists.map(|field| field.json.as_ref()).collect();
        (!names.is_empty()).then_some((index, names))
    };
    let of_group = |message: &Message| message.name.starts_with("k8s.io.api.core.v1.");
    messages.filter(|(_, message)| of_group(message)).filter_map(of_message).collect()
}

/// Whether a quantity may be finer than a thousandth, by its spelling.
fn fine(text: &str) -> bool {
    text.ends_with(['n', 'u']) || text.contains(['.', 'e', 'E'])
}

fn validates(rule: &Rule) -> bool {
    !matches!(rule, Rule::Default(..) | Rule::DefaultFn(_) | Rule::Before(_) | Rule::Own(_))
}

fn below(index: usize, rules: &[Vec<&'static [Rule]>], checked: &mut Vec<Option<bool>>) -> bool {
    if checked.len() <= index {
        checked.resize(index + 1, None);
    }
    if let Some(known) = checked[index] {
        return known;
    }
    let own = rules.get(index).is_some_and(|lists| lists.iter().any(|list| list.iter().any(validates)));
    // Recursive messages see their own rules meanwhile.
    checked[index] = Some(own);
    let mut result = own;
    for field in &*api::tables::messages()[index].fields {
        if let Type::Message(inner) = field.ty {
            result |= below(inner as usize, rules, checked);
        }
    }
    checked[index] = Some(result);
    result
}

fn rules_of(message: MessageRef<'_>) -> impl Iterator<Item = &'static Rule> {
    INDEX.rules.get(message.index as usize).into_iter().flatten().flat_map(|list| list.iter())
}

struct Defaults;

impl Visit for Defaults {
    fn message(&mut self, message: MessageRef<'_>, object: &mut Object) {
        for rule in rules_of(message) {
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
                _ => {}
            }
        }
        for list in INDEX.amounts.get(&message.index).into_iter().flatten() {
            let amounts = object.get_mut(list).and_then(Tree::as_object_mut);
            for amount in amounts.into_iter().flat_map(|amounts| amounts.values_mut()) {
                let text = match amount {
                    Tree::String(text) if fine(text) => api::quantity::trimmed(text).to_owned(),
                    Tree::Number(number) if !number.is_i64() => number.to_string(),
                    _ => continue,
                };
                if let Ok(rounded) = api::quantity::canonical_milli(&text) {
                    *amount = Tree::from(rounded);
                }
            }
        }
    }
}

/// Fills what is unset and brings the tree into the model's shape.
pub fn default(tree: &mut Tree, message: MessageRef<'_>) {
    shape::normalize_with(tree, message, &mut Defaults);
}

/// Checks a tree against the rules of its message and of all below it. `skip` names fields of the outermost
/// message that are not looked at.
pub fn validate(tree: &Tree, message: MessageRef<'_>, skip: &[&str], errors: &mut Vec<Cause>) {
    walk(tree, message, &Path::root(), skip, errors);
}

/// Checks a part of an object by the rules of its message.
pub fn descend(tree: &Tree, message: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(message) = api::tables::message(message) {
        walk(tree, message, path, &[], errors);
    }
}

fn walk(tree: &Tree, message: MessageRef<'_>, path: &Path<'_>, skip: &[&str], errors: &mut Vec<Cause>) {
    if is_full(errors) || !INDEX.checked.get(message.index as usize).copied().unwrap_or(false) {
        return;
    }
    for rule in rules_of(message) {
        check(rule, tree, path, errors);
    }
    let early = |field: &&api::model::Field| {
        rules_of(message).any(|rule| matches!(rule, Rule::Before(name) if *name == field.json))
    };
    let fields = message.fields();
    for field in fields.iter().filter(early).chain(fields.iter().filter(|field| !early(field))) {
        let Type::Message(inner) = field.ty else { continue };
        let inner = message.at(inner);
        if field.json.is_empty() {
            walk(tree, inner, path, skip, errors);
            continue;
        }
        let own = |rule: &Rule| matches!(rule, Rule::Own(name) if *name == field.json);
        if skip.contains(&field.json.as_ref()) || rules_of(message).any(own) {
            continue;
        }
        let Some(value) = tree.get(field.json.as_ref()) else { continue };
        let at = path.field(&field.json);
        match (field.shape, value) {
            (_, Tree::Null) => {}
            (Shape::One, value) => walk(value, inner, &at, &[], errors),
            (Shape::List, Tree::Array(items)) => {
                items.iter().enumerate().for_each(|(i, item)| walk(item, inner, &at.index(i), &[], errors));
            }
            (Shape::Map, Tree::Object(map)) => {
                map.iter().for_each(|(key, item)| walk(item, inner, &at.key(key), &[], errors));
            }
            _ => {}
        }
    }
    for rule in rules_of(message) {
        if let Rule::After(check) = rule {
            check(tree, path, errors);
        }
    }
}

fn check(rule: &Rule, tree: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let text = |name: &str| tree.get(name).and_then(Tree::as_str).unwrap_or_default();
    let absent = |name: &str| tree.get(name).is_none_or(unset);
    match rule {
        Rule::Default(..) | Rule::DefaultFn(_) | Rule::Before(_) | Rule::After(_) | Rule::Own(_) => {}
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
