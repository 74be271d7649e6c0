//! Probes and lifecycle hooks.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::names;

use crate::rules::{self, Literal, Rule, Table};
use crate::tree::{get, has, int, list, number, text};

pub(super) const RULES: Table = &[
    (
        "k8s.io.api.core.v1.Probe",
        &[
            Rule::Default("timeoutSeconds", Literal::Number(1)),
            Rule::Default("periodSeconds", Literal::Number(10)),
            Rule::Default("successThreshold", Literal::Number(1)),
            Rule::Default("failureThreshold", Literal::Number(3)),
        ],
    ),
    (
        "k8s.io.api.core.v1.HTTPGetAction",
        &[Rule::Default("path", Literal::Text("/")), Rule::Default("scheme", Literal::Text("HTTP"))],
    ),
    ("k8s.io.api.core.v1.GRPCAction", &[Rule::Default("service", Literal::Text(""))]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

pub(super) fn check(probe: &Tree, kind: Kind, grace: i64, path: &Path<'_>, errors: &mut Vec<Cause>) {
    handler(probe, grace, path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        rules::not_negative(number(probe, field), &path.field(field), errors);
    }
    if let Some(seconds) = int(probe, "terminationGracePeriodSeconds") {
        let at = path.field("terminationGracePeriodSeconds");
        if seconds <= 0 {
            errors.push(at.invalid(seconds, "must be greater than 0"));
        }
        if kind == Kind::Readiness {
            errors.push(at.invalid(seconds, "must not be set for readinessProbes"));
        }
    }
    let threshold = number(probe, "successThreshold");
    if kind != Kind::Readiness && threshold != 1 {
        errors.push(path.field("successThreshold").invalid(threshold, "must be 1"));
    }
}

/// `postStart` or `preStop`.
pub(super) fn hook(hook: &Tree, grace: i64, path: &Path<'_>, errors: &mut Vec<Cause>) {
    handler(hook, grace, path, errors);
}

fn handler(tree: &Tree, grace: i64, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut handlers = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        if !has(tree, kind) {
            continue;
        }
        handlers += 1;
        let (action, at) = (get(tree, kind), path.field(kind));
        if handlers > 1 {
            errors.push(at.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match kind {
            "exec" if list(action, "command").is_empty() => errors.push(at.field("command").required("")),
            "httpGet" => http(action, &at, errors),
            "tcpSocket" => port(get(action, "port"), &at.field("port"), errors),
            "grpc" => rules::port(number(action, "port"), &at.field("port"), errors),
            "sleep" => {
                let seconds = number(action, "seconds");
                if seconds < 0 || seconds > grace {
                    let detail =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.push(at.invalid(seconds, &detail));
                }
            }
            _ => {}
        }
    }
    if handlers == 0 {
        errors.push(path.required("must specify a handler type"));
    }
}

fn http(action: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if text(action, "path").is_empty() {
        errors.push(path.field("path").required(""));
    }
    port(get(action, "port"), &path.field("port"), errors);
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(path.field("scheme").not_supported(scheme, &["HTTP", "HTTPS"]));
    }
    for header in list(action, "httpHeaders") {
        if is_full(errors) {
            break;
        }
        let name = text(header, "name");
        let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(path.field("httpHeaders").invalid(name, detail));
        }
    }
}

/// A port by its number or its name.
pub(super) fn port(port: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match port {
        Tree::String(name) => {
            errors.extend(names::port_name(name).iter().map(|problem| path.invalid(name, problem)))
        }
        other => rules::port(other.as_i64().unwrap_or(0), path, errors),
    }
}
