//! Operators and the functions of the language's own library.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Context, Row, row, take};
use crate::error::EvalError;
use crate::value::{Key, List, Map, Outcome, Table, Text, Timestamp, Value};

pub(crate) const OPERATORS: &[Row] = &[
    row("logical_and", "_&&_(bool, bool) -> bool", planned),
    row("logical_or", "_||_(bool, bool) -> bool", planned),
    row("conditional", "_?_:_(bool, A, A) -> A", planned),
    row("not_strictly_false", "@not_strictly_false(bool) -> bool", planned),
    row("equals", "_==_(A, A) -> bool", planned),
    row("not_equals", "_!=_(A, A) -> bool", planned),
    row("index_list", "_[_](list(A), int) -> A", planned),
    row("index_map", "_[_](map(A, B), A) -> B", planned),
    row("logical_not", "!_(bool) -> bool", not),
    row("negate_double", "-_(double) -> double", negate),
    row("negate_int64", "-_(int) -> int", negate),
    row("in_list", "@in(A, list(A)) -> bool", is_in),
    row("in_map", "@in(A, map(A, B)) -> bool", is_in),
    row("add_bytes", "_+_(bytes, bytes) -> bytes", add),
    row("add_double", "_+_(double, double) -> double", add),
    row("add_duration_duration", "_+_(duration, duration) -> duration", add),
    row("add_duration_timestamp", "_+_(duration, timestamp) -> timestamp", add),
    row("add_timestamp_duration", "_+_(timestamp, duration) -> timestamp", add),
    row("add_int64", "_+_(int, int) -> int", add),
    row("add_list", "_+_(list(A), list(A)) -> list(A)", add),
    row("add_string", "_+_(string, string) -> string", add),
    row("add_uint64", "_+_(uint, uint) -> uint", add),
    row("subtract_double", "_-_(double, double) -> double", subtract),
    row("subtract_duration_duration", "_-_(duration, duration) -> duration", subtract),
    row("subtract_int64", "_-_(int, int) -> int", subtract),
    row("subtract_timestamp_duration", "_-_(timestamp, duration) -> timestamp", subtract),
    row("subtract_timestamp_timestamp", "_-_(timestamp, timestamp) -> duration", subtract),
    row("subtract_uint64", "_-_(uint, uint) -> uint", subtract),
    row("multiply_double", "_*_(double, double) -> double", multiply),
    row("multiply_int64", "_*_(int, int) -> int", multiply),
    row("multiply_uint64", "_*_(uint, uint) -> uint", multiply),
    row("divide_double", "_/_(double, double) -> double", divide),
    row("divide_int64", "_/_(int, int) -> int", divide),
    row("divide_uint64", "_/_(uint, uint) -> uint", divide),
    row("modulo_int64", "_%_(int, int) -> int", modulo),
    row("modulo_uint64", "_%_(uint, uint) -> uint", modulo),
];

