//! How much of a device there is, and in what amounts claims may share it.

use api::Tree;
use api::status::Cause;
use machinery::Quantity;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;

use crate::tree::{get, has, list};

/// The most amounts that may be asked for.
const OPTIONS: usize = 10;

fn quantity(tree: &Tree) -> Quantity {
    Quantity::from_tree(tree).unwrap_or(Quantity::ZERO)
}

fn given(tree: &Tree, field: &str) -> Option<Quantity> {
    has(tree, field).then(|| quantity(get(tree, field)))
}

pub(super) fn check(capacity: &Tree, shared: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (policy, at) = (get(capacity, "requestPolicy"), path.field("requestPolicy"));
    if policy.is_null() {
        return;
    }
    if !shared {
        errors.push(at.forbidden("allowMultipleAllocations must be true"));
        return;
    }
    let (whole, default) = (quantity(get(capacity, "value")), given(policy, "default"));
    let (values, range) = (list(policy, "validValues"), has(policy, "validRange"));
    match (values.is_empty(), range) {
        (false, true) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.push(at.forbidden(detail));
        }
        (false, false) => match default {
            None => errors.push(at.field("default").required("required when validValues is defined")),
            Some(default) => options(values, &default, &whole, &at.field("validValues"), errors),
        },
        (true, true) => match default {
            None => errors.push(at.field("default").required("required when validRange is defined")),
            Some(default) => {
                check_range(get(policy, "validRange"), &default, &whole, &at.field("validRange"), errors);
            }
        },
        (true, false) => {}
    }
}

fn options(values: &[Tree], default: &Quantity, whole: &Quantity, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all: Vec<Quantity> = values.iter().map(quantity).collect();
    for (index, pair) in all.windows(2).enumerate() {
        if is_full(errors) {
            return;
        }
        if pair[0] > pair[1] {
            let detail = "values must be sorted in ascending order";
            errors.push(path.index(index + 1).invalid(&*pair[1].to_string(), detail));
        }
    }
    if all.len() > OPTIONS {
        errors.push(path.too_many(all.len(), OPTIONS));
    } else {
        for (index, one) in all.iter().enumerate().filter(|(_, one)| *one > whole) {
            let detail = format!("option is larger than capacity value: {whole}");
            errors.push(path.index(index).invalid(&*one.to_string(), &detail));
        }
        let mut seen = Seen::new();
        for (index, one) in all.iter().enumerate() {
            if seen.repeats(one.nanos()) {
                errors.push(path.index(index).duplicate(&one.to_string()));
            }
        }
    }
    if all.len() > OPTIONS || !all.contains(default) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(path.invalid(&*default.to_string(), detail));
    }
}

fn check_range(range: &Tree, default: &Quantity, whole: &Quantity, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let Some(least) = given(range, "min") else {
        errors.push(path.field("min").required("required when validRange is defined"));
        return;
    };
    let (most, step) = (given(range, "max"), given(range, "step"));
    let wrong = |field: &str, value: &Quantity, detail: String| {
        path.field(field).invalid(&*value.to_string(), &detail)
    };
    if least > *whole {
        errors.push(wrong("min", &least, format!("min is larger than capacity value: {whole}")));
    }
    if *default < least {
        errors.push(wrong("default", default, format!("default is less than min: {least}")));
    }
    if let Some(most) = &most {
        if least > *most {
            errors.push(wrong("max", &least, format!("min is larger than max: {most}")));
        }
        if most > whole {
            errors.push(wrong("max", most, format!("max is larger than capacity value: {whole}")));
        }
        if default > most {
            errors.push(wrong("default", default, format!("default is more than max: {most}")));
        }
    }
    let all =
        [("default", Some(default)), ("min", Some(&least)), ("max", most.as_ref()), ("step", step.as_ref())];
    let fractional = all.iter().any(|(_, one)| one.is_some_and(|one| !one.is_integer()));
    let too_fine = |one: &Quantity| one.milli() * 1_000_000 != one.nanos();
    let before = errors.len();
    for (field, one) in all.iter().filter(|_| fractional) {
        if let Some(one) = one.filter(|one| too_fine(one)) {
            errors.push(wrong(field, one, "value cannot be represented as a milli value".to_owned()));
        }
    }
    if errors.len() > before {
        return;
    }
    let Some(step) = &step else { return };
    if step.nanos() <= 0 {
        errors.push(wrong("step", step, "must be greater than zero".to_owned()));
        return;
    }
    let one_step = least.add(step);
    if one_step > *whole {
        let detail = format!("one step {one_step} is larger than capacity value: {whole}");
        errors.push(wrong("step", step, detail));
    }
    let before = errors.len();
    for (field, one) in all.iter().filter(|_| !fractional) {
        if let Some(one) = one.filter(|one| one.nanos() < 0) {
            errors.push(wrong(field, one, "must be greater than or equal to 0".to_owned()));
        }
    }
    if errors.len() > before {
        return;
    }
    for value in [Some(default), most.as_ref()].into_iter().flatten() {
        if (value.nanos() - least.nanos()) % step.nanos() != 0 {
            let detail = format!("value is not a multiple of a given step ({step}) from ({least})");
            errors.push(wrong("step", value, detail));
        }
    }
}
