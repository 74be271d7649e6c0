//! What is asked for of devices: claims, templates of claims, and classes.

use std::collections::{HashMap, HashSet};

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};
use machinery::{labels, names};

use super::{label, texts, tolerations};
use crate::meta::validate_annotations;
use crate::rules;
use crate::strategy::Context;
use crate::tree::{get, has, list, number, same, text};

/// The most requests, constraints, configurations and selectors that are looked at: where there are more, that is all that
/// is reported.
const MOST: usize = 32;
const ALTERNATIVES: usize = 8;
const EXPRESSION_BYTES: usize = 10 * 1024;
const PARAMETERS_BYTES: usize = 10 * 1024;

pub(super) fn claim(_: &Context<'_>, claim: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    if old.is_none() {
        devices(get(claim, "spec.devices"), &Path::new("spec.devices"), errors);
    }
}

pub(super) fn template(_: &Context<'_>, template: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(template, "spec");
    let (metadata, path) = (get(spec, "metadata"), Path::new("spec.metadata"));
    validate_annotations(get(metadata, "annotations"), &path.field("annotations"), errors);
    labels::validate_labels(get(metadata, "labels"), &path.field("labels"), errors);
    for (field, value) in metadata.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "annotations" | "labels") && !crate::tree::unset(value) {
            errors.push(path.field(field).forbidden("cannot be set"));
        }
    }
    if old.is_none() {
        devices(get(spec, "spec.devices"), &Path::new("spec.spec.devices"), errors);
    }
    if old.is_some_and(|old| !same(spec, get(old, "spec"))) {
        let shown = crate::internal::shown(spec, "resource.v1.ResourceClaimTemplateSpec");
        errors.push(Path::new("spec").invalid(shown, "field is immutable"));
    }
}

pub(super) fn class(_: &Context<'_>, class: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (spec, path) = (get(class, "spec"), Path::new("spec"));
    // What was taken once is taken again as it was.
    if !old.is_some_and(|old| same(get(spec, "selectors"), get(old, "spec.selectors"))) {
        selectors(spec, &path, errors);
    }
    each(spec, "config", MOST, &path, errors, configuration);
}