pub(crate) const COMPARISONS: &[Row] = &[
    row("less_bool", "_<_(bool, bool) -> bool", less),
    row("less_int64", "_<_(int, int) -> bool", less),
    row("less_int64_double", "_<_(int, double) -> bool", less),
    row("less_int64_uint64", "_<_(int, uint) -> bool", less),
    row("less_uint64", "_<_(uint, uint) -> bool", less),
    row("less_uint64_double", "_<_(uint, double) -> bool", less),
    row("less_uint64_int64", "_<_(uint, int) -> bool", less),
    row("less_double", "_<_(double, double) -> bool", less),
    row("less_double_int64", "_<_(double, int) -> bool", less),
    row("less_double_uint64", "_<_(double, uint) -> bool", less),
    row("less_string", "_<_(string, string) -> bool", less),
    row("less_bytes", "_<_(bytes, bytes) -> bool", less),
    row("less_timestamp", "_<_(timestamp, timestamp) -> bool", less),
    row("less_duration", "_<_(duration, duration) -> bool", less),
    row("less_equals_bool", "_<=_(bool, bool) -> bool", less_or_equal),
    row("less_equals_int64", "_<=_(int, int) -> bool", less_or_equal),
    row("less_equals_int64_double", "_<=_(int, double) -> bool", less_or_equal),
    row("less_equals_int64_uint64", "_<=_(int, uint) -> bool", less_or_equal),
    row("less_equals_uint64", "_<=_(uint, uint) -> bool", less_or_equal),
    row("less_equals_uint64_double", "_<=_(uint, double) -> bool", less_or_equal),
    row("less_equals_uint64_int64", "_<=_(uint, int) -> bool", less_or_equal),
    row("less_equals_double", "_<=_(double, double) -> bool", less_or_equal),
    row("less_equals_double_int64", "_<=_(double, int) -> bool", less_or_equal),
    row("less_equals_double_uint64", "_<=_(double, uint) -> bool", less_or_equal),
    row("less_equals_string", "_<=_(string, string) -> bool", less_or_equal),
    row("less_equals_bytes", "_<=_(bytes, bytes) -> bool", less_or_equal),
    row("less_equals_timestamp", "_<=_(timestamp, timestamp) -> bool", less_or_equal),
    row("less_equals_duration", "_<=_(duration, duration) -> bool", less_or_equal),
    row("greater_bool", "_>_(bool, bool) -> bool", greater),
    row("greater_int64", "_>_(int, int) -> bool", greater),
    row("greater_int64_double", "_>_(int, double) -> bool", greater),
    row("greater_int64_uint64", "_>_(int, uint) -> bool", greater),
    row("greater_uint64", "_>_(uint, uint) -> bool", greater),
    row("greater_uint64_double", "_>_(uint, double) -> bool", greater),
    row("greater_uint64_int64", "_>_(uint, int) -> bool", greater),
    row("greater_double", "_>_(double, double) -> bool", greater),
    row("greater_double_int64", "_>_(double, int) -> bool", greater),
    row("greater_double_uint64", "_>_(double, uint) -> bool", greater),
    row("greater_string", "_>_(string, string) -> bool", greater),
    row("greater_bytes", "_>_(bytes, bytes) -> bool", greater),
    row("greater_timestamp", "_>_(timestamp, timestamp) -> bool", greater),
    row("greater_duration", "_>_(duration, duration) -> bool", greater),
    row("greater_equals_bool", "_>=_(bool, bool) -> bool", greater_or_equal),
    row("greater_equals_int64", "_>=_(int, int) -> bool", greater_or_equal),
    row("greater_equals_int64_double", "_>=_(int, double) -> bool", greater_or_equal),
    row("greater_equals_int64_uint64", "_>=_(int, uint) -> bool", greater_or_equal),
    row("greater_equals_uint64", "_>=_(uint, uint) -> bool", greater_or_equal),
    row("greater_equals_uint64_double", "_>=_(uint, double) -> bool", greater_or_equal),
    row("greater_equals_uint64_int64", "_>=_(uint, int) -> bool", greater_or_equal),
    row("greater_equals_double", "_>=_(double, double) -> bool", greater_or_equal),
    row("greater_equals_double_int64", "_>=_(double, int) -> bool", greater_or_equal),
    row("greater_equals_double_uint64", "_>=_(double, uint) -> bool", greater_or_equal),
    row("greater_equals_string", "_>=_(string, string) -> bool", greater_or_equal),
    row("greater_equals_bytes", "_>=_(bytes, bytes) -> bool", greater_or_equal),
    row("greater_equals_timestamp", "_>=_(timestamp, timestamp) -> bool", greater_or_equal),
    row("greater_equals_duration", "_>=_(duration, duration) -> bool", greater_or_equal),
];

pub(crate) const FUNCTIONS: &[Row] = &[
    row("size_bytes", "size(bytes) -> int", size),
    row("bytes_size", ".size(bytes) -> int", size),
    row("size_list", "size(list(A)) -> int", size),
    row("list_size", ".size(list(A)) -> int", size),
    row("size_map", "size(map(A, B)) -> int", size),
    row("map_size", ".size(map(A, B)) -> int", size),
    row("size_string", "size(string) -> int", size),
    row("string_size", ".size(string) -> int", size),
    row("contains_string", ".contains(string, string) -> bool", contains),
    row("ends_with_string", ".endsWith(string, string) -> bool", ends_with),
    row("starts_with_string", ".startsWith(string, string) -> bool", starts_with),
];

pub(crate) const TWO_VARIABLES: &[Row] = &[
    row("@mapInsert_map_key_value", "cel.@mapInsert(map(K, V), K, V) -> map(K, V)", map_insert),
    row("@mapInsert_map_map", "cel.@mapInsert(map(K, V), map(K, V)) -> map(K, V)", map_insert),
];

const INT_OVERFLOW: &str = "integer overflow";
const UINT_OVERFLOW: &str = "unsigned integer overflow";
const TIME_OVERFLOW: &str = "timestamp overflow";

