//! What the published types declare of their values, checked for every kind alike: the tags of `declared.txt` (generated,
//! see `xtask codegen`). What a kind's own rules find is reported first, then what is found here; the rules of `kinds` leave
//! out what is declared, but for what they find where the look at a field ended early.
//!
//! An update looks only at what it changes: a field, or an item of a list that has keys, that is what it was passes.
//! Metadata is not looked at, its rules are tried out upstream and not shown.

mod formats;
mod table;

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use api::Tree;
use api::model::{Field, MessageRef, Shape, Type};
use api::status::{Cause, MAX_CAUSES};
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};

pub use formats::identifier;
use table::{Change, FieldRules, Keys, Member, Rules, Step, TABLE, What, Whole};

use crate::tree::{Alike, same, unset};

/// Features that are on, of those that declared rules ask for.
const ON: &[&str] = &["HPAScaleToZero"];

/// Whether a message or one below it declares anything.
static REACHED: LazyLock<Vec<bool>> = LazyLock::new(|| {
    let messages = api::tables::messages();
    let mut reached: Vec<bool> = (0..messages.len() as u32).map(|index| TABLE.contains_key(&index)).collect();
    // recursive messages: until nothing more is reached
    let mut changed = true;
    while changed {
        changed = false;
        for (index, message) in messages.iter().enumerate() {
            let below = |field: &Field| matches!(field.ty, Type::Message(inner) if reached[inner as usize]);
            if !reached[index] && message.fields.iter().any(below) {
                (reached[index], changed) = (true, true);
            }
        }
    }
    reached
});

/// A value, what it was, and whether that is known: of a new item of a list it is not.
#[derive(Clone, Copy)]
struct Pair<'t> {
    new: &'t Tree,
    old: Option<&'t Tree>,
    update: bool,
}

static NULL: Tree = Tree::Null;

impl<'t> Pair<'t> {
    fn field(self, name: &str) -> Pair<'t> {
        let of = |tree: &'t Tree| tree.get(name).unwrap_or(&NULL);
        Pair { new: of(self.new), old: self.old.map(of), ..self }
    }

    fn is_as_it_was(self) -> bool {
        self.update && self.old.is_some_and(|old| same(self.new, old))
    }
}

/// Checks what is declared of an object, new or changed. Where it says what one of the errors says already, that one goes.
pub fn validate(object: &Tree, old: Option<&Tree>, message: MessageRef<'_>, errors: &mut Vec<Cause>) {
    let pair = Pair { new: object, old, update: old.is_some() };
    let mut found = Vec::new();
    walk(pair, message, &Path::root(), &mut found);
    let said: HashSet<_> = found.iter().map(subject).collect();
    errors.retain(|own| !said.contains(&subject(own)));
    found.truncate(MAX_CAUSES.saturating_sub(errors.len()));
    errors.append(&mut found);
}

/// What an error is about, beyond its words: two rules of one format or one limit word it differently.
fn subject(cause: &Cause) -> (&str, &str, &str) {
    const IMMUTABLE: [&str; 2] = ["field is immutable", "cannot be modified once set"];
    const FORMAT: [&str; 5] =
        ["RFC 1123", "must not contain dots", "must be no more than", "name part ", "prefix part "];
    let has = |parts: &[&str]| parts.iter().any(|part| cause.message.contains(part));
    let about = match cause.reason.as_str() {
        "FieldValueInvalid" if has(&IMMUTABLE) => "immutable",
        "FieldValueInvalid" if has(&FORMAT) => "format",
        "FieldValueInvalid" => cause.message.as_str(),
        _ => "",
    };
    (&cause.field, &cause.reason, about)
}

fn walk(pair: Pair<'_>, message: MessageRef<'_>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if is_full(errors) || !REACHED.get(message.index as usize).copied().unwrap_or(false) {
        return;
    }
    let rules = TABLE.get(&message.index);
    for whole in rules.iter().flat_map(|rules| &rules.whole) {
        together(whole, message, pair, path, errors);
    }
    for field in message.fields() {
        let inner = match field.ty {
            Type::Message(inner) => Some(message.at(inner)).filter(|inner| REACHED[inner.index as usize]),
            _ => None,
        };
        let name = field.json.as_ref();
        if name.is_empty() {
            if let Some(inner) = inner {
                walk(pair, inner, path, errors);
            }
            continue;
        }
        let own = rules.and_then(|rules: &Rules| rules.fields.get(name));
        if (own.is_none() && inner.is_none()) || own.is_some_and(|own| own.opaque) {
            continue;
        }
        let pair = pair.field(name);
        if !pair.is_as_it_was() {
            one(own, field, inner, pair, &path.field(name), errors);
        }
    }
}

