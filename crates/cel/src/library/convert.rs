//! Conversions between types.

use std::sync::Arc;

use super::{Context, Row, row};
use crate::error::EvalError;
use crate::text;
use crate::value::{Outcome, Timestamp, Value};

pub(crate) const ROWS: &[Row] = &[
    row("type", "type(A) -> type(A)", type_of),
    row("to_dyn", "dyn(A) -> dyn", identity),
    row("bool_to_bool", "bool(bool) -> bool", identity),
    row("string_to_bool", "bool(string) -> bool", to_bool),
    row("bytes_to_bytes", "bytes(bytes) -> bytes", identity),
    row("string_to_bytes", "bytes(string) -> bytes", to_bytes),
    row("double_to_double", "double(double) -> double", identity),
    row("int64_to_double", "double(int) -> double", to_double),
    row("string_to_double", "double(string) -> double", to_double),
    row("uint64_to_double", "double(uint) -> double", to_double),
    row("duration_to_duration", "duration(duration) -> duration", identity),
    row("string_to_duration", "duration(string) -> duration", to_duration),
    row("int64_to_int64", "int(int) -> int", identity),
    row("double_to_int64", "int(double) -> int", to_int),
    row("duration_to_int64", "int(duration) -> int", to_int),
    row("string_to_int64", "int(string) -> int", to_int),
    row("timestamp_to_int64", "int(timestamp) -> int", to_int),
    row("uint64_to_int64", "int(uint) -> int", to_int),
    row("string_to_string", "string(string) -> string", identity),
    row("bool_to_string", "string(bool) -> string", to_string),
    row("bytes_to_string", "string(bytes) -> string", to_string),
    row("double_to_string", "string(double) -> string", to_string),
    row("duration_to_string", "string(duration) -> string", to_string),
    row("int64_to_string", "string(int) -> string", to_string),
    row("timestamp_to_string", "string(timestamp) -> string", to_string),
    row("uint64_to_string", "string(uint) -> string", to_string),
    row("timestamp_to_timestamp", "timestamp(timestamp) -> timestamp", identity),
    row("int64_to_timestamp", "timestamp(int) -> timestamp", to_timestamp),
    row("string_to_timestamp", "timestamp(string) -> timestamp", to_timestamp),
    row("uint64_to_uint64", "uint(uint) -> uint", identity),
    row("double_to_uint64", "uint(double) -> uint", to_uint),
    row("int64_to_uint64", "uint(int) -> uint", to_uint),
    row("string_to_uint64", "uint(string) -> uint", to_uint),
];

fn failed(from: &Value<'_>, to: &str) -> EvalError {
    EvalError::message(format!("type conversion error from '{}' to '{to}'", from.type_of().name()))
}

fn one<'a, 'v>(context: &Context<'_>, args: &'a [Value<'v>]) -> Outcome<&'a Value<'v>> {
    args.first().ok_or_else(|| super::mismatch(context.function, args))
}

fn identity<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    one(context, args).cloned()
}

fn type_of<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Type(one(context, args)?.type_of()))
}

fn to_bool<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let value = one(context, args)?;
    match value.as_str() {
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Value::Bool(true)),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Value::Bool(false)),
        _ => Err(failed(value, "bool")),
    }
}

fn to_bytes<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match one(context, args)? {
        Value::String(text) => Ok(Value::Bytes(Arc::from(text.as_bytes()))),
        value => Err(failed(value, "bytes")),
    }
}

fn to_double<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let value = one(context, args)?;
    let double = match value {
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => text.parse().map_err(|_| failed(value, "double"))?,
        _ => return Err(failed(value, "double")),
    };
    Ok(Value::Double(double))
}

fn to_duration<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let value = one(context, args)?;
    let nanos = value.as_str().and_then(text::parse_duration);
    nanos.map(Value::Duration).ok_or_else(|| failed(value, "google.protobuf.Duration"))
}

fn to_timestamp<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let value = one(context, args)?;
    let at = match value {
        Value::Int(seconds) => {
            Timestamp::new(*seconds, 0).ok_or_else(|| EvalError::message("timestamp overflow"))?
        }
        Value::String(text) => {
            text::parse_timestamp(text).ok_or_else(|| failed(value, "google.protobuf.Timestamp"))?
        }
        _ => return Err(failed(value, "google.protobuf.Timestamp")),
    };
    Ok(Value::Timestamp(at))
}

/// Whole numbers of doubles up to these bounds, which are excluded.
const INT_BOUND: f64 = 9_223_372_036_854_775_807.0;
const UINT_BOUND: f64 = 18_446_744_073_709_551_615.0;

fn to_int<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let value = one(context, args)?;
    let overflow = || EvalError::message("integer overflow");
    let int = match value {
        Value::Uint(value) => i64::try_from(*value).map_err(|_| overflow())?,
        Value::Double(value) if value.is_finite() && value.abs() < INT_BOUND => *value as i64,
        Value::Double(_) => return Err(overflow()),
        Value::Duration(nanos) => *nanos,
        Value::Timestamp(at) => at.seconds,
        Value::String(text) => text.parse().map_err(|_| failed(value, "int"))?,
        _ => return Err(failed(value, "int")),
    };
    Ok(Value::Int(int))
}

fn to_uint<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let value = one(context, args)?;
    let overflow = || EvalError::message("unsigned integer overflow");
    let uint = match value {
        Value::Int(value) => u64::try_from(*value).map_err(|_| overflow())?,
        Value::Double(value) if (0.0..UINT_BOUND).contains(value) => *value as u64,
        Value::Double(_) => return Err(overflow()),
        Value::String(text) if !text.starts_with('+') => text.parse().map_err(|_| failed(value, "uint"))?,
        _ => return Err(failed(value, "uint")),
    };
    Ok(Value::Uint(uint))
}

fn to_string<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let value = one(context, args)?;
    let text = match value {
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(EvalError::message("invalid UTF-8 in bytes, cannot convert to string")),
        },
        value => value.plain(),
    };
    Ok(Value::text(text))
}
