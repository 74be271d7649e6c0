//! Values of expressions. Those of objects borrow from the object: selecting a field copies nothing.

mod compare;
mod equal;
mod keyed;
mod list;
mod map;
mod tree;

use std::sync::Arc;

use crate::error::EvalError;
use crate::library::Extended;
use crate::types::Type;

pub use list::List;
pub use map::{Key, Map, StructValue, Table};

#[derive(Clone, Debug)]
pub enum Value<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'v>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// In nanoseconds.
    Duration(i64),
    List(List<'v>),
    Map(Map<'v>),
    Optional(Option<Arc<Value<'v>>>),
    Type(Type),
    /// A value of one of Kubernetes' libraries.
    Extended(Extended),
}

/// A string, borrowed from an object where possible.
#[derive(Clone, Debug)]
pub enum Text<'v> {
    Borrowed(&'v str),
    Shared(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

/// An instant of the years 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    /// Of the second, not negative.
    pub nanos: u32,
}

impl Timestamp {
    pub const MIN: i64 = -62_135_596_800;
    pub const MAX: i64 = 253_402_300_799;

    /// The instant, unless it is out of range.
    pub fn new(seconds: i64, nanos: u32) -> Option<Timestamp> {
        (Self::MIN..=Self::MAX).contains(&seconds).then_some(Timestamp { seconds, nanos })
    }
}

impl<'v> Value<'v> {
    /// A string of its own.
    pub fn text(text: impl Into<Arc<str>>) -> Value<'v> {
        Value::String(Text::Shared(text.into()))
    }

    /// A string that lives as long as what is evaluated.
    pub fn borrowed(text: &'v str) -> Value<'v> {
        Value::String(Text::Borrowed(text))
    }

    /// What the function `quantity` makes of the text; none where it is no quantity.
    pub fn quantity(text: &str) -> Option<Value<'v>> {
        Some(Value::Extended(Extended::Quantity(crate::library::quantity::Amount::parse(text).ok()?)))
    }

    /// What the function `semver` makes of the text; none where it is no version.
    pub fn semver(text: &str) -> Option<Value<'v>> {
        let version = crate::library::semver::parse(text).ok()?;
        Some(Value::Extended(Extended::Semver(Arc::new(version))))
    }

    pub fn list(items: Vec<Value<'v>>) -> Value<'v> {
        Value::List(List::Values(Arc::new(items)))
    }

    pub fn some(value: Value<'v>) -> Value<'v> {
        Value::Optional(Some(Arc::new(value)))
    }

    pub const NONE: Value<'static> = Value::Optional(None);

    /// What `type(x)` is.
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Duration(_) => Type::Duration,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(map) => map.type_of(),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(_) => Type::Type(None),
            Value::Extended(value) => value.type_of(),
        }
    }

    /// Characters of a string, bytes, items of a list, entries of a map; `None` for what has no size.
    pub fn size(&self) -> Option<u64> {
        Some(match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Extended(value) => return value.size(),
            _ => return None,
        })
    }

    /// Size as costs count it: one for what has none.
    pub(crate) fn cost_size(&self) -> u64 {
        match self {
            Value::Optional(Some(value)) => value.cost_size(),
            _ => self.size().unwrap_or(1),
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether an argument declared with this type takes the value. Containers are judged by their first element.
    pub(crate) fn fits(&self, declared: &Type) -> bool {
        match (declared, self) {
            (Type::Dyn | Type::Any | Type::Param(_), _)
            | (Type::Null, Value::Null)
            | (Type::Bool, Value::Bool(_))
            | (Type::Int, Value::Int(_))
            | (Type::Uint, Value::Uint(_))
            | (Type::Double, Value::Double(_))
            | (Type::String, Value::String(_))
            | (Type::Bytes, Value::Bytes(_))
            | (Type::Timestamp, Value::Timestamp(_))
            | (Type::Duration, Value::Duration(_))
            | (Type::Type(_), Value::Type(_)) => true,
            (Type::List(element), Value::List(list)) => {
                list.is_empty() || list.get(0).is_ok_and(|first| first.fits(element))
            }
            (Type::Map(types), Value::Map(map)) => match map.first() {
                None => true,
                Some(Ok((key, value))) => key.fits(&types.0) && value.fits(&types.1),
                Some(Err(_)) => false,
            },
            (Type::Opaque(..), Value::Optional(value)) => match (declared.optional_of(), value) {
                (Some(of), Some(value)) => value.fits(of),
                (of, _) => of.is_some(),
            },
            (Type::Object(_) | Type::Opaque(..), Value::Extended(value)) => {
                value.type_of().name() == declared.name()
            }
            (Type::Object(name), Value::Map(map)) => map.type_of().name() == &**name,
            _ => false,
        }
    }

    /// Whether the value is the zero value of its type, which `optional.ofNonZeroValue` makes absent.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::Duration(nanos) => *nanos == 0,
            Value::List(list) => list.is_empty(),
            Value::Map(map) => map.is_empty(),
            Value::Optional(value) => value.as_ref().is_none_or(|value| value.is_zero()),
            Value::Timestamp(at) => at.seconds == Timestamp::MIN && at.nanos == 0,
            Value::Type(_) | Value::Extended(_) => false,
        }
    }
}

/// An error of a value, of a program or of a function.
pub(crate) type Outcome<T> = Result<T, EvalError>;