/// Operators that the planner gives nodes of their own; they are never called.
fn planned<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Err(super::mismatch(context.function, args))
}

/// The error where the left side has no such operator at all.
fn unsupported(context: &Context<'_>) -> EvalError {
    EvalError::message(format!("no such overload: {}", context.function))
}

fn not<'v>(_: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!*value)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn negate<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(value)] => checked(value.checked_neg().map(Value::Int), INT_OVERFLOW),
        [Value::Double(value)] => Ok(Value::Double(-*value)),
        [Value::Duration(value)] => checked(value.checked_neg().map(Value::Duration), INT_OVERFLOW),
        [Value::Bool(_) | Value::String(_)] => Err(EvalError::no_such_overload()),
        _ => Err(unsupported(context)),
    }
}

fn checked<'v>(value: Option<Value<'v>>, message: &str) -> Outcome<Value<'v>> {
    value.ok_or_else(|| EvalError::message(message))
}

fn is_in<'v>(_: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(match args {
        [value, Value::List(list)] => list.contains(value)?,
        [key, Value::Map(map)] => map.has(key)?,
        _ => return Err(EvalError::no_such_overload()),
    }))
}

fn add<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(one), Value::Int(other)] => {
            checked(one.checked_add(*other).map(Value::Int), INT_OVERFLOW)
        }
        [Value::Uint(one), Value::Uint(other)] => {
            checked(one.checked_add(*other).map(Value::Uint), UINT_OVERFLOW)
        }
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(*one + *other)),
        [Value::String(one), Value::String(other)] => Ok(Value::text(format!("{}{}", &**one, &**other))),
        [Value::Bytes(one), Value::Bytes(other)] => Ok(Value::Bytes([&**one, &**other].concat().into())),
        [one @ Value::List(_), Value::List(other)] => match std::mem::replace(one, Value::Null) {
            Value::List(list) => Ok(Value::List(list.concatenate(other)?)),
            _ => Err(unsupported(context)),
        },
        [Value::Duration(one), Value::Duration(other)] => {
            checked(one.checked_add(*other).map(Value::Duration), INT_OVERFLOW)
        }
        [Value::Timestamp(at), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(at)] => {
            checked(moved(*at, i128::from(*by)), TIME_OVERFLOW)
        }
        [
            Value::Null
            | Value::Bool(_)
            | Value::Map(_)
            | Value::Type(_)
            | Value::Optional(_)
            | Value::Extended(_),
            _,
        ] => Err(unsupported(context)),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A timestamp moved by nanoseconds, unless it leaves the range.
fn moved<'v>(at: Timestamp, nanos: i128) -> Option<Value<'v>> {
    let total = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos) + nanos;
    let seconds = i64::try_from(total.div_euclid(1_000_000_000)).ok()?;
    Timestamp::new(seconds, total.rem_euclid(1_000_000_000) as u32).map(Value::Timestamp)
}

fn subtract<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(one), Value::Int(other)] => {
            checked(one.checked_sub(*other).map(Value::Int), INT_OVERFLOW)
        }
        [Value::Uint(one), Value::Uint(other)] => {
            checked(one.checked_sub(*other).map(Value::Uint), UINT_OVERFLOW)
        }
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(*one - *other)),
        [Value::Duration(one), Value::Duration(other)] => {
            checked(one.checked_sub(*other).map(Value::Duration), INT_OVERFLOW)
        }
        [Value::Timestamp(at), Value::Duration(by)] => checked(moved(*at, -i128::from(*by)), TIME_OVERFLOW),
        [Value::Timestamp(one), Value::Timestamp(other)] => {
            let seconds = i128::from(one.seconds) - i128::from(other.seconds);
            let nanos = seconds * 1_000_000_000 + i128::from(one.nanos) - i128::from(other.nanos);
            checked(i64::try_from(nanos).ok().map(Value::Duration), INT_OVERFLOW)
        }
        [Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_) | Value::Timestamp(_), _] => {
            Err(EvalError::no_such_overload())
        }
        _ => Err(unsupported(context)),
    }
}

fn multiply<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(one), Value::Int(other)] => {
            checked(one.checked_mul(*other).map(Value::Int), INT_OVERFLOW)
        }
        [Value::Uint(one), Value::Uint(other)] => {
            checked(one.checked_mul(*other).map(Value::Uint), UINT_OVERFLOW)
        }
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(*one * *other)),
        [Value::Int(_) | Value::Uint(_) | Value::Double(_), _] => Err(EvalError::no_such_overload()),
        _ => Err(unsupported(context)),
    }
}

