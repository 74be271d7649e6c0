//! Variables and what is selected from them.

use super::{Run, Slot};
use crate::error::EvalError;
use crate::plan::{Attribute, By, Node, Qualifier, Root};
use crate::value::{List, Map, Outcome, Value};

impl<'p, 'v> Run<'p, 'v> {
    /// An attribute as a step of its own, which costs one, unless it is a presence test or a conditional.
    pub(super) fn attribute(&mut self, attribute: &'p Attribute) -> Outcome<Value<'v>> {
        let value = self.resolve(attribute);
        if !attribute.test && !matches!(attribute.root, Root::Condition(_)) {
            self.charge(1)?;
        }
        value
    }

    /// An attribute as a part of another step, such as a branch of a conditional, which costs what is selected.
    fn resolve(&mut self, attribute: &'p Attribute) -> Outcome<Value<'v>> {
        let mut value = self.root(&attribute.root)?;
        if attribute.qualifiers.is_empty() {
            return Ok(value);
        }
        let mut optional = false;
        if let Value::Optional(inner) = &value {
            match inner {
                None if attribute.test => return Ok(Value::Bool(false)),
                None => return Ok(Value::NONE),
                Some(inner) => value = inner.as_ref().clone(),
            }
            optional = true;
        }
        let last = attribute.qualifiers.len() - 1;
        for (at, qualifier) in attribute.qualifiers.iter().enumerate() {
            optional |= qualifier.optional;
            if attribute.test && at == last {
                let found = self.find(&value, qualifier);
                self.charge(1)?;
                return Ok(Value::Bool(found?.is_some()));
            }
            value = match self.qualify(&value, qualifier, optional)? {
                Some(value) => value,
                None if attribute.test => return Ok(Value::Bool(false)),
                None => return Ok(Value::NONE),
            };
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    fn root(&mut self, root: &'p Root) -> Outcome<Value<'v>> {
        match root {
            Root::Variable(at) => match self.activation.values.get(*at) {
                Some(Some(value)) => Ok(value.clone()),
                _ => Err(EvalError::message(format!("no such attribute(s): {}", (self.names)(*at)))),
            },
            Root::Composed(name) => {
                self.charge(1)?;
                match self.activation.composed.iter().find(|(known, _)| known == name) {
                    Some((_, value)) => value.clone(),
                    None => Err(EvalError::Variable(name.clone())),
                }
            }
            Root::Local(at) => self.local(*at),
            Root::Taken(at) => {
                self.local_is_known(*at)?;
                match std::mem::replace(&mut self.locals[*at], Slot::Empty) {
                    Slot::Known(value) => value,
                    _ => Err(EvalError::message("accumulator is read twice")),
                }
            }
            Root::Node(node) => self.evaluate(node),
            Root::Condition(parts) => {
                let [condition, yes, no] = parts.as_ref();
                match self.evaluate(condition)? {
                    Value::Bool(true) => self.part(yes),
                    Value::Bool(false) => self.part(no),
                    _ => Err(EvalError::no_such_overload()),
                }
            }
        }
    }

    /// A node as a part of another step: attributes are not counted on their own.
    fn part(&mut self, node: &'p Node) -> Outcome<Value<'v>> {
        match node {
            Node::Attribute(attribute) => self.resolve(attribute),
            node => self.evaluate(node),
        }
    }

    fn local(&mut self, at: usize) -> Outcome<Value<'v>> {
        self.local_is_known(at)?;
        match &self.locals[at] {
            Slot::Known(value) => value.clone(),
            _ => Err(EvalError::message("no such attribute")),
        }
    }

    /// Computes an accumulator's first value when it is first read.
    fn local_is_known(&mut self, at: usize) -> Outcome<()> {
        if let Slot::Pending(start) = self.locals[at] {
            let value = self.evaluate(start);
            if let Err(error) = &value
                && error.is_final()
            {
                return Err(error.clone());
            }
            self.locals[at] = Slot::Known(value);
        }
        Ok(())
    }

    /// Selects from a value. With `optional`, what is absent is `None`, and costs nothing.
    fn qualify(
        &mut self,
        value: &Value<'v>,
        qualifier: &'p Qualifier,
        optional: bool,
    ) -> Outcome<Option<Value<'v>>> {
        let key = match &qualifier.by {
            By::Field(name) => {
                let found = self.find_field(value, name);
                if optional && matches!(found, Ok(None)) {
                    return Ok(None);
                }
                self.charge(1)?;
                return match found? {
                    Some(value) => Ok(Some(value)),
                    None => Err(EvalError::message(format!("no such key: {name}"))),
                };
            }
            By::Constant(key) => key.clone(),
            By::Computed(node) => match self.part(node) {
                Err(error) if !optional && !error.is_final() => {
                    self.charge(1)?;
                    return Err(error);
                }
                key => key?,
            },
        };
        let found = find_value(value, &key);
        match found {
            Ok(None) if optional => return Ok(None),
            Err(error) if optional && error == out_of_bounds(&key) => return Ok(None),
            Err(error) if optional => return Err(error),
            _ => self.charge(1)?,
        }
        match found? {
            Some(value) => Ok(Some(value)),
            None => Err(EvalError::no_such_key(&key)),
        }
    }

    fn find(&mut self, value: &Value<'v>, qualifier: &'p Qualifier) -> Outcome<Option<Value<'v>>> {
        match &qualifier.by {
            By::Field(name) => self.find_field(value, name),
            By::Constant(key) => find_value(value, key),
            By::Computed(node) => {
                let key = self.part(node)?;
                find_value(value, &key)
            }
        }
    }

    fn find_field(&self, value: &Value<'v>, name: &str) -> Outcome<Option<Value<'v>>> {
        match value {
            Value::Map(map) => map.get_str(name),
            Value::List(_) => Err(EvalError::message("unsupported index type 'string' in list")),
            Value::Optional(Some(value)) => self.find_field(value, name),
            _ => Ok(None),
        }
    }
}

/// What upstream's messages call the types of keys that no map can have.
fn native_type(key: &Value<'_>) -> String {
    match key {
        Value::Map(Map::Tree { .. }) => "map[string]interface {}".to_owned(),
        Value::List(List::Tree { .. }) => "[]interface {}".to_owned(),
        Value::Optional(_) => "*types.Optional".to_owned(),
        key => key.type_of().name().to_owned(),
    }
}

fn out_of_bounds(key: &Value<'_>) -> EvalError {
    EvalError::message(format!("index out of bounds: {}", key.plain()))
}

/// The value of a key or at a position; `None` where it is absent.
fn find_value<'v>(value: &Value<'v>, key: &Value<'v>) -> Outcome<Option<Value<'v>>> {
    if !matches!(key, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_)) {
        return Err(EvalError::message(format!("invalid qualifier type: {}", native_type(key))));
    }
    match value {
        Value::Map(map) => map.get(key),
        Value::List(list) => find_item(list, key),
        Value::Optional(Some(value)) => find_value(value, key),
        _ => Ok(None),
    }
}

fn find_item<'v>(list: &List<'v>, key: &Value<'v>) -> Outcome<Option<Value<'v>>> {
    let at = match key {
        Value::Int(at) => *at,
        Value::Uint(at) => i64::try_from(*at).unwrap_or(i64::MAX),
        Value::Double(at) if at.fract() == 0.0 => *at as i64,
        Value::Double(_) => {
            return Err(EvalError::message(format!("unsupported index value {} in list", key.plain())));
        }
        key => {
            let of = key.type_of();
            return Err(EvalError::message(format!("unsupported index type '{}' in list", of.name())));
        }
    };
    match usize::try_from(at).ok().filter(|at| *at < list.len()) {
        Some(at) => list.get(at).map(Some),
        None => Err(out_of_bounds(key)),
    }
}
