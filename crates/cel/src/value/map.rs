//! Maps: objects, maps of objects, and those that expressions make.

use std::collections::HashMap;
use std::sync::Arc;

use api::tree::Object;

use super::{Outcome, Text, Value};
use crate::decl::{DeclKind, DeclType};
use crate::types::Type;

#[derive(Clone, Debug)]
pub enum Map<'v> {
    /// Of an object, with its declared type where there is one.
    Tree {
        object: &'v Object,
        declared: Option<&'v DeclType>,
    },
    Table(Arc<Table<'v>>),
    /// A structure that an expression has made, such as `Object{…}`.
    Struct(Arc<StructValue<'v>>),
}

/// A structure made by an expression: its type and the fields that are set.
#[derive(Clone, Debug)]
pub struct StructValue<'v> {
    pub of: Arc<str>,
    pub fields: Vec<(Arc<str>, Value<'v>)>,
}

/// A map made by an expression.
#[derive(Clone, Debug, Default)]
pub struct Table<'v> {
    entries: Vec<(Value<'v>, Value<'v>)>,
    /// Keys come from clients: the tables' hashes must not be theirs to choose.
    texts: HashMap<Arc<str>, usize>,
    places: HashMap<Key, usize>,
    /// What a key is that the map does not have. `in` still says that it is missing.
    default: Option<Value<'v>>,
}

/// A key as maps compare them: numbers by value, whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Bool(bool),
    Number(i128),
    /// A number that is not whole, by its bits.
    Fraction(u64),
    String(Arc<str>),
    Null,
}

impl Key {
    /// `None` for what can be no key.
    pub fn of(value: &Value<'_>) -> Option<Key> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Number((*value).into()),
            Value::Uint(value) => Key::Number((*value).into()),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e19 => Key::Number(*value as i128),
            Value::Double(value) => Key::Fraction(value.to_bits()),
            Value::Null => Key::Null,
            Value::String(Text::Shared(text)) => Key::String(text.clone()),
            Value::String(text) => Key::String(Arc::from(&**text)),
            _ => return None,
        })
    }
}

impl<'v> Table<'v> {
    /// Puts an entry into the map and returns the value that was there.
    pub fn insert(&mut self, key: Value<'v>, value: Value<'v>) -> Option<Value<'v>> {
        if let Some(at) = self.place(&key) {
            return Some(std::mem::replace(&mut self.entries[at].1, value));
        }
        let at = self.entries.len();
        match Key::of(&key)? {
            Key::String(text) => self.texts.insert(text, at),
            place => self.places.insert(place, at),
        };
        self.entries.push((key, value));
        None
    }

    /// Gives the value of keys that the map does not have.
    pub fn set_default(&mut self, value: Value<'v>) {
        self.default = Some(value);
    }

    fn place(&self, key: &Value<'_>) -> Option<usize> {
        match key {
            Value::String(text) => self.texts.get(&**text).copied(),
            key => self.places.get(&Key::of(key)?).copied(),
        }
    }

    pub fn get(&self, key: &Value<'_>) -> Option<&Value<'v>> {
        self.place(key).map(|at| &self.entries[at].1)
    }

    fn get_str(&self, key: &str) -> Option<&Value<'v>> {
        self.texts.get(key).map(|at| &self.entries[*at].1)
    }

    pub fn entries(&self) -> &[(Value<'v>, Value<'v>)] {
        &self.entries
    }
}

impl<'v> Map<'v> {
    pub fn table(table: Table<'v>) -> Map<'v> {
        Map::Table(Arc::new(table))
    }

    pub fn len(&self) -> usize {
        match self {
            Map::Tree { object, .. } => object.len(),
            Map::Table(table) => table.entries.len(),
            Map::Struct(value) => value.fields.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn type_of(&self) -> Type {
        match self {
            Map::Struct(value) => Type::Object(value.of.clone()),
            _ => Type::map(Type::Dyn, Type::Dyn),
        }
    }

    /// The value of a field, or of a string key.
    pub fn get_str(&self, key: &str) -> Outcome<Option<Value<'v>>> {
        match self {
            Map::Tree { object, declared: None } => {
                object.get(key).map(|value| Value::of_tree(value, None)).transpose()
            }
            Map::Tree { object, declared: Some(declared) } => match &declared.kind {
                DeclKind::Object(fields) => {
                    let Some(field) = fields.fields.get(key) else { return Ok(None) };
                    let value = object.get(&field.json).filter(|value| !value.is_null());
                    value.map(|value| Value::of_tree(value, Some(&field.of))).transpose()
                }
                _ => {
                    let element = declared.element().map(AsRef::as_ref);
                    object.get(key).map(|value| Value::of_tree(value, element)).transpose()
                }
            },
            Map::Table(table) => Ok(table.get_str(key).or(table.default.as_ref()).cloned()),
            Map::Struct(value) => {
                Ok(value.fields.iter().find(|(name, _)| **name == *key).map(|(_, value)| value.clone()))
            }
        }
    }

    /// The value of a field by its name in JSON.
    pub(super) fn get_json(&self, key: &str) -> Outcome<Option<Value<'v>>> {
        match crate::escape::escape(key) {
            Some(identifier) if matches!(self, Map::Tree { declared: Some(_), .. }) => {
                self.get_str(&identifier)
            }
            _ => self.get_str(key),
        }
    }

    /// The value of a key of any type.
    pub fn get(&self, key: &Value<'v>) -> Outcome<Option<Value<'v>>> {
        match (self, key) {
            (Map::Table(table), _) => Ok(table.get(key).or(table.default.as_ref()).cloned()),
            (_, Value::String(text)) => self.get_str(text),
            _ => Ok(None),
        }
    }

    /// Whether it has a key of any type.
    pub fn has(&self, key: &Value<'v>) -> Outcome<bool> {
        match self {
            Map::Table(table) => Ok(table.get(key).is_some()),
            _ => Ok(self.get(key)?.is_some()),
        }
    }

    /// All keys; of objects with declared types those that expressions see.
    pub fn keys(&self) -> Vec<Value<'v>> {
        match self {
            Map::Tree { object, declared } => {
                let fields = declared.and_then(|declared| match &declared.kind {
                    DeclKind::Object(object) => Some(object),
                    _ => None,
                });
                match fields {
                    None => object.iter().map(|(key, _)| Value::borrowed(key)).collect(),
                    Some(fields) => {
                        let visible =
                            fields.fields.iter().filter(|(_, field)| object.contains_key(&field.json));
                        visible.map(|(identifier, _)| Value::borrowed(identifier)).collect()
                    }
                }
            }
            Map::Table(table) => table.entries.iter().map(|(key, _)| key.clone()).collect(),
            Map::Struct(value) => value.fields.iter().map(|(name, _)| Value::text(name.clone())).collect(),
        }
    }

    /// Keys with their values. A field that is null is absent.
    pub fn entries(&self) -> Outcome<Vec<(Value<'v>, Value<'v>)>> {
        if let Map::Table(table) = self {
            return Ok(table.entries.clone());
        }
        let mut entries = Vec::with_capacity(self.len());
        for key in self.keys() {
            if let Some(value) = self.get(&key)? {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    pub(super) fn first(&self) -> Option<Outcome<(Value<'v>, Value<'v>)>> {
        let key = match self {
            Map::Tree { object, declared: None } => Value::borrowed(object.iter().next()?.0),
            _ => self.keys().into_iter().next()?,
        };
        match self.get(&key) {
            Ok(value) => value.map(|value| Ok((key, value))),
            Err(error) => Some(Err(error)),
        }
    }
}