fn divide<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::message("division by zero"))
        }
        [Value::Int(one), Value::Int(other)] => {
            checked(one.checked_div(*other).map(Value::Int), INT_OVERFLOW)
        }
        [Value::Uint(one), Value::Uint(other)] => Ok(Value::Uint(*one / *other)),
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(*one / *other)),
        [Value::Int(_) | Value::Uint(_) | Value::Double(_), _] => Err(EvalError::no_such_overload()),
        _ => Err(unsupported(context)),
    }
}

fn modulo<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::message("modulus by zero"))
        }
        [Value::Int(one), Value::Int(other)] => {
            checked(one.checked_rem(*other).map(Value::Int), INT_OVERFLOW)
        }
        [Value::Uint(one), Value::Uint(other)] => Ok(Value::Uint(*one % *other)),
        [Value::Int(_) | Value::Uint(_), _] => Err(EvalError::no_such_overload()),
        _ => Err(unsupported(context)),
    }
}

fn compared<'v>(context: &Context<'_>, args: &[Value<'v>], is: fn(Ordering) -> bool) -> Outcome<Value<'v>> {
    let [one, other] = args else { return Err(EvalError::no_such_overload()) };
    if !one.has_order_with(other) {
        return Err(match one.has_order_with(one) {
            true => EvalError::no_such_overload(),
            false => unsupported(context),
        });
    }
    match one.compare(other) {
        Some(order) => Ok(Value::Bool(is(order))),
        None => Err(EvalError::message("NaN values cannot be ordered")),
    }
}

fn less<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    compared(context, args, Ordering::is_lt)
}

fn less_or_equal<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    compared(context, args, Ordering::is_le)
}

fn greater<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    compared(context, args, Ordering::is_gt)
}

fn greater_or_equal<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    compared(context, args, Ordering::is_ge)
}

fn size<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [value] => match value.size() {
            Some(size) => Ok(Value::Int(size as i64)),
            None => Err(unsupported(context)),
        },
        _ => Err(unsupported(context)),
    }
}

fn on_strings<'v>(args: &[Value<'v>], is: fn(&str, &str) -> bool) -> Outcome<Value<'v>> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(is(text, part))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn contains<'v>(_: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    on_strings(args, |text, part| text.contains(part))
}

fn ends_with<'v>(_: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    on_strings(args, |text, part| text.ends_with(part))
}

fn starts_with<'v>(_: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    on_strings(args, |text, part| text.starts_with(part))
}

/// Adds entries to a map. A key that it has already is an error.
fn map_insert<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let mut taken: Vec<Value<'v>> = args.iter_mut().map(|arg| std::mem::replace(arg, Value::Null)).collect();
    let value = (taken.len() == 3).then(|| taken.pop()).flatten();
    let (added, target) = (taken.pop(), taken.pop());
    let mut table = match target {
        Some(Value::Map(Map::Table(table))) => {
            Arc::try_unwrap(table).unwrap_or_else(|shared| (*shared).clone())
        }
        Some(Value::Map(map)) => table_of(map.entries()?),
        _ => return Err(unsupported(context)),
    };
    let entries = match (added, value) {
        (Some(key), Some(value)) => vec![(key, value)],
        (Some(Value::Map(map)), None) => map.entries()?,
        _ => return Err(EvalError::no_such_overload()),
    };
    for (key, value) in entries {
        if Key::of(&key).is_none() {
            return Err(EvalError::message(format!("unsupported key type: {}", key.type_of().name())));
        }
        if table.get(&key).is_some() {
            return Err(EvalError::message(format!("insert failed: key {} already exists", key.plain())));
        }
        table.insert(key, value);
    }
    Ok(Value::Map(Map::table(table)))
}

fn table_of<'v>(entries: Vec<(Value<'v>, Value<'v>)>) -> Table<'v> {
    let mut table = Table::default();
    for (key, value) in entries {
        table.insert(key, value);
    }
    table
}

/// Strings that a list has, for functions over lists of strings.
pub(super) fn strings<'v>(context: &Context<'_>, list: &List<'v>) -> Outcome<Vec<Text<'v>>> {
    let mut texts = Vec::with_capacity(list.len());
    for item in list.iter() {
        take!(context, &[item?], [Value::String(text)] => { texts.push(text.clone()); Ok(()) })?;
    }
    Ok(texts)
}