fn one(
    own: Option<&FieldRules>,
    field: &Field,
    inner: Option<MessageRef<'_>>,
    pair: Pair<'_>,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    let place = Place { field, path, keys: own.map_or(&Keys::None, |own| &own.keys) };
    let (ends, rest): (Vec<&Step>, Vec<&Step>) =
        own.into_iter().flat_map(|own| &own.steps).partition(|step| step.what.ends());
    let mut end = false;
    for step in ends {
        end |= place.look(step, pair, errors);
    }
    if end {
        return;
    }
    for step in rest.into_iter().chain(own.into_iter().flat_map(|own| &own.of_type)) {
        place.look(step, pair, errors);
    }
    let Some(inner) = inner else { return };
    match (field.shape, pair.new) {
        (_, Tree::Null) => {}
        (Shape::One, _) => walk(pair, inner, path, errors),
        (Shape::List, Tree::Array(_)) => {
            place.items(pair, errors, |item, at, errors| walk(item, inner, at, errors))
        }
        (Shape::Map, Tree::Object(map)) => {
            for (key, value) in map {
                let old = pair.old.and_then(|old| old.get(key));
                let item = Pair { new: value, old, ..pair };
                if !item.is_as_it_was() {
                    walk(item, inner, &path.key(key), errors);
                }
            }
        }
        _ => {}
    }
}

/// A field where it is.
struct Place<'a> {
    field: &'a Field,
    path: &'a Path<'a>,
    keys: &'a Keys,
}

/// The values of an item's keys, to be a key of maps.
struct Key<'t>(&'t Tree, &'t Keys);

impl Key<'_> {
    fn parts(&self) -> Vec<&Tree> {
        match self.1 {
            Keys::Fields(fields) => fields.iter().map(|field| self.0.get(field).unwrap_or(&NULL)).collect(),
            _ => vec![self.0],
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.parts().into_iter().zip(other.parts()).all(|(a, b)| same(a, b) || (unset(a) && unset(b)))
    }
}

impl Eq for Key<'_> {}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for part in self.parts().into_iter().filter(|part| !unset(part)) {
            Alike(part).hash(state);
        }
    }
}

