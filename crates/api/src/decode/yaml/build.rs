//! From the nodes of a document to a value: aliases are replaced by what they stand for, merged keys are put in place, and
//! keys become text.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::MAX_DEPTH;
use super::super::node::{Node, Span};
use super::Document;
use super::events::{Content, Item};
use super::scalar::{self, Value};

const MERGE: &str = "tag:yaml.org,2002:merge";

/// Repeated keys that are named, and about how long all their names may be; of more nothing is said.
const MAX_REPEATED: usize = 100;
const MAX_REPEATED_BYTES: usize = 64 << 10;
/// The text that aliases may stand for: as much as a whole body.
const MAX_ALIASED: usize = 3 << 20;

/// The value of a document that begins with the first node.
pub(super) fn document(items: &[Item]) -> Result<Document, String> {
    if items.is_empty() {
        return Ok(Document { node: Node::Null, repeated: Vec::new() });
    }
    let mut builder = Builder { items, ..Builder::default() };
    let built = builder.value(0).map_err(|error| format!("yaml: {error}"))?;
    Ok(Document { node: node(built)?, repeated: builder.repeated })
}

#[derive(Default)]
struct Builder<'i> {
    items: &'i [Item],
    /// Aliases that are being replaced.
    standing: Vec<usize>,
    repeated: Vec<String>,
    /// Bytes of those.
    repeated_bytes: usize,
    read: u64,
    aliased: u64,
    /// Bytes of text that stands for aliases.
    aliased_bytes: usize,
    /// Collections that are open, those that aliases stand for included.
    depth: usize,
}

/// A value whose keys still know what they are.
enum Built {
    Scalar(Value),
    Sequence(Vec<Built>),
    Mapping(Members),
}

#[derive(Default)]
struct Members {
    list: Vec<(Value, Built)>,
    places: HashMap<String, usize>,
}

impl Members {
    /// Where a key stands, if it does.
    fn place(&self, key: &Value) -> Option<usize> {
        self.places.get(&identity(key)).copied()
    }

    fn put(&mut self, key: Value, value: Built) {
        let identity = identity(&key);
        match self.places.get(&identity) {
            Some(place) => self.list[*place] = (key, value),
            None => {
                self.places.insert(identity, self.list.len());
                self.list.push((key, value));
            }
        }
    }
}

/// Text that is the same for two keys of which one replaces the other.
fn identity(key: &Value) -> String {
    match key {
        Value::Text(text) => format!("\"{text}"),
        other => go_syntax(other),
    }
}

impl Builder<'_> {
    fn value(&mut self, place: usize) -> Result<Built, String> {
        self.count()?;
        match &self.items[place].content {
            Content::Scalar(scalar) => {
                if !self.standing.is_empty() {
                    self.aliased_bytes += scalar.text.len();
                }
                match self.aliased_bytes > MAX_ALIASED {
                    true => Err(excessive()),
                    false => scalar::resolved(scalar).map(Built::Scalar),
                }
            }
            Content::Sequence(members) => self.within(|builder| {
                members
                    .iter()
                    .map(|place| builder.value(*place))
                    .collect::<Result<_, _>>()
                    .map(Built::Sequence)
            }),
            Content::Mapping(_) => {
                let mut members = Members::default();
                self.mapping(place, &mut members)?;
                Ok(Built::Mapping(members))
            }
            Content::Alias(target, name) => self.replaced(place, name, |builder| builder.value(*target)),
        }
    }

    /// Refuses documents that are mostly aliases: a short one can stand for very much.
    fn count(&mut self) -> Result<(), String> {
        const FEW: f64 = 400_000.0;
        const MANY: f64 = 4_000_000.0;
        self.read += 1;
        self.aliased += u64::from(!self.standing.is_empty());
        let (read, aliased) = (self.read as f64, self.aliased as f64);
        let allowed = 0.99 - 0.89 * ((read - FEW) / (MANY - FEW)).clamp(0.0, 1.0);
        match self.aliased > 100 && self.read > 1000 && aliased / read > allowed {
            true => Err(excessive()),
            false => Ok(()),
        }
    }

    /// Reads what is in a collection.
    fn within<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth >= MAX_DEPTH {
            return Err("exceeded max depth of 10000".to_owned());
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn replaced<T>(
        &mut self,
        place: usize,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.standing.contains(&place) {
            return Err(format!("anchor '{name}' value contains itself"));
        }
        self.standing.push(place);
        let value = read(self);
        self.standing.pop();
        value
    }

    /// Adds the members of the mapping there.
    fn mapping(&mut self, place: usize, members: &mut Members) -> Result<(), String> {
        let Content::Mapping(places) = &self.items[place].content else { return Err(no_map()) };
        self.within(|builder| places.chunks_exact(2).try_for_each(|pair| builder.member(pair, members)))
    }

    fn member(&mut self, pair: &[usize], members: &mut Members) -> Result<(), String> {
        if is_merge(&self.items[pair[0]]) {
            return self.merge(pair[1], members);
        }
        let key = match self.value(pair[0])? {
            Built::Scalar(key) => key,
            other => return Err(format!("invalid map key: {}", shown(&other))),
        };
        let value = self.value(pair[1])?;
        let is_named = self.repeated.len() < MAX_REPEATED && self.repeated_bytes < MAX_REPEATED_BYTES;
        if is_named && members.place(&key).is_some() {
            let line = self.items[pair[1]].line;
            let text = format!("line {line}: key {} already set in map", go_syntax(&key));
            self.repeated_bytes += text.len();
            self.repeated.push(text);
        }
        members.put(key, value);
        Ok(())
    }

    /// Adds the members of a mapping, of an alias of one, or of a list of these.
    fn merge(&mut self, place: usize, members: &mut Members) -> Result<(), String> {
        match &self.items[place].content {
            Content::Scalar(_) => Err(no_map()),
            // the earlier ones take precedence
            Content::Sequence(places) => {
                places.iter().rev().try_for_each(|place| self.merge_one(*place, members))
            }
            _ => self.merge_one(place, members),
        }
    }

    fn merge_one(&mut self, place: usize, members: &mut Members) -> Result<(), String> {
        self.count()?;
        match &self.items[place].content {
            Content::Mapping(_) => self.mapping(place, members),
            Content::Alias(target, name) => self.replaced(place, name, |builder| {
                builder.count()?;
                builder.mapping(*target, members)
            }),
            _ => Err(no_map()),
        }
    }
}

