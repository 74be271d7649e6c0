//! Functions of lists: Kubernetes' own, and those of the language's extension.

use std::cmp::Ordering;

use super::{Context, Row, row, take};
use crate::error::EvalError;
use crate::value::{List, Outcome, Value};

pub(crate) const KUBERNETES: &[Row] = &[
    row("list_int_is_sorted_bool", ".isSorted(list(int)) -> bool", is_sorted),
    row("list_uint_is_sorted_bool", ".isSorted(list(uint)) -> bool", is_sorted),
    row("list_double_is_sorted_bool", ".isSorted(list(double)) -> bool", is_sorted),
    row("list_bool_is_sorted_bool", ".isSorted(list(bool)) -> bool", is_sorted),
    row("list_duration_is_sorted_bool", ".isSorted(list(duration)) -> bool", is_sorted),
    row("list_timestamp_is_sorted_bool", ".isSorted(list(timestamp)) -> bool", is_sorted),
    row("list_string_is_sorted_bool", ".isSorted(list(string)) -> bool", is_sorted),
    row("list_bytes_is_sorted_bool", ".isSorted(list(bytes)) -> bool", is_sorted),
    row("list_int_sum_int", ".sum(list(int)) -> int", sum_int),
    row("list_uint_sum_uint", ".sum(list(uint)) -> uint", sum_uint),
    row("list_double_sum_double", ".sum(list(double)) -> double", sum_double),
    row("list_duration_sum_duration", ".sum(list(duration)) -> duration", sum_duration),
    row("list_int_max_int", ".max(list(int)) -> int", max),
    row("list_uint_max_uint", ".max(list(uint)) -> uint", max),
    row("list_double_max_double", ".max(list(double)) -> double", max),
    row("list_bool_max_bool", ".max(list(bool)) -> bool", max),
    row("list_duration_max_duration", ".max(list(duration)) -> duration", max),
    row("list_timestamp_max_timestamp", ".max(list(timestamp)) -> timestamp", max),
    row("list_string_max_string", ".max(list(string)) -> string", max),
    row("list_bytes_max_bytes", ".max(list(bytes)) -> bytes", max),
    row("list_int_min_int", ".min(list(int)) -> int", min),
    row("list_uint_min_uint", ".min(list(uint)) -> uint", min),
    row("list_double_min_double", ".min(list(double)) -> double", min),
    row("list_bool_min_bool", ".min(list(bool)) -> bool", min),
    row("list_duration_min_duration", ".min(list(duration)) -> duration", min),
    row("list_timestamp_min_timestamp", ".min(list(timestamp)) -> timestamp", min),
    row("list_string_min_string", ".min(list(string)) -> string", min),
    row("list_bytes_min_bytes", ".min(list(bytes)) -> bytes", min),
    row("list_a_index_of_int", ".indexOf(list(A), A) -> int", index_of),
    row("list_a_last_index_of_int", ".lastIndexOf(list(A), A) -> int", last_index_of),
];

pub(crate) const INCLUDES: &[Row] = &[row("list_includes_dyn_dyn", ".includes(dyn, dyn) -> bool", includes)];

