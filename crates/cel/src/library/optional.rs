//! Optional values.

use super::{Context, Row, row, take};
use crate::error::EvalError;
use crate::value::{List, Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row("optional_none", "optional.none() -> optional_type(V)", none),
    row("optional_of", "optional.of(V) -> optional_type(V)", of),
    row("optional_ofNonZeroValue", "optional.ofNonZeroValue(V) -> optional_type(V)", of_non_zero),
    row("optional_hasValue", ".hasValue(optional_type(V)) -> bool", has_value),
    row("optional_value", ".value(optional_type(V)) -> V", value),
    row("optional_or_optional", ".or(optional_type(V), optional_type(V)) -> optional_type(V)", planned),
    row("optional_orValue_value", ".orValue(optional_type(V), V) -> V", planned),
    row("list_optindex_optional_int", "_[?_](list(V), int) -> optional_type(V)", planned),
    row(
        "optional_list_optindex_optional_int",
        "_[?_](optional_type(list(V)), int) -> optional_type(V)",
        planned,
    ),
    row("map_optindex_optional_value", "_[?_](map(K, V), K) -> optional_type(V)", planned),
    row(
        "optional_map_optindex_optional_value",
        "_[?_](optional_type(map(K, V)), K) -> optional_type(V)",
        planned,
    ),
    row("optional_list_index_int", "_[_](optional_type(list(V)), int) -> optional_type(V)", planned),
    row("optional_map_index_value", "_[_](optional_type(map(K, V)), K) -> optional_type(V)", planned),
    row("list_last", ".last(list(V)) -> optional_type(V)", last),
    row("list_first", ".first(list(V)) -> optional_type(V)", first),
    row("optional_unwrap", "optional.unwrap(list(optional_type(V))) -> list(V)", unwrap),
    row("optional_unwrapOpt", ".unwrapOpt(list(optional_type(V))) -> list(V)", unwrap),
];

/// Operators that the planner gives nodes of their own; they are never called.
fn planned<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Err(super::mismatch(context.function, args))
}

fn none<'v>(_: &Context<'_>, _: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::NONE)
}

fn of<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [value] => Ok(Value::some(std::mem::replace(value, Value::Null))))
}

fn of_non_zero<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [value] => Ok(match value.is_zero() {
        true => Value::NONE,
        false => Value::some(std::mem::replace(value, Value::Null)),
    }))
}

fn has_value<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::Optional(value)] => Ok(Value::Bool(value.is_some())))
}

fn value<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::Optional(value)] => match value {
        Some(value) => Ok(value.as_ref().clone()),
        None => Err(EvalError::message("optional.none() dereference")),
    })
}

fn item_at<'v>(list: &List<'v>, at: Option<usize>) -> Outcome<Value<'v>> {
    match at {
        Some(at) if at < list.len() => Ok(Value::some(list.get(at)?)),
        _ => Ok(Value::NONE),
    }
}

fn first<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(list)] => item_at(list, Some(0)))
}

fn last<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(list)] => item_at(list, list.len().checked_sub(1)))
}

fn unwrap<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(list)] => {
        let mut values = Vec::with_capacity(list.len());
        for item in list.iter() {
            match item? {
                Value::Optional(Some(value)) => values.push(value.as_ref().clone()),
                Value::Optional(None) => {}
                other => {
                    let message = format!("value {} is not optional", other.plain());
                    return Err(EvalError::message(message));
                }
            }
        }
        Ok(Value::list(values))
    })
}
