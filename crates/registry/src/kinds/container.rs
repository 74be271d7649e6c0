//! A container: what it is by default and what it may be.

mod mounts;
mod security;
mod sources;

use std::collections::HashMap;

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::kinds::{probe, resources};
use crate::rules::{self, Literal, Rule, Table};
use crate::tree::{Object, fill, flag, get, has, int, list, member, number, text, texts};

use mounts::mounts;
pub use mounts::{local_path, no_backsteps};
use security::{app_armor, security as context, windows};
pub(super) use security::{seccomp, user_id};
use sources::{env, env_from};
pub use sources::{field_ref, key, resource_ref};

/// A pod's volumes that are right, by name.
pub type Volumes<'a> = HashMap<&'a str, &'a Tree>;

/// The names of `spec.resourceClaims`, in their order and to look up.
#[derive(Default)]
pub struct Claims<'a> {
    names: Vec<&'a str>,
    known: Seen<&'a str>,
}

impl<'a> FromIterator<&'a str> for Claims<'a> {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        Self { known: names.iter().copied().collect(), names }
    }
}

impl Claims<'_> {
    pub fn contains(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    pub fn names(&self) -> &[&str] {
        &self.names
    }
}

/// Context of a container in its pod.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub volumes: &'a Volumes<'a>,
    /// Names of `spec.resourceClaims`.
    pub claims: &'a Claims<'a>,
    pub grace: i64,
    pub host_network: bool,
    pub init: bool,
    pub spec: &'a Tree,
}

const COMMON: &[Rule] = &[
    Rule::Default("terminationMessagePath", Literal::Text("/dev/termination-log")),
    Rule::Default("terminationMessagePolicy", Literal::Text("File")),
    Rule::DefaultFn(pull_policy),
];

pub(super) const RULES: Table = &[
    ("k8s.io.api.core.v1.Container", COMMON),
    ("k8s.io.api.core.v1.EphemeralContainer", COMMON),
    ("k8s.io.api.core.v1.EphemeralContainerCommon", COMMON),
    ("k8s.io.api.core.v1.ContainerPort", &[Rule::Default("protocol", Literal::Text("TCP"))]),
    ("k8s.io.api.core.v1.EnvVar", &[Rule::Check(env)]),
    ("k8s.io.api.core.v1.ObjectFieldSelector", &[Rule::Default("apiVersion", Literal::Text("v1"))]),
    ("k8s.io.api.core.v1.FileKeySelector", &[Rule::Default("optional", Literal::Bool(false))]),
    ("k8s.io.api.core.v1.SecurityContext", &[Rule::Check(context)]),
    ("k8s.io.api.core.v1.WindowsSecurityContextOptions", &[Rule::Check(windows)]),
    ("k8s.io.api.core.v1.AppArmorProfile", &[Rule::Check(app_armor)]),
];

/// `Always` for a tag that moves, else `IfNotPresent`.
fn pull_policy(container: &mut Object) {
    let policy = default_pull_policy(member(container, "image"));
    fill(container, "imagePullPolicy", policy);
}

/// The pull policy of an image reference by its tag and digest.
pub fn default_pull_policy(image: &str) -> &'static str {
    if !reference(image) {
        return "IfNotPresent";
    }
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    match tag {
        Some("latest") => "Always",
        None if !digest && !image.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

/// Whether an image's name is well formed: a domain, maybe, and steps of small letters and digits.
fn reference(image: &str) -> bool {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let mut steps: Vec<&str> = name.split('/').collect();
    if let Some(last) = steps.last_mut() {
        *last = last.split_once(':').map_or(*last, |(last, _)| last);
    }
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    // 64 hexadecimal digits are an image id, not a name; and the length includes the default domain.
    if (name.len() == 64 && name.bytes().all(hex)) || name.len() > 255 - "docker.io/library/".len() {
        return false;
    }
    if steps.len() > 1 && (steps[0].contains(['.', ':']) || steps[0] == "localhost") {
        let host = steps.remove(0);
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let part = |part: &str| end(part.as_bytes().first()) && end(part.as_bytes().last());
        if !host.split('.').all(part) {
            return false;
        }
    }
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    steps.iter().all(|step| {
        let bytes = step.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(&first), Some(&last)) if good(first) && good(last))
            && bytes.iter().all(|&b| good(b) || matches!(b, b'.' | b'_' | b'-'))
    })
}

/// Requests that are unset take the limits' values.
pub fn requests_from_limits(container: &mut Tree) {
    let Some(resources) = container.get_mut("resources").and_then(Tree::as_object_mut) else { return };
    let Some(limits) = resources.get("limits").and_then(Tree::as_object).cloned() else { return };
    let requests = crate::tree::as_object(resources.entry("requests").or_insert(Tree::Null));
    for (name, value) in limits {
        requests.entry(name).or_insert(value);
    }
}

/// On the host's network a container's ports are the host's.
pub fn fill_host_ports(container: &mut Tree) {
    for port in container.get_mut("ports").and_then(Tree::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        if let Some(number) = port.get("containerPort").cloned() {
            fill(port, "hostPort", number);
        }
    }
}

/// Checks that apply to containers of every sort.
pub(super) fn check_common(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    name_and_image(container, path, errors);
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(container, path, place, errors);
    env_from(container, path, errors);
    mounts(container, path, place, errors);
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    let at = path.field("resources");
    resources::requirements(get(container, "resources"), &at, Some(place.claims), errors);
    resize(container, text(place.spec, "restartPolicy"), &path.field("resizePolicy"), errors);
    security::proc_mount(container, place.spec, path, errors);
}