fn excessive() -> String {
    "document contains excessive aliasing".to_owned()
}

fn no_map() -> String {
    "map merge requires map or sequence of maps as the value".to_owned()
}

fn is_merge(item: &Item) -> bool {
    let Content::Scalar(scalar) = &item.content else { return false };
    scalar.text == "<<" && (scalar.is_plain || scalar.tag.as_deref() == Some(MERGE))
}

/// The value with text for keys. Upstream reads YAML by way of JSON that it writes in order of the keys.
fn node(built: Built) -> Result<Node<'static>, String> {
    match built {
        Built::Scalar(value) => match value {
            Value::Null => Ok(Node::Null),
            Value::Bool(value) => Ok(Node::Bool(value)),
            Value::Int(value) => Ok(Node::Number(Cow::Owned(value.to_string()))),
            Value::Unsigned(value) => Ok(Node::Number(Cow::Owned(value.to_string()))),
            Value::Float(value) => double(value),
            Value::Text(text) => Ok(Node::String(Cow::Owned(text))),
        },
        Built::Sequence(members) => members.into_iter().map(node).collect::<Result<_, _>>().map(Node::Array),
        Built::Mapping(members) => {
            let mut entries: Vec<(Cow<str>, _)> = Vec::with_capacity(members.list.len());
            for (key, value) in members.list {
                let key = match key {
                    Value::Text(text) => text,
                    Value::Bool(value) => value.to_string(),
                    Value::Int(value) => value.to_string(),
                    Value::Float(value) => float_key(value),
                    Value::Unsigned(_) | Value::Null => return Err(no_key(&key, &value)),
                };
                entries.push((Cow::Owned(key), node(value)?));
            }
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            entries.dedup_by(|(one, _), (other, _)| one == other);
            Ok(Node::Object(entries, Span::default()))
        }
    }
}

fn double(value: f64) -> Result<Node<'static>, String> {
    let unsupported = match value {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        value if value.is_nan() => "NaN",
        _ => {
            let mut text = Vec::new();
            crate::json::write_double(value, &mut text);
            return Ok(Node::Number(Cow::Owned(String::from_utf8_lossy(&text).into_owned())));
        }
    };
    Err(format!("json: unsupported value: {unsupported}"))
}

/// A number as a key: it has the digits of single precision.
fn float_key(value: f64) -> String {
    let value = value as f32;
    match value {
        f32::INFINITY => ".inf".to_owned(),
        f32::NEG_INFINITY => "-.inf".to_owned(),
        value if value.is_nan() => ".nan".to_owned(),
        value => general(&format!("{value:e}"), value.to_string()),
    }
}

/// Of a number with an exponent and one without, what Go prints: very small and large ones have exponents.
fn general(scientific: &str, fixed: String) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    match exponent {
        -4..=5 => fixed,
        ..-4 => format!("{mantissa}e-{:02}", -exponent),
        _ => format!("{mantissa}e+{exponent:02}"),
    }
}

fn no_key(key: &Value, value: &Built) -> String {
    let (kind, key) = match key {
        Value::Unsigned(number) => ("uint64", format!("{number:#x}")),
        _ => ("%!s(<nil>)", "<nil>".to_owned()),
    };
    format!("unsupported map key of type: {kind}, key: {key}, value: {}", shown(value))
}

/// A value in the syntax of Go.
fn shown(built: &Built) -> String {
    match built {
        Built::Scalar(value) => go_syntax(value),
        Built::Sequence(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Built::Mapping(members) => {
            let pair = |(key, value): &(Value, Built)| format!("{}:{}", go_syntax(key), shown(value));
            let mut pairs: Vec<String> = members.list.iter().map(pair).collect();
            pairs.sort();
            format!("map[interface {{}}]interface {{}}{{{}}}", pairs.join(", "))
        }
    }
}

fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Unsigned(value) => format!("{value:#x}"),
        Value::Float(value) => general(&format!("{value:e}"), value.to_string()),
        Value::Text(text) => format!("{text:?}"),
    }
}
