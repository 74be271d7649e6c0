//! Equality across types: values of types that cannot be compared are unequal, numbers are equal by value.

use super::keyed::Places;
use super::{List, Map, Outcome, Value};
use crate::decl::{DeclKind, ListSemantics};

impl<'v> Value<'v> {
    pub fn equals(&self, other: &Value<'v>) -> Outcome<bool> {
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(other)) => one == other,
            (Value::String(one), Value::String(other)) => one == other,
            (Value::Bytes(one), Value::Bytes(other)) => one == other,
            (Value::Timestamp(one), Value::Timestamp(other)) => one == other,
            (Value::Duration(one), Value::Duration(other)) => one == other,
            (Value::List(one), Value::List(other)) => return lists_are_equal(one, other),
            (Value::Map(one), Value::Map(other)) => return maps_are_equal(one, other),
            (Value::Optional(one), Value::Optional(other)) => match (one, other) {
                (None, None) => true,
                (Some(one), Some(other)) => return one.equals(other),
                _ => false,
            },
            (Value::Type(one), Value::Type(other)) => one.name() == other.name(),
            (Value::Extended(one), Value::Extended(other)) => one.equals(other),
            _ => self.compare_numbers(other).is_some_and(std::cmp::Ordering::is_eq),
        })
    }
}

fn lists_are_equal<'v>(one: &List<'v>, other: &List<'v>) -> Outcome<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    let semantics = one.semantics();
    if *semantics == ListSemantics::Atomic {
        for (one, other) in one.iter().zip(other.iter()) {
            if !one?.equals(&other?)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let items = one.to_vec()?;
    let places = Places::of(&items, semantics)?;
    for item in other.iter() {
        let item = item?;
        match places.find(&items, &item, semantics)? {
            Some(at) if items[at].equals(&item)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn maps_are_equal<'v>(one: &Map<'v>, other: &Map<'v>) -> Outcome<bool> {
    if let (Map::Tree { object, declared: Some(declared) }, Map::Tree { object: other_object, .. }) =
        (one, other)
        && let DeclKind::Object(fields) = &declared.kind
    {
        if object.len() != other_object.len() {
            return Ok(false);
        }
        // What expressions cannot see counts too.
        let visible = |key: &str| fields.fields.values().any(|field| &*field.json == key);
        let hidden_is_equal = object
            .iter()
            .filter(|(key, _)| !visible(key))
            .all(|(key, value)| other_object.get(key).is_none_or(|other| other == value));
        if !hidden_is_equal {
            return Ok(false);
        }
        for identifier in fields.fields.keys() {
            let same = match (one.get_str(identifier)?, other.get_str(identifier)?) {
                (Some(one), Some(other)) => one.equals(&other)?,
                (None, None) => true,
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if let (Map::Struct(one), Map::Struct(other)) = (one, other)
        && one.of != other.of
    {
        return Ok(false);
    }
    if one.len() != other.len() {
        return Ok(false);
    }
    for (key, value) in one.entries()? {
        match other.get(&key)? {
            Some(other) if value.equals(&other)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}
