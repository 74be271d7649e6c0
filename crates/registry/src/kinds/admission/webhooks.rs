//! Webhook configurations: what may be called, when, and how.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{labels, names};

use super::expressions::{Checker, Stored};
use crate::rules;
use crate::strategy::Context;
use crate::tree::{get, has, int, list, text, texts};

pub(super) fn check(_: &Context<'_>, configuration: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let all = Path::new("webhooks");
    let of_all =
        |configuration| list(configuration, "webhooks").iter().map(|hook| get(hook, "matchConditions"));
    let old = old.unwrap_or(&Tree::Null);
    // conditions that were taken once stay so
    let same = !old.is_null() && of_all(configuration).eq(of_all(old));
    let stored = list(old, "webhooks").iter().map(Stored::of).collect::<Vec<_>>();
    let expressions = (!same).then(|| Checker::of_hooks(&stored));
    let mut seen = Seen::new();
    for (index, hook) in list(configuration, "webhooks").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (at, name) = (all.index(index), text(hook, "name"));
        webhook(hook, expressions.as_ref(), &at, errors);
        if !name.is_empty() && seen.repeats(name) {
            errors.push(at.field("name").duplicate(name));
        }
    }
    super::policies::reserved(configuration, errors);
}

fn webhook(hook: &Tree, expressions: Option<&Checker<'_>>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    qualified(text(hook, "name"), &path.field("name"), errors);
    let all = path.field("rules");
    for (index, rule) in list(hook, "rules").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        rule_with_operations(rule, &all.index(index), errors);
    }
    rules::one_of(hook, "failurePolicy", &["Fail", "Ignore"], path, errors);
    rules::one_of(hook, "matchPolicy", &["Equivalent", "Exact"], path, errors);
    match rules::given(hook, "sideEffects") {
        None => errors.push(path.field("sideEffects").required("must specify one of None, NoneOnDryRun")),
        Some(_) => rules::one_of(hook, "sideEffects", &["None", "NoneOnDryRun"], path, errors),
    }
    if let Some(seconds) = int(hook, "timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(path.field("timeoutSeconds").invalid(seconds, detail));
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        labels::validate_label_selector(get(hook, selector), &path.field(selector), errors);
    }
    client(get(hook, "clientConfig"), &path.field("clientConfig"), errors);
    rules::one_of(hook, "reinvocationPolicy", &["IfNeeded", "Never"], path, errors);
    if let Some(expressions) = expressions {
        conditions(hook, expressions, &path.field("matchConditions"), errors);
    }
    versions(hook, &path.field("admissionReviewVersions"), errors);
}

/// A domain of three parts and more.
fn qualified(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if name.is_empty() {
        errors.push(path.required(""));
        return;
    }
    let problems = names::dns1123_subdomain(name);
    if problems.is_empty() && name.split('.').count() < 3 {
        errors.push(path.invalid(name, "should be a domain with at least three segments separated by dots"));
    }
    rules::format(name, problems, path, errors);
}

pub(super) fn rule_with_operations(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let operations = path.field("operations");
    some(rule, "operations", &operations, "operations", errors);
    for (index, operation) in texts(rule, "operations").enumerate() {
        if is_full(errors) {
            break;
        }
        if !OPERATIONS.contains(&operation) {
            errors.push(operations.index(index).not_supported(operation, &OPERATIONS));
        }
    }
    for (field, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        some(rule, field, &path.field(field), what, errors);
        for (index, _) in texts(rule, field).enumerate().filter(|(_, value)| value.is_empty()) {
            if is_full(errors) {
                break;
            }
            if field == "apiVersions" {
                errors.push(path.field(field).index(index).required(""));
            }
        }
    }
    resources(rule, &path.field("resources"), errors);
    rules::one_of(rule, "scope", &["*", "Cluster", "Namespaced"], path, errors);
}

/// Not empty, and nothing beside `*`.
fn some(rule: &Tree, field: &str, path: &Path<'_>, what: &str, errors: &mut Vec<Cause>) {
    let values = list(rule, field);
    if values.is_empty() {
        errors.push(path.required(""));
    } else if values.len() > 1 && texts(rule, field).any(|value| value == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(path.invalid(get(rule, field), &detail));
    }
}