fn name_and_image(container: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let name = text(container, "name");
    if name.is_empty() {
        errors.push(path.field("name").required(""));
    } else {
        rules::format(name, names::dns1123_label(name), &path.field("name"), errors);
    }
    let image = text(container, "image");
    if image.trim() != image {
        errors.push(path.field("image").invalid(image, "must not have leading or trailing whitespace"));
    } else if image.is_empty() {
        errors.push(path.field("image").required(""));
    }
}

pub(super) fn check(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    check_common(container, path, place, errors);
    let restart = text(container, "restartPolicy");
    let resize_path = path.field("resizePolicy");
    if place.init && (has(container, "restartPolicy") || needs_policy(container, path, errors)) {
        restarts(container, path, errors);
    }
    let lonely_init = place.init && restart != "Always";
    for (field, kind) in [
        ("lifecycle", None),
        ("livenessProbe", Some(probe::Kind::Liveness)),
        ("readinessProbe", Some(probe::Kind::Readiness)),
        ("startupProbe", Some(probe::Kind::Startup)),
    ] {
        let value = get(container, field);
        let at = path.field(field);
        match (value.is_null(), lonely_init, kind) {
            (true, ..) => {}
            (false, true, _) => {
                errors.push(at.forbidden("may not be set for init containers without restartPolicy=Always"));
            }
            (false, false, Some(kind)) => probe::check(value, kind, place.grace, &at, errors),
            (false, false, None) => {
                for hook in ["postStart", "preStop"] {
                    if has(value, hook) {
                        probe::hook(get(value, hook), place.grace, &at.field(hook), errors);
                    }
                }
            }
        }
    }
    if !place.init {
        needs_policy(container, path, errors);
        restarts(container, path, errors);
    }
    if lonely_init {
        for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
            if !is_full(errors) && text(policy, "restartPolicy") == "RestartContainer" {
                let at = resize_path.index(index);
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(at.field("restartPolicy").invalid("RestartContainer", detail));
            }
        }
    }
}

/// Rules for a restart change a policy, which must be there. The rules of an init container that has none are not looked at.
fn needs_policy(container: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) -> bool {
    if !list(container, "restartPolicyRules").is_empty() && !has(container, "restartPolicy") {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(path.field("restartPolicy").required(detail));
    }
    false
}

/// Whether and after which exits a container is started again.
fn restarts(container: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const MOST_RULES: usize = 20;
    const MOST_CODES: usize = 255;
    let rules = list(container, "restartPolicyRules");
    rules::one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    let all = path.field("restartPolicyRules");
    if rules.len() > MOST_RULES {
        errors.push(all.too_many(rules.len(), MOST_RULES));
    }
    for (index, rule) in rules.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        supported(rule, "action", &["Restart", "RestartAllContainers"], &at, errors);
        let (codes, at) = (get(rule, "exitCodes"), at.field("exitCodes"));
        if codes.is_null() {
            errors.push(at.required("must be specified"));
            continue;
        }
        supported(codes, "operator", &["In", "NotIn"], &at, errors);
        let count = list(codes, "values").len();
        if count > MOST_CODES {
            errors.push(at.field("values").too_many(count, MOST_CODES));
        }
    }
}

/// One of the values, which the empty one is not.
fn supported(tree: &Tree, field: &str, values: &[&str], path: &Path<'_>, errors: &mut Vec<Cause>) {
    let value = text(tree, field);
    if !values.contains(&value) {
        errors.push(path.field(field).not_supported(value, values));
    }
}

fn resize(container: &Tree, pod_restarts: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut seen = Seen::new();
    for (index, policy) in list(container, "resizePolicy").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let name = text(policy, "resourceName");
        if seen.repeats(name) {
            errors.push(path.index(index).duplicate(name));
        }
        for (field, values) in
            [("resourceName", ["cpu", "memory"]), ("restartPolicy", ["NotRequired", "RestartContainer"])]
        {
            match text(policy, field) {
                "" => errors.push(path.required("")),
                value if values.contains(&value) => {}
                value => errors.push(path.not_supported(value, &values)),
            }
        }
        let policy = text(policy, "restartPolicy");
        if pod_restarts == "Never" && policy != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(path.invalid(policy, detail));
        }
    }
}

fn one_of(tree: &Tree, field: &str, values: &[&str], path: &Path<'_>, errors: &mut Vec<Cause>) {
    let value = text(tree, field);
    if value.is_empty() {
        errors.push(path.field(field).required(""));
    } else if !values.contains(&value) {
        errors.push(path.field(field).not_supported(value, values));
    }
}

fn ports(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("ports");
    let mut seen = Seen::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            rules::format(name, names::port_name(name), &at.field("name"), errors);
            if seen.repeats(name) {
                errors.push(at.field("name").duplicate(name));
            }
        }
        let (inside, outside) = (number(port, "containerPort"), number(port, "hostPort"));
        if inside == 0 {
            errors.push(at.field("containerPort").required(""));
        } else {
            rules::port(inside, &at.field("containerPort"), errors);
        }
        if outside != 0 {
            rules::port(outside, &at.field("hostPort"), errors);
        }
        if place.host_network && outside != 0 && outside != inside {
            let detail = "must match `containerPort` when `hostNetwork` is true";
            errors.push(at.field("hostPort").invalid(outside, detail));
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &at, errors);
    }
}

/// A host port may be taken once per protocol and address.
pub(super) fn host_ports(
    container: &Tree,
    path: &Path<'_>,
    seen: &mut Seen<String>,
    errors: &mut Vec<Cause>,
) {
    let all = path.field("ports");
    for (index, port) in list(container, "ports").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let number = number(port, "hostPort");
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
        if seen.repeats(key.clone()) {
            errors.push(all.index(index).field("hostPort").duplicate(&key));
        }
    }
}
