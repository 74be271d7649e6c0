//! Values of objects, and objects of values.

use api::Tree;
use api::tree::Object;

use super::{List, Map, Outcome, Timestamp, Value};
use crate::decl::{DeclKind, DeclType, ListSemantics};
use crate::error::EvalError;
use crate::text;

impl<'v> Value<'v> {
    /// The value of a part of an object, with its declared type where there is one.
    pub fn of_tree(tree: &'v Tree, declared: Option<&'v DeclType>) -> Outcome<Value<'v>> {
        match declared {
            None => Ok(dynamic(tree)),
            Some(declared) => typed(tree, declared),
        }
    }

    /// The value as JSON. Types without a JSON form are an error.
    pub fn to_tree(&self) -> Outcome<Tree> {
        Ok(match self {
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(*value),
            Value::Int(value) => Tree::Number((*value).into()),
            Value::Uint(value) => Tree::Number((*value).into()),
            Value::Double(value) => match api::tree::Number::from_f64(*value) {
                Some(number) => Tree::Number(number),
                None => return Err(EvalError::message("numbers without a finite value have no JSON form")),
            },
            Value::String(value) => Tree::String((**value).into()),
            Value::Bytes(bytes) => Tree::String(text::base64(bytes).into()),
            Value::Timestamp(at) => Tree::String(text::timestamp(*at).into()),
            Value::Duration(nanos) => Tree::String(text::duration(*nanos).into()),
            Value::List(list) => {
                let items: Outcome<Vec<Tree>> = list.iter().map(|item| item?.to_tree()).collect();
                Tree::Array(items?)
            }
            Value::Map(Map::Tree { object, .. }) => Tree::Object((*object).clone()),
            Value::Map(map) => {
                let mut object = Object::new();
                for (key, value) in map.entries()? {
                    object.insert(key.plain(), value.to_tree()?);
                }
                Tree::Object(object)
            }
            Value::Optional(Some(value)) => value.to_tree()?,
            Value::Optional(None) | Value::Type(_) | Value::Extended(_) => {
                let of = self.type_of();
                return Err(EvalError::message(format!("type conversion not supported for '{}'", of.name())));
            }
        })
    }
}

fn dynamic(tree: &Tree) -> Value<'_> {
    match tree {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(*value),
        Tree::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Value::Int(value),
            (None, value) => Value::Double(value.unwrap_or(f64::NAN)),
        },
        Tree::String(text) => Value::borrowed(text),
        Tree::Array(items) => {
            Value::List(List::Tree { items, element: None, semantics: &ListSemantics::Atomic })
        }
        Tree::Object(object) => Value::Map(Map::Tree { object, declared: None }),
    }
}

fn typed<'v>(tree: &'v Tree, declared: &'v DeclType) -> Outcome<Value<'v>> {
    let invalid = |expected: &str| {
        Err(EvalError::message(format!("invalid data, expected {expected}, got {}", tree.go_type())))
    };
    if tree.is_null() {
        return match declared.nullable {
            true => Ok(Value::Null),
            false => Err(EvalError::message("invalid data, got null for schema with nullable=false")),
        };
    }
    match (&declared.kind, tree) {
        (DeclKind::Dyn, tree) => Ok(dynamic(tree)),
        (DeclKind::Object(_) | DeclKind::Map(_), Tree::Object(object)) => {
            Ok(Value::Map(Map::Tree { object, declared: Some(declared) }))
        }
        (DeclKind::Object(_) | DeclKind::Map(_), _) => {
            Err(EvalError::message("invalid data, expected a map for the provided schema with type=object"))
        }
        (DeclKind::List { element, semantics }, Tree::Array(items)) => {
            Ok(Value::List(List::Tree { items, element: Some(element), semantics }))
        }
        (DeclKind::List { .. }, _) => {
            Err(EvalError::message("invalid data, expected an array for the provided schema with type=array"))
        }
        (DeclKind::Bool, Tree::Bool(value)) => Ok(Value::Bool(*value)),
        (DeclKind::Bool, _) => invalid("bool"),
        (DeclKind::Int, Tree::Number(number)) => match number.as_i64() {
            Some(value) => Ok(Value::Int(value)),
            None => invalid("int"),
        },
        (DeclKind::Int, _) => invalid("int"),
        (DeclKind::Double, Tree::Number(number)) => Ok(Value::Double(number.as_f64().unwrap_or(f64::NAN))),
        (DeclKind::Double, _) => invalid("float"),
        (kind, Tree::String(text)) => typed_text(text, kind),
        _ => invalid("string"),
    }
}

fn typed_text<'v>(text: &'v str, kind: &DeclKind) -> Outcome<Value<'v>> {
    match kind {
        DeclKind::Bytes => match text::parse_base64(text) {
            Some(bytes) => Ok(Value::Bytes(bytes.into())),
            None => Err(EvalError::message(format!("Invalid byte formatted string {text}"))),
        },
        DeclKind::Duration => match text::parse_schema_duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => Err(EvalError::message(format!(
                "Invalid duration {text}: unable to parse {text} as duration"
            ))),
        },
        DeclKind::Timestamp { date } => {
            let parsed = if *date { text::parse_date(text) } else { text::parse_schema_time(text) };
            match parsed {
                Some(Timestamp { seconds, nanos }) => Ok(Value::Timestamp(Timestamp { seconds, nanos })),
                None if *date => Err(EvalError::message(format!("Invalid date formatted string {text}"))),
                None => Err(EvalError::message(format!("Invalid date-time formatted string {text}"))),
            }
        }
        _ => Ok(Value::borrowed(text)),
    }
}
