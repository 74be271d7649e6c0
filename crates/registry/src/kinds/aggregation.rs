//! APIServices: named `version.group`, so that the core group's has a dot at its end.

use api::status::Cause;
use api::{Tree, json};
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::names;

use crate::kinds::config::bytes;
use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{as_object, flag, get, has, list, number, put, text};

pub(super) const RULES: Table = &[(
    "k8s.io.kube_aggregator.pkg.apis.apiregistration.v1.ServiceReference",
    &[Rule::Default("port", Literal::Number(443))],
)];

pub(super) const PROFILES: &[Profile] = &[Profile {
    // what it must be depends on the spec, see `check`
    name: |_| Vec::new(),
    generate_name: Some(names::path_segment),
    generation: Generation::Unset,
    status: true,
    unconditional_update: false,
    status_keeps: ALL_METADATA,
    prepare: Some(prepare),
    check: Some(check),
    check_status: Some(check_status),
    full: true,
    ..Profile::new("apiregistration.k8s.io", "apiservices")
}];

/// What this server answers itself is there from the beginning.
fn prepare(context: &Context<'_>, service: &mut Tree, old: Option<&Tree>) {
    if old.is_some() || has(service, "spec.service") {
        return;
    }
    let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let available = json!({
        "type": "Available",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "Local",
        "message": "Local APIServices are always available",
    });
    put(as_object(service), "status", json!({"conditions": [available]}));
}

const GROUP_PRIORITY: i64 = 20000;
const VERSION_PRIORITY: i64 = 1000;

fn check(_: &Context<'_>, service: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (path, spec) = (Path::new("spec"), get(service, "spec"));
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    name(text(service, "metadata.name"), &format!("{version}.{group}"), errors);
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(path.field("group").required(detail));
    }
    if !group.is_empty() {
        rules::format(group, names::dns1123_subdomain(group), &path.field("group"), errors);
    }
    rules::format(version, names::dns1035_label(version), &path.field("version"), errors);
    for (field, most) in [("groupPriorityMinimum", GROUP_PRIORITY), ("versionPriority", VERSION_PRIORITY)] {
        let priority = number(spec, field);
        if !(1..=most).contains(&priority) {
            let detail = format!("must be positive and less than {most}");
            errors.push(path.field(field).invalid(priority, &detail));
        }
    }
    let (insecure, bundle) = (flag(spec, "insecureSkipTLSVerify"), bytes(text(spec, "caBundle")).len());
    let skip = path.field("insecureSkipTLSVerify");
    if !has(spec, "service") {
        if bundle > 0 {
            let shown = format!("{bundle} bytes");
            errors.push(path.field("caBundle").invalid(&shown, "local APIServices may not have a caBundle"));
        }
        if insecure {
            errors.push(skip.invalid(insecure, "local APIServices may not have insecureSkipTLSVerify"));
        }
        return;
    }
    let at = path.field("service");
    for field in ["namespace", "name"] {
        if text(get(spec, "service"), field).is_empty() {
            errors.push(at.field(field).required(""));
        }
    }
    let port = number(spec, "service.port");
    if let Some(problem) = names::port_number(port) {
        errors.push(at.field("port").invalid(port, &format!("port is not valid: {problem}")));
    }
    if insecure && bundle > 0 {
        errors.push(skip.invalid(insecure, "may not be true if caBundle is present"));
    }
}

fn name(name: &str, expect: &str, errors: &mut Vec<Cause>) {
    if name.is_empty() {
        return;
    }
    let path = Path::new("metadata.name");
    let problems = names::path_segment(name);
    if problems.is_empty() && name != expect {
        errors.push(path.invalid(name, &format!("must be `spec.version+\".\"+spec.group`: {expect:?}")));
    }
    rules::format(name, problems, &path, errors);
}

fn check_status(_: &Context<'_>, service: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let all = Path::new("status.conditions");
    for (index, condition) in list(service, "status.conditions").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let status = text(condition, "status");
        if !matches!(status, "True" | "False" | "Unknown") {
            let values = ["True", "False", "Unknown"];
            errors.push(all.index(index).field("status").not_supported(status, &values));
        }
    }
}
