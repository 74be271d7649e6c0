//! Parts of devices: how much a request takes of each capacity, and whether so much is left.

use machinery::quantity::Quantity;

use crate::cluster::facts::devices::{Amounts, Capacity, Device, Exact, Policy, Range};

const MILLI: i128 = 1_000_000;
const ONE: i128 = 1_000_000_000;

/// What a request takes of each capacity of a device; otherwise why that cannot be said.
pub(super) fn consumed(exact: &Exact, device: &Device) -> Result<Vec<(String, Quantity)>, String> {
    let amount = |(name, capacity): (&String, &Capacity)| {
        let requested = exact.amount(name).map(|amount| amount.quantity);
        let amount = of_capacity(requested, capacity).map_err(|why| format!("capacity {name:?}: {why}"))?;
        if amount < Quantity::ZERO {
            return Err(format!("capacity {name:?}: capacity value is negative"));
        }
        Ok((name.clone(), amount))
    };
    device.capacity.iter().map(amount).collect()
}

/// Whether the device has all that is asked for, beside what is taken of it.
pub(super) fn has_left(exact: &Exact, device: &Device, taken: &[&Amounts]) -> Result<bool, String> {
    if exact.amounts().any(|(name, _)| !device.capacity.contains_key(name)) {
        return Ok(false);
    }
    let consumed = consumed(exact, device)?;
    Ok(consumed.iter().zip(device.capacity.values()).all(|((name, amount), capacity)| {
        let others: i128 = taken.iter().filter_map(|taken| taken.get(name)).sum();
        let is_valid = capacity.policy.as_ref().is_none_or(|policy| is_valid(*amount, policy));
        is_valid && others + amount.nanos() <= capacity.value.quantity.nanos()
    }))
}

fn of_capacity(requested: Option<Quantity>, capacity: &Capacity) -> Result<Quantity, String> {
    let policy = capacity.policy.as_ref();
    let Some(requested) = requested else {
        let default = policy.and_then(|policy| policy.default.as_ref());
        return Ok(default.unwrap_or(&capacity.value).quantity);
    };
    let Some(policy) = policy else { return Ok(requested) };
    if let Some(range) = &policy.range
        && let Some(min) = &range.min
    {
        return in_range(requested, min.quantity, range);
    }
    let next = policy.values.iter().find(|value| requested <= value.quantity);
    Ok(next.map_or(requested, |value| value.quantity))
}

fn is_whole_in(quantity: Quantity, unit: i128) -> bool {
    quantity.nanos() % unit == 0 && i64::try_from(quantity.nanos() / unit).is_ok()
}

/// Thousandths where the range can be said in them, else whole numbers.
fn unit(range: &Range) -> i128 {
    let bounds = [&range.min, &range.max, &range.step].into_iter().flatten();
    let step = range.step.as_ref().map_or(MILLI, |step| step.quantity.nanos());
    let in_milli = bounds.into_iter().all(|bound| is_whole_in(bound.quantity, MILLI)) && step >= MILLI;
    if in_milli { MILLI } else { ONE }
}

/// In units, rounded up.
fn units(quantity: Quantity, unit: i128) -> i128 {
    let nanos = quantity.nanos();
    nanos / unit + i128::from(nanos % unit > 0)
}

/// The next step from the least on.
fn in_range(requested: Quantity, min: Quantity, range: &Range) -> Result<Quantity, String> {
    let Some(step) = range.step.as_ref().map(|step| step.quantity).filter(|_| requested >= min) else {
        return Ok(requested.max(min));
    };
    let not = |why: String| {
        Err(format!("capacity request cannot be represented in the device's range arithmetic: {why}"))
    };
    let unit = unit(range);
    if unit == MILLI && !is_whole_in(requested, MILLI) {
        return not(format!("request {requested} is not a representable milli value"));
    }
    let (step_units, least) = (units(step, unit).max(1), units(min, unit));
    let steps = (units(requested, unit) - least + step_units - 1) / step_units;
    let Ok(rounded) = i64::try_from(least + step_units * steps) else {
        let what = if unit == MILLI { "the milli-value range" } else { "MaxInt64" };
        return not(format!("rounding request {requested} up to the next step passes {what}"));
    };
    Ok(match unit {
        MILLI => Quantity::from_milli(rounded.into(), step.format()),
        _ => Quantity::new(rounded, step.format()),
    })
}

fn is_valid(amount: Quantity, policy: &Policy) -> bool {
    if policy.default.as_ref().is_some_and(|default| default.quantity == amount) {
        return true;
    }
    let Some(range) = &policy.range else {
        return policy.values.is_empty() || policy.values.iter().any(|value| value.quantity == amount);
    };
    if range.max.as_ref().is_some_and(|max| amount > max.quantity) {
        return false;
    }
    let (Some(step), Some(min)) = (&range.step, &range.min) else { return true };
    let unit = unit(range);
    let step = units(step.quantity, unit).max(1);
    (unit != MILLI || is_whole_in(amount, MILLI))
        && (units(amount, unit) - units(min.quantity, unit)) % step == 0
}