impl Place<'_> {
    /// A pointer is absent where it is null, anything else where it has its zero value.
    fn absent(&self, value: &Tree) -> bool {
        if self.field.optional && self.field.shape == Shape::One { value.is_null() } else { unset(value) }
    }

    /// Reports what is wrong, if it is for anyone to read. Whether anything is.
    fn look(&self, step: &Step, pair: Pair<'_>, errors: &mut Vec<Cause>) -> bool {
        let mut found = Vec::new();
        let wrong = self.check(&step.what, pair, &mut found);
        if !step.shadow {
            errors.append(&mut found);
        }
        wrong
    }

    fn check(&self, what: &What, pair: Pair<'_>, errors: &mut Vec<Cause>) -> bool {
        let (path, before) = (self.path, errors.len());
        let (value, text) = (pair.new, pair.new.as_str());
        match what {
            What::Optional => return self.absent(value),
            What::Required if self.absent(value) => errors.push(path.required("")),
            What::Forbidden if !self.absent(value) => errors.push(path.forbidden("")),
            What::Required | What::Forbidden => {}
            What::Immutable if pair.update => errors.push(path.invalid(Shown::Null, "field is immutable")),
            What::Immutable => {}
            What::Update(change) => self.change(*change, pair, errors),
            What::MaxItems(most) => {
                if let Some(count) = value.as_array().map(Vec::len).filter(|count| count > most) {
                    errors.push(path.too_many(count, *most));
                }
            }
            What::MaxBytes(most) if text.is_some_and(|text| text.len() > *most) => {
                errors.push(path.too_long(*most));
            }
            What::MaxLength(most) if text.is_some_and(|text| text.chars().count() > *most) => {
                errors.push(path.too_long_characters(*most));
            }
            What::MaxBytes(_) | What::MaxLength(_) => {}
            What::Minimum(least) => {
                if let Some(number) = self.number(value).filter(|number| number < least) {
                    errors.push(path.invalid(number, &format!("must be greater than or equal to {least}")));
                }
            }
            What::Maximum(most) => {
                if let Some(number) = self.number(value).filter(|number| number > most) {
                    errors.push(path.invalid(number, &format!("must be less than or equal to {most}")));
                }
            }
            What::Monotonic => {
                let old = pair.old.and_then(|old| self.number(old));
                if let (Some(new), Some(old)) = (self.number(value), old)
                    && new < old
                {
                    errors.push(path.invalid(new, &format!("may not be decreased from {old}")));
                }
            }
            What::Format(format) => {
                if let Some(text) = self.text(value) {
                    format(text, path, errors);
                }
            }
            What::OneOf(values) => {
                if let Some(text) = self.text(value).filter(|text| !values.contains(text)) {
                    errors.push(path.not_supported(text, values));
                }
            }
            What::Unique => self.unique(value, errors),
            What::EachValue(what) => self.items(pair, errors, |item, at, errors| {
                let field = Field { shape: Shape::One, optional: false, ..self.field.clone() };
                Place { field: &field, path: at, keys: &Keys::None }.check(what, item, errors);
            }),
            What::EachKey(what) => {
                let known = |key: &str| pair.update && pair.old.is_some_and(|old| old.get(key).is_some());
                for (key, _) in value.as_object().into_iter().flatten().filter(|(key, _)| !known(key)) {
                    let (field, key) = (Field::default(), Tree::from(key.as_str()));
                    let item = Pair { new: &key, old: None, ..pair };
                    Place { field: &field, path, keys: &Keys::None }.check(what, item, errors);
                }
            }
            What::Subfield(name, what) => {
                let item = pair.field(name);
                if item.is_as_it_was() {
                    return false;
                }
                let field = Field::default();
                let place = Place { field: &field, path: &path.field(name), keys: &Keys::None };
                return place.check(what, item, errors);
            }
            What::If(feature, on, what) => {
                if ON.contains(feature) == *on {
                    return self.check(what, pair, errors);
                }
            }
        }
        errors.len() > before
    }

    fn number(&self, value: &Tree) -> Option<i64> {
        if value.is_null() && !self.field.optional { Some(0) } else { value.as_i64() }
    }

    fn text<'t>(&self, value: &'t Tree) -> Option<&'t str> {
        if value.is_null() && !self.field.optional { Some("") } else { value.as_str() }
    }

    fn change(&self, change: Change, pair: Pair<'_>, errors: &mut Vec<Cause>) {
        let Some(old) = pair.old.filter(|_| pair.update) else { return };
        let (path, was, is) = (self.path, !self.absent(old), !self.absent(pair.new));
        let detail = match change {
            Change::Set if !was && is => "field cannot be set once created",
            Change::Unset if was && !is => "field cannot be cleared once set",
            Change::Modify if was && is && self.field.shape == Shape::One => {
                "field cannot be modified once set"
            }
            Change::AddItem => {
                let known = self.keyed(Some(old));
                for (index, item) in pair.new.as_array().into_iter().flatten().enumerate() {
                    if !known.contains_key(&Key(item, self.keys)) {
                        errors.push(path.index(index).forbidden("item may not be added"));
                    }
                }
                return;
            }
            Change::RemoveItem => {
                let known = self.keyed(Some(pair.new));
                for item in old.as_array().into_iter().flatten() {
                    if !known.contains_key(&Key(item, self.keys)) {
                        errors.push(path.forbidden("item may not be removed"));
                    }
                }
                return;
            }
            _ => return,
        };
        errors.push(path.invalid(Shown::Null, detail));
    }

    /// The items of a list by their keys, the first of each.
    fn keyed<'t>(&'t self, list: Option<&'t Tree>) -> HashMap<Key<'t>, &'t Tree> {
        let items = list.and_then(Tree::as_array).into_iter().flatten();
        items.rev().map(|item| (Key(item, self.keys), item)).collect()
    }

    fn unique(&self, list: &Tree, errors: &mut Vec<Cause>) {
        let mut seen = Seen::new();
        for (index, item) in list.as_array().into_iter().flatten().enumerate() {
            if is_full(errors) {
                break;
            }
            if seen.repeats(Key(item, self.keys)) {
                errors.push(self.path.index(index).duplicate(item));
            }
        }
    }

    /// The items of a list that are not as they were, each with what it was.
    fn items(
        &self,
        pair: Pair<'_>,
        errors: &mut Vec<Cause>,
        mut check: impl FnMut(Pair<'_>, &Path<'_>, &mut Vec<Cause>),
    ) {
        let known = if *self.keys == Keys::None { HashMap::new() } else { self.keyed(pair.old) };
        for (index, item) in pair.new.as_array().into_iter().flatten().enumerate() {
            if is_full(errors) {
                break;
            }
            let item = Pair { new: item, old: known.get(&Key(item, self.keys)).copied(), ..pair };
            if !item.is_as_it_was() {
                check(item, &self.path.index(index), errors);
            }
        }
    }
}

