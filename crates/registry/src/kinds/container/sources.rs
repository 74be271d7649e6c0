//! Sources of a container's environment.

use super::*;

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

type FieldCheck = fn(&str, &Path<'_>, &mut Vec<Cause>);

pub(super) fn env(variable: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
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
        for (field, check) in [
            (
                "key",
                (|key, at, errors| rules::format(key, names::env_var_name(key), at, errors)) as FieldCheck,
            ),
            ("volumeName", |name, at, errors| rules::format(name, names::dns1123_label(name), at, errors)),
            ("path", no_backsteps),
        ] {
            match text(reference, field) {
                "" => errors.push(at.field(field).required("")),
                value => check(value, &at.field(field), errors),
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
    const BYTES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, kind): (&[&str], _) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"], "cpu"),
        "memory" => (&BYTES, "memory"),
        "ephemeral-storage" => (&BYTES, "local ephemeral storage"),
        name if name.starts_with("hugepages-") => (&BYTES, "hugepages"),
        _ => return,
    };
    if !matches!(divisor, "" | "0") && !allowed.contains(&divisor) {
        let detail = if kind == "cpu" {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        } else {
            format!(
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {kind} resource"
            )
        };
        errors.push(path.field("divisor").invalid(resource, &detail));
    }
}

pub(super) fn env_from(container: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("envFrom");
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        if is_full(errors) {
            break;
        }
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
