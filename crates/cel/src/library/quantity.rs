//! Quantities of resources.

use machinery::quantity::{Format, Quantity};

use super::{Context, Extended, Row, row, take};
use crate::error::EvalError;
use crate::value::{Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row("string_to_quantity", "quantity(string) -> kubernetes.Quantity", quantity),
    row("is_quantity_string", "isQuantity(string) -> bool", is_quantity),
    row("quantity_sign", "sign(kubernetes.Quantity) -> int", sign),
    row(
        "quantity_is_greater_than",
        ".isGreaterThan(kubernetes.Quantity, kubernetes.Quantity) -> bool",
        is_greater,
    ),
    row("quantity_is_less_than", ".isLessThan(kubernetes.Quantity, kubernetes.Quantity) -> bool", is_less),
    row("quantity_compare_to", ".compareTo(kubernetes.Quantity, kubernetes.Quantity) -> int", compare),
    row("quantity_get_float", ".asApproximateFloat(kubernetes.Quantity) -> double", as_float),
    row("quantity_get_int", ".asInteger(kubernetes.Quantity) -> int", as_integer),
    row("quantity_is_integer", ".isInteger(kubernetes.Quantity) -> bool", is_integer),
    row("quantity_add", ".add(kubernetes.Quantity, kubernetes.Quantity) -> kubernetes.Quantity", add),
    row("quantity_add_int", ".add(kubernetes.Quantity, int) -> kubernetes.Quantity", add),
    row("quantity_sub", ".sub(kubernetes.Quantity, kubernetes.Quantity) -> kubernetes.Quantity", sub),
    row("quantity_sub_int", ".sub(kubernetes.Quantity, int) -> kubernetes.Quantity", sub),
];

/// Digits of quantities that upstream keeps as 64-bit integers.
const WHOLE_DIGITS: usize = 18;
const WHOLE_BINARY_DIGITS: i32 = 14;

/// A quantity, and whether it is one that upstream gives as an integer: written without a fraction of one, and not too long.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    pub quantity: Quantity,
    pub is_whole: bool,
}

impl Amount {
    pub(crate) fn parse(text: &str) -> Result<Amount, machinery::quantity::Error> {
        let quantity = Quantity::parse(text)?;
        let is_whole = api::quantity::parts(text).is_ok_and(|parts| {
            let digits = parts.whole.trim_start_matches('0').len().max(1);
            match parts.base {
                2 => {
                    parts.fraction.is_empty()
                        && digits as i32 + parts.exponent * 3 / 10 <= WHOLE_BINARY_DIGITS
                }
                _ => {
                    let fraction = parts.fraction.len();
                    fraction as i64 <= i64::from(parts.exponent) && digits + fraction <= WHOLE_DIGITS
                }
            }
        });
        Ok(Amount { quantity, is_whole })
    }
}

fn value<'v>(quantity: Quantity, is_whole: bool) -> Value<'v> {
    Value::Extended(Extended::Quantity(Amount { quantity, is_whole }))
}

fn amount(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<Amount> {
    take!(context, args, [Value::Extended(Extended::Quantity(amount))] => Ok(*amount))
}

fn one(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<Quantity> {
    amount(context, args).map(|amount| amount.quantity)
}

/// Two quantities; a whole number counts as one.
fn two(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<(Quantity, Quantity)> {
    two_amounts(context, args).map(|(one, other)| (one.quantity, other.quantity))
}

fn two_amounts(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<(Amount, Amount)> {
    match args {
        [Value::Extended(Extended::Quantity(one)), Value::Extended(Extended::Quantity(other))] => {
            Ok((*one, *other))
        }
        [Value::Extended(Extended::Quantity(one)), Value::Int(other)] => {
            Ok((*one, Amount { quantity: Quantity::new(*other, Format::DecimalExponent), is_whole: true }))
        }
        args => Err(super::mismatch(context.function, args)),
    }
}

fn quantity<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => match Amount::parse(text) {
        Ok(amount) => Ok(Value::Extended(Extended::Quantity(amount))),
        Err(error) => Err(EvalError::message(error.to_string())),
    })
}

fn is_quantity<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text).is_ok())))
}

fn sign<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Int(one(context, args)?.sign() as i64))
}

fn is_greater<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    two(context, args).map(|(one, other)| Value::Bool(one > other))
}

fn is_less<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    two(context, args).map(|(one, other)| Value::Bool(one < other))
}

fn compare<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    two(context, args).map(|(one, other)| Value::Int(one.cmp(&other) as i64))
}

fn as_float<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Double(one(context, args)?.nanos() as f64 / 1e9))
}

fn as_integer<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let amount = amount(context, args)?;
    match amount.is_whole {
        true => Ok(Value::Int(amount.quantity.value())),
        false => Err(EvalError::message("cannot convert value to integer")),
    }
}

fn is_integer<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(amount(context, args)?.is_whole))
}

fn add<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    two_amounts(context, args)
        .map(|(one, other)| value(one.quantity.add(&other.quantity), one.is_whole && other.is_whole))
}

fn sub<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    two_amounts(context, args)
        .map(|(one, other)| value(one.quantity.sub(&other.quantity), one.is_whole && other.is_whole))
}
