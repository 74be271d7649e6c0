//! Lists as sets.

use super::{Context, Row, row, take};
use crate::value::{List, Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row("list_sets_contains_list", "sets.contains(list(T), list(T)) -> bool", contains),
    row("list_sets_equivalent_list", "sets.equivalent(list(T), list(T)) -> bool", equivalent),
    row("list_sets_intersects_list", "sets.intersects(list(T), list(T)) -> bool", intersects),
];

fn contains_all<'v>(list: &List<'v>, items: &List<'v>) -> Outcome<bool> {
    for item in items.iter() {
        if !list.contains(&item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(list), Value::List(items)] => Ok(Value::Bool(contains_all(list, items)?)))
}

fn equivalent<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(one), Value::List(other)] => {
        Ok(Value::Bool(contains_all(one, other)? && contains_all(other, one)?))
    })
}

fn intersects<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(one), Value::List(other)] => {
        for item in one.iter() {
            if other.contains(&item?)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    })
}
