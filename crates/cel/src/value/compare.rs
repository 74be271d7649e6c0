//! Order of values, numbers of different types included, and plain text of values in messages.

use std::cmp::Ordering;

use super::Value;
use crate::text;

impl Value<'_> {
    /// The order of two values of types that have one together; `None` for others, and for what is not a number.
    pub(crate) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::String(one), Value::String(other)) => (**one).cmp(&**other),
            (Value::Bytes(one), Value::Bytes(other)) => one.cmp(other),
            (Value::Timestamp(one), Value::Timestamp(other)) => one.cmp(other),
            (Value::Duration(one), Value::Duration(other)) => one.cmp(other),
            _ => return self.compare_numbers(other),
        })
    }

    pub(super) fn compare_numbers(&self, other: &Value<'_>) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Int(one), Value::Int(other)) => one.cmp(other),
            (Value::Uint(one), Value::Uint(other)) => one.cmp(other),
            (Value::Double(one), Value::Double(other)) => return one.partial_cmp(other),
            (Value::Int(one), Value::Uint(other)) => i128::from(*one).cmp(&i128::from(*other)),
            (Value::Uint(one), Value::Int(other)) => i128::from(*one).cmp(&i128::from(*other)),
            (Value::Int(one), Value::Double(other)) => return compare_whole(i128::from(*one), *other),
            (Value::Uint(one), Value::Double(other)) => return compare_whole(i128::from(*one), *other),
            (Value::Double(one), Value::Int(other)) => {
                return compare_whole(i128::from(*other), *one).map(Ordering::reverse);
            }
            (Value::Double(one), Value::Uint(other)) => {
                return compare_whole(i128::from(*other), *one).map(Ordering::reverse);
            }
            _ => return None,
        })
    }

    /// Whether the two are numbers or of one ordered type, so that a comparison is no error.
    pub(crate) fn has_order_with(&self, other: &Value<'_>) -> bool {
        use Value::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};
        matches!(
            (self, other),
            (Bool(_), Bool(_))
                | (String(_), String(_))
                | (Bytes(_), Bytes(_))
                | (Timestamp(_), Timestamp(_))
                | (Duration(_), Duration(_))
                | (Int(_) | Uint(_) | Double(_), Int(_) | Uint(_) | Double(_))
        )
    }

    /// The value as messages show it.
    pub(crate) fn plain(&self) -> String {
        match self {
            Value::Null => "NULL_VALUE".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Double(value) => text::double(*value),
            Value::String(value) => value.to_string(),
            Value::Duration(nanos) => text::duration(*nanos),
            Value::Timestamp(at) => text::timestamp(*at),
            Value::Type(of) => of.name().to_owned(),
            other => other.type_of().name().to_owned(),
        }
    }
}

/// The order of a whole number and a double. A double beyond all whole numbers keeps its sign's side.
fn compare_whole(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 2e19 {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let truncated = double.trunc();
    Some(
        whole
            .cmp(&(truncated as i128))
            .then_with(|| 0.0_f64.partial_cmp(&(double - truncated)).unwrap_or(Ordering::Equal)),
    )
}
