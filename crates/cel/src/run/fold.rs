//! Loops over lists and maps.

use super::{Run, Slot};
use crate::error::EvalError;
use crate::plan::FoldNode;
use crate::value::{Outcome, Value};

impl<'p, 'v> Run<'p, 'v> {
    pub(super) fn fold(&mut self, fold: &'p FoldNode) -> Outcome<Value<'v>> {
        let range = self.evaluate(&fold.range)?;
        self.locals[fold.accumulator] = Slot::Pending(&fold.start);
        let outcome = match (&range, fold.second) {
            (Value::List(list), second) => self.fold_items(fold, second, list.len(), |at| {
                let item = list.get(at);
                match second {
                    None => (item, Ok(Value::Null)),
                    Some(_) => (Ok(Value::Int(at as i64)), item),
                }
            }),
            (Value::Map(map), None) => {
                let keys = map.keys();
                self.fold_items(fold, None, keys.len(), |at| (Ok(keys[at].clone()), Ok(Value::Null)))
            }
            (Value::Map(map), second) => {
                let entries = map.entries()?;
                self.fold_items(fold, second, entries.len(), |at| {
                    let (key, value) = entries[at].clone();
                    (Ok(key), Ok(value))
                })
            }
            (other, None) => {
                Err(EvalError::message(format!("got '{}', expected iterable type", go_type(other))))
            }
            (other, Some(_)) => {
                Err(EvalError::message(format!("unsupported comprehension range type: {}", go_type(other))))
            }
        };
        outcome?;
        let result = self.evaluate(&fold.result);
        self.locals[fold.accumulator] = Slot::Empty;
        result
    }

    fn fold_items(
        &mut self,
        fold: &'p FoldNode,
        second: Option<usize>,
        count: usize,
        item: impl Fn(usize) -> (Outcome<Value<'v>>, Outcome<Value<'v>>),
    ) -> Outcome<()> {
        for at in 0..count {
            let (first, value) = item(at);
            self.locals[fold.variable] = Slot::Known(first);
            if let Some(second) = second {
                self.locals[second] = Slot::Known(value);
            }
            match self.evaluate(&fold.condition) {
                Ok(Value::Bool(false)) => break,
                Err(error) if error.is_final() => return Err(error),
                _ => {}
            }
            let step = self.evaluate(&fold.step);
            match step {
                Err(error) if error.is_final() => return Err(error),
                step => self.locals[fold.accumulator] = Slot::Known(step),
            }
        }
        Ok(())
    }
}

/// What upstream's messages call the types of values that cannot be gone through.
fn go_type(value: &Value<'_>) -> String {
    let name = match value {
        Value::Null => "Null",
        Value::Bool(_) => "Bool",
        Value::Int(_) => "Int",
        Value::Uint(_) => "Uint",
        Value::Double(_) => "Double",
        Value::String(_) => "String",
        Value::Bytes(_) => "Bytes",
        Value::Timestamp(_) => "Timestamp",
        Value::Duration(_) => "Duration",
        Value::Type(_) => return "*types.Type".to_owned(),
        Value::Optional(_) => return "*types.Optional".to_owned(),
        other => return other.type_of().name().to_owned(),
    };
    format!("types.{name}")
}
