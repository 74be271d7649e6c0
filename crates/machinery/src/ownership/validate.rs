//! Checks an applied configuration against its kind's type. The texts are upstream's.

use std::collections::BTreeSet;
use std::fmt;

use api::Tree;
use api::status::Cause;

use super::Element;
use super::conflict::MAX_BYTES;
use super::types::{Form, List, Map, Scalar, Type};
use crate::bounds;
use crate::fieldpath::Quoted;

/// Errors in a configuration, each with the path of the value. They end where no reader goes on.
#[derive(Clone, Debug, Default)]
pub struct Errors(Vec<Cause>);

impl Errors {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, Cause { field, message, .. }: &Cause| match &**field {
            "" => f.write_str(message),
            path => write!(f, "{path}: {message}"),
        };
        match &self.0[..] {
            [only] => write(f, only),
            many => {
                f.write_str("errors:")?;
                many.iter().try_for_each(|error| {
                    f.write_str("\n  ")?;
                    write(f, error)
                })
            }
        }
    }
}

/// Finds values that do not fit their types, fields that are not declared, and items that stand in a list twice.
pub fn validate(object: &Tree, ty: Type<'_>) -> Errors {
    let mut walk = Walk { path: String::new(), errors: Errors::default(), bytes: 0 };
    walk.value(object, ty);
    walk.errors
}

struct Walk {
    path: String,
    errors: Errors,
    /// Of the errors' texts.
    bytes: usize,
}

impl Walk {
    fn is_full(&self) -> bool {
        bounds::is_full(&self.errors.0) || self.bytes > MAX_BYTES
    }

    fn error(&mut self, message: String) {
        if self.is_full() {
            return;
        }
        self.bytes += self.path.len() + message.len();
        self.errors.0.push(Cause { reason: String::new(), message, field: self.path.clone() });
    }

    fn inside(&mut self, element: &Element, walk: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(&element.in_path());
        walk(self);
        self.path.truncate(length);
    }

    fn value(&mut self, value: &Tree, ty: Type<'_>) {
        if ty.is_open() || value.is_null() || self.is_full() {
            return;
        }
        match (ty, value) {
            (Type::Scalar(scalar), value) => self.scalar(value, scalar),
            (Type::List(list), Tree::Array(items)) => self.items(items, list, ty.form(value)),
            (Type::List(_), value) => self.error(format!("expected list, got &{{{}}}", shown(value))),
            (Type::Map(map), Tree::Object(members)) => self.members(members, map),
            (_, value) => self.error(format!("expected map, got &{{{}}}", shown(value))),
        }
    }

    fn scalar(&mut self, value: &Tree, scalar: Scalar) {
        let is_scalar = matches!(value, Tree::Number(_) | Tree::String(_) | Tree::Bool(_));
        match scalar {
            Scalar::Number if !value.is_number() => {
                self.error(format!("expected numeric (int or float), got {}", value.go_type()));
            }
            Scalar::Text if !value.is_string() => {
                let shown = syntax(value);
                self.error(format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"));
            }
            Scalar::Bool if !value.is_boolean() => {
                self.error(format!("expected boolean, got &{{{}}}", shown(value)));
            }
            Scalar::Untyped if !is_scalar => {
                self.error(format!("expected any scalar, got &{{{}}}", shown(value)));
            }
            _ => {}
        }
    }

    fn items(&mut self, items: &[Tree], list: List<'_>, form: Form<'_>) {
        let owned = matches!(form, Form::List(Some(_)));
        let mut seen = BTreeSet::new();
        for (place, item) in items.iter().enumerate() {
            let element = match owned {
                false => Ok(Element::Index(i64::try_from(place).unwrap_or(i64::MAX))),
                true => list.element(item),
            };
            let element = match element {
                Ok(element) => element,
                Err(error) => return self.error(format!("element {place}: {error}")),
            };
            if owned && seen.contains(&element) {
                self.error(format!("duplicate entries for key {}", element.in_path()));
            }
            self.inside(&element, |walk| walk.value(item, list.item()));
            seen.insert(element);
        }
    }

    fn members(&mut self, members: &api::tree::Object, map: Map<'_>) {
        for (key, value) in members {
            let element = Element::Field(key.clone());
            match map.member(key) {
                Some(ty) => self.inside(&element, |walk| walk.value(value, ty)),
                // The first of these ends the walk of the object.
                None => {
                    return self
                        .inside(&element, |walk| walk.error("field not declared in schema".to_owned()));
                }
            }
        }
    }
}

/// A number as `%v` prints it. One with a fraction has an exponent from a million on.
fn number(value: &Tree) -> String {
    if !value.is_f64() {
        return value.to_string();
    }
    let value = value.as_f64().unwrap_or_default();
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// As `%v` prints it.
fn shown(value: &Tree) -> String {
    match value {
        Tree::Null => "<nil>".to_owned(),
        Tree::Number(_) => number(value),
        Tree::String(text) => text.to_string(),
        Tree::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Tree::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.as_str());
            let members: Vec<_> =
                members.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        Tree::Bool(value) => value.to_string(),
    }
}

/// As `%#v` prints it.
fn syntax(value: &Tree) -> String {
    match value {
        Tree::Null => "interface {}(nil)".to_owned(),
        Tree::String(text) => Quoted(text).to_string(),
        Tree::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(syntax).collect::<Vec<_>>().join(", "))
        }
        Tree::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.as_str());
            let member = |(key, value): &(&api::tree::CompactString, &Tree)| {
                format!("{}:{}", Quoted(key), syntax(value))
            };
            let members: Vec<_> = members.iter().map(member).collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        other => shown(other),
    }
}
