//! Elements of a field's path: how they compare, and their texts in `FieldsV1` and in messages.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use api::Tree;
use api::tree::CompactString;

use crate::fieldpath::Quoted;

/// A step from a value to one inside it. Elements sort as upstream writes them: fields, keys, values, indexes.
#[derive(Clone, Debug)]
pub enum Element {
    /// A member of an object.
    Field(CompactString),
    /// An item of a list by its keys, which are sorted by name.
    Key(Box<[(CompactString, Tree)]>),
    /// An item of a set.
    Value(Box<Tree>),
    /// An item by its place.
    Index(i64),
}

/// Why a member of `FieldsV1` is no element.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A sort of element that a later version may know. It is left out.
    Unknown,
    Malformed,
}

impl Element {
    pub fn field(name: &str) -> Element {
        Element::Field(CompactString::from(name))
    }

    /// Reads a member's name of `FieldsV1`.
    pub(super) fn parse(text: &str) -> Result<Element, Unreadable> {
        let (sort, rest) = text.as_bytes().split_at_checked(2).ok_or(Unreadable::Malformed)?;
        if sort[1] != b':' {
            return Err(Unreadable::Malformed);
        }
        // The two bytes are ASCII where the sort is known.
        let rest = || std::str::from_utf8(rest).map_err(|_| Unreadable::Malformed);
        match sort[0] {
            b'f' => Ok(Element::field(rest()?)),
            b'v' => {
                let value = serde_json::from_str(rest()?).map_err(|_| Unreadable::Malformed)?;
                Ok(Element::Value(Box::new(value)))
            }
            b'k' => match serde_json::from_str(rest()?) {
                Ok(Tree::Object(keys)) => Ok(Element::keys(keys.into_iter().collect())),
                Ok(Tree::Null) => Ok(Element::keys(Vec::new())),
                _ => Err(Unreadable::Malformed),
            },
            b'i' => rest()?.parse().map(Element::Index).map_err(|_| Unreadable::Malformed),
            _ => Err(Unreadable::Unknown),
        }
    }

    pub(super) fn keys(mut keys: Vec<(CompactString, Tree)>) -> Element {
        keys.sort_by(|(one, _), (other, _)| one.cmp(other));
        Element::Key(keys.into())
    }

    /// Appends the member's name in `FieldsV1`, before it is quoted.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Element::Field(name) => {
                out.extend_from_slice(b"f:");
                out.extend_from_slice(name.as_bytes());
            }
            Element::Key(keys) => {
                out.extend_from_slice(b"k:{");
                for (index, (name, value)) in keys.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    super::text::write_string(name.as_bytes(), out);
                    out.push(b':');
                    api::json::write(value, out);
                }
                out.push(b'}');
            }
            Element::Value(value) => {
                out.extend_from_slice(b"v:");
                api::json::write(value, out);
            }
            Element::Index(index) => {
                out.extend_from_slice(b"i:");
                out.extend_from_slice(index.to_string().as_bytes());
            }
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        super::work::count(1);
        match (self, other) {
            (Element::Field(one), Element::Field(other)) => one.cmp(other),
            (Element::Key(one), Element::Key(other)) => {
                let [one, other] = [one, other].map(|keys| keys.iter().map(|(name, value)| (name, value)));
                compare_members(one, other)
            }
            (Element::Value(one), Element::Value(other)) => compare_values(one, other),
            (Element::Index(one), Element::Index(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Element {
    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

fn compare_members<'v>(
    mut one: impl Iterator<Item = (&'v CompactString, &'v Tree)>,
    mut other: impl Iterator<Item = (&'v CompactString, &'v Tree)>,
) -> Ordering {
    loop {
        match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some((name, value)), Some((other_name, other_value))) => {
                let order = name.cmp(other_name).then_with(|| compare_values(value, other_value));
                if order.is_ne() {
                    return order;
                }
            }
        }
    }
}

/// Whether two values are written alike.
pub(super) fn equal(one: &Tree, other: &Tree) -> bool {
    #[cfg(test)]
    super::work::count(one.count());
    one == other
}

/// Whether two values are the same: whole numbers and floating-point ones by what they say.
pub(super) fn same(one: &Tree, other: &Tree) -> bool {
    if equal(one, other) {
        return true;
    }
    match (api::raw::opened(one), api::raw::opened(other)) {
        (None, None) => compare_values(one, other).is_eq(),
        (one_opened, other_opened) => {
            let (one, other) = (one_opened.as_ref().unwrap_or(one), other_opened.as_ref().unwrap_or(other));
            compare_values(one, other).is_eq()
        }
    }
}

/// A total order of values: numbers, texts, booleans, lists, objects, null.
fn compare_values(one: &Tree, other: &Tree) -> Ordering {
    let rank = |value: &Tree| match value {
        Tree::Number(_) => 0,
        Tree::String(_) => 1,
        Tree::Bool(_) => 2,
        Tree::Array(_) => 3,
        Tree::Object(_) => 4,
        Tree::Null => 5,
    };
    match (one, other) {
        (Tree::Number(one), Tree::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => {
                let (one, other) = (one.as_f64().unwrap_or_default(), other.as_f64().unwrap_or_default());
                one.partial_cmp(&other).unwrap_or(Ordering::Equal)
            }
        },
        (Tree::String(one), Tree::String(other)) => one.cmp(other),
        (Tree::Bool(one), Tree::Bool(other)) => one.cmp(other),
        (Tree::Array(one), Tree::Array(other)) => {
            let differing = one.iter().zip(other).map(|(one, other)| compare_values(one, other));
            differing.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Tree::Object(one), Tree::Object(other)) => {
            let [one, other] = [one, other].map(|object| {
                let mut members: Vec<_> = object.iter().collect();
                members.sort_by_key(|(name, _)| *name);
                members.into_iter()
            });
            compare_members(one, other)
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

/// Bytes of an element that a path shows. Names of fields and of what is in lists are far shorter.
const LONG: usize = 512;

impl Element {
    /// Its part of a path in messages, of which there may be many: a long one is cut.
    pub(super) fn in_path(&self) -> String {
        let mut text = self.to_string();
        if text.len() > LONG {
            text.truncate(text.floor_char_boundary(LONG));
            text.push('…');
        }
        text
    }
}

/// As messages show it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(keys) => {
                f.write_char('[')?;
                for (index, (name, value)) in keys.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", shown(value))?;
                }
                f.write_char(']')
            }
            Element::Value(value) => write!(f, "[={}]", shown(value)),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

fn shown(value: &Tree) -> Cow<'static, str> {
    match value {
        Tree::Null => "null".into(),
        Tree::String(text) => Quoted(text).to_string().into(),
        Tree::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")).into(),
        Tree::Object(members) => {
            let member = |(key, value): (&CompactString, &Tree)| format!("{key}={}", shown(value));
            members.iter().map(member).collect::<String>().into()
        }
        other => other.to_string().into(),
    }
}