pub(crate) const EXTENDED: &[Row] = &[
    row("list_slice", ".slice(list(T), int, int) -> list(T)", slice),
    row("list_flatten", ".flatten(list(list(T))) -> list(T)", flatten),
    row("list_flatten_int", ".flatten(list(dyn), int) -> list(dyn)", flatten),
    row("lists_range", "lists.range(int) -> list(int)", range),
    row("list_distinct", ".distinct(list(T)) -> list(T)", distinct),
    row("list_reverse", ".reverse(list(T)) -> list(T)", reverse),
    row("list_int_sort", ".sort(list(int)) -> list(int)", sort),
    row("list_uint_sort", ".sort(list(uint)) -> list(uint)", sort),
    row("list_double_sort", ".sort(list(double)) -> list(double)", sort),
    row("list_bool_sort", ".sort(list(bool)) -> list(bool)", sort),
    row("list_google.protobuf.Duration_sort", ".sort(list(duration)) -> list(duration)", sort),
    row("list_google.protobuf.Timestamp_sort", ".sort(list(timestamp)) -> list(timestamp)", sort),
    row("list_string_sort", ".sort(list(string)) -> list(string)", sort),
    row("list_bytes_sort", ".sort(list(bytes)) -> list(bytes)", sort),
    row("list_int_sortByAssociatedKeys", ".@sortByAssociatedKeys(list(T), list(int)) -> list(T)", sort_by),
    row("list_uint_sortByAssociatedKeys", ".@sortByAssociatedKeys(list(T), list(uint)) -> list(T)", sort_by),
    row(
        "list_double_sortByAssociatedKeys",
        ".@sortByAssociatedKeys(list(T), list(double)) -> list(T)",
        sort_by,
    ),
    row("list_bool_sortByAssociatedKeys", ".@sortByAssociatedKeys(list(T), list(bool)) -> list(T)", sort_by),
    row(
        "list_google.protobuf.Duration_sortByAssociatedKeys",
        ".@sortByAssociatedKeys(list(T), list(duration)) -> list(T)",
        sort_by,
    ),
    row(
        "list_google.protobuf.Timestamp_sortByAssociatedKeys",
        ".@sortByAssociatedKeys(list(T), list(timestamp)) -> list(T)",
        sort_by,
    ),
    row(
        "list_string_sortByAssociatedKeys",
        ".@sortByAssociatedKeys(list(T), list(string)) -> list(T)",
        sort_by,
    ),
    row(
        "list_bytes_sortByAssociatedKeys",
        ".@sortByAssociatedKeys(list(T), list(bytes)) -> list(T)",
        sort_by,
    ),
];

/// Longest list of numbers that is made at once.
const MAX_RANGE: i64 = 1_000_000;

fn list<'a, 'v>(context: &Context<'_>, args: &'a [Value<'v>]) -> Outcome<&'a List<'v>> {
    match args {
        [Value::List(list), ..] => Ok(list),
        args => Err(super::mismatch(context.function, args)),
    }
}

fn order(one: &Value<'_>, other: &Value<'_>) -> Outcome<Ordering> {
    one.compare(other).ok_or_else(EvalError::no_such_overload)
}

fn is_sorted<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let mut before: Option<Value<'v>> = None;
    for item in list(context, args)?.iter() {
        let item = item?;
        if let Some(before) = &before
            && order(before, &item)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

/// The sum of items of one type.
fn sum_of<'v>(
    context: &Context<'_>,
    args: &[Value<'v>],
    start: Value<'v>,
    add: fn(&Value<'v>, &Value<'v>) -> Option<Outcome<Value<'v>>>,
) -> Outcome<Value<'v>> {
    let mut sum = start;
    for item in list(context, args)?.iter() {
        sum = add(&sum, &item?).ok_or_else(EvalError::no_such_overload)??;
    }
    Ok(sum)
}

fn checked<'v>(value: Option<Value<'v>>, message: &'static str) -> Outcome<Value<'v>> {
    value.ok_or_else(|| EvalError::message(message))
}

fn sum_int<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    sum_of(context, args, Value::Int(0), |sum, item| match (sum, item) {
        (Value::Int(sum), Value::Int(item)) => {
            Some(checked(sum.checked_add(*item).map(Value::Int), "integer overflow"))
        }
        _ => None,
    })
}

fn sum_uint<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    sum_of(context, args, Value::Uint(0), |sum, item| match (sum, item) {
        (Value::Uint(sum), Value::Uint(item)) => {
            Some(checked(sum.checked_add(*item).map(Value::Uint), "unsigned integer overflow"))
        }
        _ => None,
    })
}

fn sum_double<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    sum_of(context, args, Value::Double(0.0), |sum, item| match (sum, item) {
        (Value::Double(sum), Value::Double(item)) => Some(Ok(Value::Double(sum + item))),
        _ => None,
    })
}

fn sum_duration<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    sum_of(context, args, Value::Duration(0), |sum, item| match (sum, item) {
        (Value::Duration(sum), Value::Duration(item)) => {
            Some(checked(sum.checked_add(*item).map(Value::Duration), "integer overflow"))
        }
        _ => None,
    })
}

/// The item that is on this side of all others; the first of equal ones.
fn extreme<'v>(context: &Context<'_>, args: &[Value<'v>], side: Ordering) -> Outcome<Value<'v>> {
    let mut found: Option<Value<'v>> = None;
    for item in list(context, args)?.iter() {
        let item = item?;
        match &found {
            Some(known) if order(&item, known)? != side => {}
            _ => found = Some(item),
        }
    }
    found.ok_or_else(|| EvalError::message(format!("{} called on empty list", context.function)))
}

fn max<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    extreme(context, args, Ordering::Greater)
}

