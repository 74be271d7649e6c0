//! A container: what it is by default and what it may be.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::kinds::{probe, resources};
use crate::rules::{self, Literal, Rule, Table};
use crate::tree::{Object, fill, flag, get, has, int, list, member, number, text, texts};

/// Where a container stands.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub volumes: &'a [&'a str],
    /// Names of `spec.resourceClaims`.
    pub claims: &'a [&'a str],
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
    ("k8s.io.api.core.v1.SecurityContext", &[Rule::Check(security)]),
    ("k8s.io.api.core.v1.AppArmorProfile", &[Rule::Check(app_armor)]),
];

/// `Always` for a tag that moves, else `IfNotPresent`.
fn pull_policy(container: &mut Object) {
    if container.get("image").is_some() || container.contains_key("name") {
        let policy = default_pull_policy(member(container, "image"));
        fill(container, "imagePullPolicy", policy);
    }
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
    // That would be an identity; and the name has its default domain before it.
    if (name.len() == 64 && name.bytes().all(hex)) || name.len() > 255 - "docker.io/library/".len() {
        return false;
    }
    if steps.len() > 1 && (steps[0].contains(['.', ':']) || steps[0] == "localhost") {
        steps.remove(0);
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

pub(super) fn check(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
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
    let restart = text(container, "restartPolicy");
    rules::one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(container, path, place, errors);
    env_from(container, path, errors);
    mounts(container, path, place, errors);
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    resources::requirements(
        get(container, "resources"),
        &path.field("resources"),
        Some(place.claims),
        errors,
    );
    resize(container, &path.field("resizePolicy"), errors);
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
}

fn resize(container: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let policies = list(container, "resizePolicy");
    for (index, policy) in policies.iter().enumerate() {
        let name = text(policy, "resourceName");
        if policies[..index].iter().any(|other| text(other, "resourceName") == name) {
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
    let ports = list(container, "ports");
    let all = path.field("ports");
    for (index, port) in ports.iter().enumerate() {
        let at = all.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            rules::format(name, names::port_name(name), &at.field("name"), errors);
            if ports[..index].iter().any(|other| text(other, "name") == name) {
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
pub(super) fn host_ports(container: &Tree, path: &Path<'_>, seen: &mut Vec<String>, errors: &mut Vec<Cause>) {
    let all = path.field("ports");
    for (index, port) in list(container, "ports").iter().enumerate() {
        let number = number(port, "hostPort");
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
        if seen.contains(&key) {
            errors.push(all.index(index).field("hostPort").duplicate(&key));
        }
        seen.push(key);
    }
}

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const ENV_RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

fn env(variable: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let name = text(variable, "name");
    if name.is_empty() {
        errors.push(path.field("name").required(""));
    } else {
        rules::format(name, names::env_var_name(name), &path.field("name"), errors);
    }
    if !has(variable, "valueFrom") {
        return;
    }
    let (from, at) = (get(variable, "valueFrom"), path.field("valueFrom"));
    const SOURCES: [&str; 5] =
        ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let sources = SOURCES.iter().filter(|source| has(from, source)).count();
    if has(from, "fieldRef") {
        field_ref(get(from, "fieldRef"), &ENV_FIELDS, &at.field("fieldRef"), errors);
    }
    if has(from, "resourceFieldRef") {
        resource_ref(get(from, "resourceFieldRef"), false, &at.field("resourceFieldRef"), errors);
    }
    for source in ["configMapKeyRef", "secretKeyRef"] {
        if has(from, source) {
            let (reference, at) = (get(from, source), at.field(source));
            let name = text(reference, "name");
            rules::format(name, names::dns1123_subdomain(name), &at.field("name"), errors);
            key(text(reference, "key"), &at.field("key"), errors);
        }
    }
    if has(from, "fileKeyRef") {
        let (reference, at) = (get(from, "fileKeyRef"), at.field("fileKeyRef"));
        for field in ["key", "volumeName", "path"] {
            if text(reference, field).is_empty() {
                errors.push(at.field(field).required(""));
            }
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(at.invalid("", detail));
    } else if !text(variable, "value").is_empty() {
        errors.push(at.invalid("", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(at.invalid("", "may not have more than one field specified at a time"));
    }
}

/// The key of a ConfigMap or Secret that is referred to.
pub fn key(key: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if key.is_empty() {
        errors.push(path.required(""));
    } else {
        rules::format(key, names::config_key(key), path, errors);
    }
}

/// A reference to one of the pod's own fields.
pub fn field_ref(reference: &Tree, supported: &[&str], path: &Path<'_>, errors: &mut Vec<Cause>) {
    let field = text(reference, "fieldPath");
    let version = text(reference, "apiVersion");
    if version.is_empty() {
        errors.push(path.field("apiVersion").required(""));
        return;
    }
    if field.is_empty() {
        errors.push(path.field("fieldPath").required(""));
        return;
    }
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.push(path.field("fieldPath").invalid(field, &detail));
        return;
    }
    let subscript = field.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    if let Some((map @ ("metadata.labels" | "metadata.annotations"), key)) = subscript {
        let key = if map == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
        errors.extend(names::qualified_name(&key).iter().map(|problem| path.invalid(&*key, problem)));
        return;
    }
    const KNOWN: [&str; 12] = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.podIP",
    ];
    if !KNOWN.contains(&field) && !matches!(field, "status.hostIPs" | "status.podIPs") {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(path.field("fieldPath").invalid(field, &detail));
    } else if !supported.contains(&field) {
        errors.push(path.field("fieldPath").not_supported(field, supported));
    }
}

/// A reference to a container's requests or limits; in volumes it names the container.
pub fn resource_ref(reference: &Tree, volume: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let resource = text(reference, "resource");
    if volume && text(reference, "containerName").is_empty() {
        errors.push(path.field("containerName").required(""));
    } else if resource.is_empty() {
        errors.push(path.field("resource").required(""));
    } else if !ENV_RESOURCES.contains(&resource) && !resource.contains(".hugepages-") {
        errors.push(path.field("resource").not_supported(resource, &ENV_RESOURCES));
    }
    let divisor = text(reference, "divisor");
    let (allowed, kind): (&[&str], _) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"], "cpu"),
        name @ ("memory" | "ephemeral-storage") => {
            (&["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"], name)
        }
        _ => return,
    };
    if !matches!(divisor, "" | "0") && !allowed.contains(&divisor) {
        let detail = if kind == "cpu" {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        } else {
            let kind = if kind == "memory" { "memory" } else { "local ephemeral storage" };
            format!(
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {kind} resource"
            )
        };
        errors.push(path.field("divisor").invalid(resource, &detail));
    }
}

fn env_from(container: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("envFrom");
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let at = all.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            rules::format(prefix, names::env_var_name(prefix), &at.field("prefix"), errors);
        }
        let mut sources = 0;
        for kind in ["configMapRef", "secretRef"] {
            if has(source, kind) {
                sources += 1;
                let (name, at) = (text(get(source, kind), "name"), at.field(kind));
                if name.is_empty() {
                    errors.push(at.field("name").required(""));
                } else {
                    rules::format(name, names::dns1123_subdomain(name), &at.field("name"), errors);
                }
            }
        }
        if sources == 0 {
            errors.push(all.invalid("", "must specify one of: `configMapRef` or `secretRef`"));
        } else if sources > 1 {
            errors.push(all.invalid("", "may not have more than one field specified at a time"));
        }
    }
}

fn mounts(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    let mounts = list(container, "volumeMounts");
    let all = path.field("volumeMounts");
    for (index, mount) in mounts.iter().enumerate() {
        let at = all.index(index);
        let (name, to) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(at.field("name").required(""));
        }
        if !place.volumes.contains(&name) {
            errors.push(at.field("name").not_found(name));
        }
        if to.is_empty() {
            errors.push(at.field("mountPath").required(""));
        }
        if mounts[..index].iter().any(|other| text(other, "mountPath") == to) {
            errors.push(at.field("mountPath").invalid(to, "must be unique"));
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        for (field, value) in [("subPath", sub), ("subPathExpr", expression)] {
            if !value.is_empty() {
                local_path(value, &all.field(field), errors);
            }
        }
        if !sub.is_empty() && !expression.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(at.field("subPathExpr").invalid(expression, detail));
        }
        match rules::given(mount, "mountPropagation").unwrap_or("None") {
            "None" | "HostToContainer" => {}
            "Bidirectional" if flag(container, "securityContext.privileged") => {}
            "Bidirectional" => errors.push(
                all.field("mountPropagation")
                    .forbidden("Bidirectional mount propagation is available only to privileged containers"),
            ),
            other => errors.push(
                all.field("mountPropagation")
                    .not_supported(other, &["Bidirectional", "HostToContainer", "None"]),
            ),
        }
    }
    devices(container, path, place, errors);
}

fn devices(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    let devices = list(container, "volumeDevices");
    let all = path.field("volumeDevices");
    for (index, device) in devices.iter().enumerate() {
        let at = all.index(index);
        let (name, device_path) = (text(device, "name"), text(device, "devicePath"));
        let before = &devices[..index];
        if name.is_empty() {
            errors.push(at.field("name").required(""));
        }
        if before.iter().any(|other| text(other, "name") == name) {
            errors.push(at.field("name").invalid(name, "must be unique"));
        }
        if place.volumes.contains(&name) {
            let own = list(place.spec, "volumes").iter().find(|volume| text(volume, "name") == name);
            let block = |volume: &Tree| has(volume, "persistentVolumeClaim") || has(volume, "ephemeral");
            if !own.is_none_or(block) {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(at.field("name").invalid(name, detail));
            }
        } else {
            errors.push(at.field("name").not_found(name));
        }
        if device_path.is_empty() {
            errors.push(at.field("devicePath").required(""));
        }
        if before.iter().any(|other| text(other, "devicePath") == device_path) {
            errors.push(at.field("devicePath").invalid(device_path, "must be unique"));
        }
        if device_path.split('/').any(|step| step == "..") {
            errors.push(at.field("devicePath").invalid(device_path, "can not contain backsteps ('..')"));
        }
    }
}

/// A path below some root: relative, and never up.
pub fn local_path(value: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if value.starts_with('/') {
        errors.push(path.invalid(value, "must be a relative path"));
    }
    no_backsteps(value, path, errors);
}

pub fn no_backsteps(value: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if value.split('/').any(|step| step == "..") {
        errors.push(path.invalid(value, "must not contain '..'"));
    }
}

pub(super) fn user_id(id: i64, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if !(0..=2_147_483_647).contains(&id) {
        errors.push(path.invalid(id, "must be between 0 and 2147483647, inclusive"));
    }
}

fn security(context: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for field in ["runAsUser", "runAsGroup"] {
        if let Some(id) = int(context, field) {
            user_id(id, &path.field(field), errors);
        }
    }
    rules::one_of(context, "procMount", &["Default", "Unmasked"], path, errors);
    if get(context, "allowPrivilegeEscalation") == &Tree::Bool(false) {
        let added = texts(context, "capabilities.add").any(|capability| capability == "CAP_SYS_ADMIN");
        for (wrong, what) in [
            (flag(context, "privileged"), "`privileged` to true"),
            (added, "`capabilities.Add` CAP_SYS_ADMIN"),
        ] {
            if wrong {
                let shown = crate::internal::shown(context, "core.v1.SecurityContext");
                let verb = if what.starts_with("`privileged") { "and" } else { "when adding" };
                let detail = format!("cannot set `allowPrivilegeEscalation` to false {verb} {what}");
                errors.push(path.invalid(shown, &detail));
            }
        }
    }
}

fn app_armor(profile: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let local = text(profile, "localhostProfile");
    match text(profile, "type") {
        "Localhost" if local.is_empty() => {
            errors
                .push(path.field("localhostProfile").required("must be set when AppArmor type is Localhost"));
        }
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" => {
            if !local.is_empty() {
                let detail = "can only be set when AppArmor type is Localhost";
                errors.push(path.field("localhostProfile").invalid(local, detail));
            }
        }
        "" => errors.push(path.field("type").required("type is required when appArmorProfile is set")),
        other => {
            errors.push(
                path.field("type").not_supported(other, &["Localhost", "RuntimeDefault", "Unconfined"]),
            );
        }
    }
}

pub(super) fn seccomp(profile: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
    let (kind, local, at) =
        (text(profile, "type"), text(profile, "localhostProfile"), path.field("localhostProfile"));
    match kind {
        "" => errors.push(path.field("type").required("type is required when seccompProfile is set")),
        kind if TYPES.contains(&kind) => {}
        other => errors.push(path.field("type").not_supported(other, &TYPES)),
    }
    match (kind, local) {
        ("Localhost", _) if !has(profile, "localhostProfile") => errors.push(at.required("must be set when seccomp type is Localhost")),
        ("Localhost", local) => local_path(local, &at, errors),
        _ if has(profile, "localhostProfile") => {
            let shown = crate::internal::shown(profile, "core.v1.SeccompProfile");
            errors.push(at.invalid(shown, "can only be set when seccomp type is Localhost"));
        }
        _ => {}
    }
}