fn together(
    whole: &Whole,
    message: MessageRef<'_>,
    pair: Pair<'_>,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    let field = |name: &str| message.json_fields().find(|field| field.json == name);
    let is_set = |tree: &Tree, name: &str| {
        field(name).is_some_and(|field| {
            let place = Place { field, path, keys: &Keys::None };
            !place.absent(tree.get(name).unwrap_or(&NULL))
        })
    };
    match whole {
        Whole::Union { shadow: false, optional, members } => {
            // items are of one list, and reported there
            let list = members.first().and_then(|member| match member {
                Member::Item(list, ..) => Some(*list),
                Member::Field(_) => None,
            });
            let at = list.map(|list| path.field(list));
            union(*optional, members, &is_set, pair, at.as_ref().unwrap_or(path), errors);
        }
        Whole::Mode { shadow: false, field: name, mode, cases } => {
            let (value, chosen) = (pair.field(name), pair.field(mode));
            if (value.is_as_it_was() && chosen.is_as_it_was()) || field(name).is_none() {
                return;
            }
            let chosen = chosen.new.as_str().unwrap_or_default();
            let case = cases.iter().find(|(case, _)| *case == chosen).map(|(_, what)| what);
            let at = path.field(name);
            if let Some(field) = field(name) {
                let place = Place { field, path: &at, keys: &Keys::None };
                place.check(case.unwrap_or(&What::Forbidden), value, errors);
            }
        }
        Whole::Dependent { shadow: false, forbidden, trigger, other } => {
            let both = |tree: &Tree| (is_set(tree, trigger), is_set(tree, other));
            let now = both(pair.new);
            if pair.update && pair.old.is_some_and(|old| both(old) == now) {
                return;
            }
            match (now, forbidden) {
                ((true, true), true) => {
                    errors
                        .push(path.field(other).forbidden(&format!("may not be set when {trigger} is set")));
                }
                ((true, false), false) => {
                    errors.push(path.field(other).required(&format!("must be set when {trigger} is set")));
                }
                _ => {}
            }
        }
        _ => {}
    }
}

fn union(
    optional: bool,
    members: &[Member],
    is_set: &impl Fn(&Tree, &str) -> bool,
    pair: Pair<'_>,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    let has = |tree: &Tree, member: &Member| match member {
        Member::Field(name) => is_set(tree, name),
        Member::Item(list, key, value) => tree
            .get(list)
            .and_then(Tree::as_array)
            .into_iter()
            .flatten()
            .any(|item| item.get(key).and_then(Tree::as_str) == Some(value)),
    };
    let unchanged = |old: &Tree| members.iter().all(|member| has(pair.new, member) == has(old, member));
    if pair.update && pair.old.is_some_and(unchanged) {
        return;
    }
    let name = |member: &Member| match member {
        Member::Field(name) => (*name).to_owned(),
        Member::Item(list, key, value) => format!("{list}[{{\"{key}\": \"{value}\"}}]"),
    };
    let set: Vec<String> = members.iter().filter(|member| has(pair.new, member)).map(name).collect();
    let all: Vec<String> = members.iter().map(|member| format!("`{}`", name(member))).collect();
    let (set, all) = ((set.len(), format!("{{{}}}", set.join(", "))), all.join(", "));
    match (set.0, optional) {
        (1, _) | (0, true) => {}
        (0, false) => errors.push(path.invalid("", &format!("must specify one of: {all}"))),
        (_, true) => errors.push(path.invalid(&set.1, &format!("must specify at most one of: {all}"))),
        (_, false) => errors.push(path.invalid(&set.1, &format!("must specify exactly one of: {all}"))),
    }
}