fn min<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    extreme(context, args, Ordering::Less)
}

fn position<'v>(context: &Context<'_>, args: &[Value<'v>], backwards: bool) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(list), wanted] => {
        let length = list.len();
        for step in 0..length {
            let at = if backwards { length - 1 - step } else { step };
            if list.get(at)?.equals(wanted)? {
                return Ok(Value::Int(at as i64));
            }
        }
        Ok(Value::Int(-1))
    })
}

fn index_of<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    position(context, args, false)
}

fn last_index_of<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    position(context, args, true)
}

/// Whether a list has an item; anything else is a list of itself.
fn includes<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [target, wanted] => Ok(Value::Bool(match target {
        Value::List(list) => list.contains(wanted)?,
        target => target.equals(wanted)?,
    })))
}

fn slice<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(list), Value::Int(start), Value::Int(end)] => {
        let (start, end) = (*start, *end);
        let refuse = |reason: String| Err(EvalError::message(format!("cannot slice({start}, {end}), {reason}")));
        if start < 0 || end < 0 {
            return refuse("negative indexes not supported".to_owned());
        }
        if start > end {
            return refuse("start index must be less than or equal to end index".to_owned());
        }
        if (list.len() as i64) < end {
            return refuse(format!("list is length {}", list.len()));
        }
        let items: Outcome<Vec<Value<'v>>> = (start as usize..end as usize).map(|at| list.get(at)).collect();
        Ok(Value::list(items?))
    })
}

fn flatten<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(_), Value::Int(depth)] if *depth < 0 => {
            return Err(EvalError::message("level must be non-negative"));
        }
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        args => return Err(super::mismatch(context.function, args)),
    };
    let mut items = Vec::new();
    flatten_into(&mut items, list, depth)?;
    Ok(Value::list(items))
}

fn flatten_into<'v>(items: &mut Vec<Value<'v>>, list: &List<'v>, depth: i64) -> Outcome<()> {
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(items, &inner, depth - 1)?,
            item => items.push(item),
        }
    }
    Ok(())
}

fn range<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::Int(count)] => match *count {
        count if count < 0 => {
            Err(EvalError::message(format!("lists.range: size must be non-negative, got {count}")))
        }
        count if count > MAX_RANGE => {
            let message = format!("lists.range: size {count} exceeds maximum allowed ({MAX_RANGE})");
            Err(EvalError::message(message))
        }
        count => Ok(Value::list((0..count).map(Value::Int).collect())),
    })
}

fn distinct<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let mut unique: Vec<Value<'v>> = Vec::new();
    'items: for item in list(context, args)?.iter() {
        let item = item?;
        for known in &unique {
            if item.equals(known)? {
                continue 'items;
            }
        }
        unique.push(item);
    }
    Ok(Value::list(unique))
}

fn reverse<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let mut items = list(context, args)?.to_vec()?;
    items.reverse();
    Ok(Value::list(items))
}

fn sort<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let items = list(context, args)?.to_vec()?;
    sorted(items.clone(), &items)
}

fn sort_by<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::List(list), Value::List(keys)] => {
        let (items, keys) = (list.to_vec()?, keys.to_vec()?);
        if items.len() != keys.len() {
            let counts = format!("{} and {} elements respectively", items.len(), keys.len());
            let message = "expected a list of the same size as the associated keys list, but got";
            return Err(EvalError::message(format!("@sortByAssociatedKeys() {message} {counts}")));
        }
        sorted(items, &keys)
    })
}

/// Items in the order of their keys.
fn sorted<'v>(items: Vec<Value<'v>>, keys: &[Value<'v>]) -> Outcome<Value<'v>> {
    let Some(first) = keys.first() else { return Ok(Value::list(items)) };
    if !first.has_order_with(first) {
        return Err(EvalError::message("list elements must be comparable"));
    }
    let of = first.type_of();
    if keys.iter().any(|key| key.type_of() != of) {
        return Err(EvalError::message("list elements must have the same type"));
    }
    let mut places: Vec<usize> = (0..items.len()).collect();
    places.sort_by(|one, other| keys[*one].compare(&keys[*other]).unwrap_or(Ordering::Equal));
    Ok(Value::list(places.into_iter().map(|at| items[at].clone()).collect()))
}