/// Calls for the items of a list, if there are not too many.
fn each(
    tree: &Tree,
    field: &str,
    most: usize,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
    mut check: impl FnMut(&Tree, &Path<'_>, &mut Vec<Cause>),
) {
    let (items, all) = (list(tree, field), path.field(field));
    for (index, item) in items.iter().enumerate().filter(|_| items.len() <= most) {
        if is_full(errors) {
            break;
        }
        check(item, &all.index(index), errors);
    }
}

/// The requests of a claim by name, each with its alternatives.
pub(super) struct Names<'t>(HashMap<&'t str, HashSet<&'t str>>);

impl<'t> Names<'t> {
    pub(super) fn of(devices: &'t Tree) -> Names<'t> {
        let alternatives =
            |request: &'t Tree| list(request, "firstAvailable").iter().map(|one| text(one, "name")).collect();
        Names(list(devices, "requests").iter().map(|one| (text(one, "name"), alternatives(one))).collect())
    }

    fn has(&self, name: &str) -> bool {
        let mut parts = name.split('/');
        let own = parts.next().and_then(|name| self.0.get(name));
        match (own, parts.next(), parts.next()) {
            (Some(_), None, _) => true,
            (Some(alternatives), Some(name), None) => alternatives.contains(name),
            _ => false,
        }
    }

    /// Checks a reference to a request, or to one of its alternatives.
    pub(super) fn check(&self, name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
        const DETAIL: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 {
            errors.push(path.invalid(name, DETAIL));
            return;
        }
        for part in parts {
            label(part, path, errors);
        }
        if !self.has(name) {
            errors.push(path.invalid(name, DETAIL));
        }
    }

    /// Checks the references of a constraint or a configuration.
    pub(super) fn check_all(&self, tree: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
        let (references, at) = (texts(tree, "requests"), path.field("requests"));
        for (index, name) in references.iter().enumerate().filter(|_| references.len() <= MOST) {
            self.check(name, &at.index(index), errors);
        }
    }
}

fn devices(devices: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let names = Names::of(devices);
    each(devices, "requests", MOST, path, errors, request);
    each(devices, "constraints", MOST, path, errors, |one, at, errors| {
        names.check_all(one, at, errors);
        if !has(one, "matchAttribute") && !has(one, "distinctAttribute") {
            let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(at.required(detail));
        }
    });
    each(devices, "config", MOST, path, errors, |one, at, errors| {
        names.check_all(one, at, errors);
        configuration(one, at, errors);
    });
}

fn request(request: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    label(text(request, "name"), &path.field("name"), errors);
    match (has(request, "exactly"), !list(request, "firstAvailable").is_empty()) {
        (false, false) => {
            errors.push(path.required("exactly one of `exactly` or `firstAvailable` is required"))
        }
        (true, true) => {
            let detail =
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(path.invalid(Shown::Null, detail));
        }
        (true, false) => {
            let (exactly, at) = (get(request, "exactly"), path.field("exactly"));
            let class = text(exactly, "deviceClassName");
            if class.is_empty() {
                errors.push(at.field("deviceClassName").required(""));
            } else {
                rules::format(class, names::dns1123_subdomain(class), &at.field("deviceClassName"), errors);
            }
            amount(exactly, &at, errors);
        }
        (false, true) => each(request, "firstAvailable", ALTERNATIVES, path, errors, |one, at, errors| {
            label(text(one, "name"), &at.field("name"), errors);
            amount(one, at, errors);
        }),
    }
}

/// Which devices are asked for, and how many.
fn amount(request: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    selectors(request, path, errors);
    let (count, at) = (number(request, "count"), path.field("count"));
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            errors.push(at.invalid(count, "must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" if count <= 0 => errors.push(at.invalid(count, "must be greater than zero")),
        _ => {}
    }
    tolerations(request, path, errors);
}

fn selectors(tree: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    each(tree, "selectors", MOST, path, errors, |selector, at, errors| {
        let at = at.field("cel");
        if has(selector, "cel") {
            expression(text(selector, "cel.expression"), &at.field("expression"), errors);
        } else {
            errors.push(at.required(""));
        }
    });
}

fn expression(expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if expression.len() > EXPRESSION_BYTES {
        errors.push(path.too_long(EXPRESSION_BYTES));
        return;
    }
    errors.extend(match cel::devices::compile(expression, cel::NEW) {
        Err(error @ cel::devices::Error::Program(_)) => Some(path.internal(&error.to_string())),
        Err(error) => Some(path.invalid(expression, &error.to_string())),
        Ok(program) if program.estimate().max > cel::devices::MAX_COST => {
            Some(path.forbidden("too complex, exceeds cost limit"))
        }
        Ok(_) => None,
    });
}

/// Parameters for a driver, in a form of its own.
pub(super) fn configuration(configuration: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if !has(configuration, "opaque") {
        errors.push(path.field("opaque").required(""));
        return;
    }
    let parameters = get(configuration, "opaque.parameters");
    raw(parameters, PARAMETERS_BYTES, &path.field("opaque.parameters"), errors);
}

/// Data in a form that is not known here: a JSON object of a bounded size.
pub(super) fn raw(data: &Tree, most: usize, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if data.is_null() {
        errors.push(path.required(""));
    } else if api::json::to_vec(data).len() > most {
        errors.push(path.too_long(most));
    } else if !data.is_object() {
        errors.push(path.invalid("<value omitted>", "must be a valid JSON object"));
    }
}

/// Each once, by a key: the first that repeats another is reported at its place.
pub(super) fn unique<'t>(keys: impl Iterator<Item = &'t str>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut seen = Seen::new();
    for (index, key) in keys.enumerate() {
        if is_full(errors) {
            break;
        }
        if seen.repeats(key) {
            errors.push(path.index(index).duplicate(key));
        }
    }
}