fn resources(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all: Vec<&str> = texts(rule, "resources").collect();
    if all.is_empty() {
        errors.push(path.required(""));
    }
    // Only what stands before a resource is looked at, and of those without a subresource the last one: lists that were taken
    // once are to be taken again.
    let (mut parents, mut subs): (Seen<&str>, Seen<&str>) = Default::default();
    let mut last_is_named = false;
    for (index, resource) in all.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        if resource.is_empty() {
            errors.push(path.index(index).required(""));
            continue;
        }
        let Some((parent, sub)) = resource.split_once('/') else {
            last_is_named = *resource != "*";
            continue;
        };
        if parents.contains(parent) {
            let detail = format!("if '{parent}/*' is present, must not specify {resource}");
            errors.push(path.index(index).invalid(*resource, &detail));
        }
        if subs.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {resource}");
            errors.push(path.index(index).invalid(*resource, &detail));
        }
        if sub == "*" {
            parents.repeats(parent);
        }
        if parent == "*" {
            subs.repeats(sub);
        }
    }
    if all.contains(&"*/*") && all.len() > 1 {
        errors.push(
            path.invalid(get(rule, "resources"), "if '*/*' is present, must not specify other resources"),
        );
    }
    if all.contains(&"*") && last_is_named {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(path.invalid(get(rule, "resources"), detail));
    }
}

fn client(config: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match (has(config, "url"), has(config, "service")) {
        (true, false) => url(text(config, "url"), &path.field("url"), errors),
        (false, true) => service(get(config, "service"), &path.field("service"), errors),
        _ => errors.push(path.required("exactly one of url or service is required")),
    }
}

pub(crate) fn url(url: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(path.invalid(scheme, &detail));
    }
    let authority =
        if scheme.is_empty() { "" } else { rest.split(['/', '?', '#']).next().unwrap_or_default() };
    if authority.is_empty() {
        errors.push(path.invalid(authority, &format!("host must be specified{FORM}")));
    }
    if let Some((user, _)) = authority.split_once('@') {
        errors.push(path.invalid(user, "user information is not permitted in the URL"));
    }
    if rest.contains('#') {
        let part = rest.split_once('#').map_or("", |(_, part)| part);
        errors.push(path.invalid(part, "fragments are not permitted in the URL"));
    }
    let before = rest.split('#').next().unwrap_or_default();
    if let Some((_, query)) = before.split_once('?') {
        errors.push(path.invalid(query, "query parameters are not permitted in the URL"));
    }
}

pub(crate) fn service(service: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    // Each is complained of by the other's name.
    for (field, shown) in [("namespace", "name"), ("name", "namespace")] {
        if text(service, field).is_empty() {
            errors.push(path.field(shown).required(""));
        }
    }
    let port = int(service, "port").unwrap_or(443);
    if let Some(problem) = names::port_number(port) {
        errors.push(path.field("port").invalid(port, &format!("port is not valid: {problem}")));
    }
    if let Some(place) = rules::given(service, "path").filter(|place| !place.is_empty()) {
        service_path(place, &path.field("path"), errors);
    }
}

fn service_path(place: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if !place.starts_with('/') {
        errors.push(path.invalid(place, "must start with a '/'"));
    }
    let steps = place.get(1..).unwrap_or_default();
    let steps = steps.strip_suffix('/').unwrap_or(steps);
    if place == "/" {
        return;
    }
    for (index, step) in steps.split('/').enumerate() {
        if is_full(errors) {
            break;
        }
        if step.is_empty() {
            errors.push(path.invalid(place, &format!("segment[{index}] may not be empty")));
            continue;
        }
        for problem in names::dns1123_subdomain(step) {
            errors.push(path.invalid(place, &format!("segment[{index}]: {problem}")));
        }
    }
}

pub(super) fn conditions(hook: &Tree, expressions: &Checker<'_>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let conditions = list(hook, "matchConditions");
    if conditions.len() > 64 {
        errors.push(path.too_many(conditions.len(), 64));
    }
    let mut seen = Seen::new();
    for (index, condition) in conditions.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (at, name) = (path.index(index), text(condition, "name"));
        match text(condition, "expression").trim() {
            "" => errors.push(at.field("expression").required("")),
            expression => expressions.condition(expression, &at.field("expression"), errors),
        }
        if name.is_empty() {
            errors.push(at.field("name").required(""));
            continue;
        }
        rules::format(name, names::qualified_name(name), &at.field("name"), errors);
        if seen.repeats(name) {
            errors.push(at.field("name").duplicate(name));
        }
    }
}

fn versions(hook: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const KNOWN: [&str; 2] = ["v1", "v1beta1"];
    let versions: Vec<&str> = texts(hook, "admissionReviewVersions").collect();
    if versions.is_empty() {
        errors.push(path.required(&format!("must specify one of {}", KNOWN.join(", "))));
        return;
    }
    let mut seen = Seen::new();
    for (index, version) in versions.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        if seen.repeats(*version) {
            errors.push(path.index(index).invalid(*version, "duplicate version"));
            continue;
        }
        rules::format(version, names::dns1035_label(version), &path.index(index), errors);
    }
    if !versions.iter().any(|version| KNOWN.contains(version)) {
        let detail = format!("must include at least one of {}", KNOWN.join(", "));
        errors.push(path.invalid(get(hook, "admissionReviewVersions"), &detail));
    }
}
