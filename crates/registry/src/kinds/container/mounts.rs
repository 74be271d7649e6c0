//! What a container mounts, and paths in it.

use super::*;

pub(super) fn mounts(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("volumeMounts");
    let mut seen = Seen::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let (name, to) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(at.field("name").required(""));
        }
        if !place.volumes.contains_key(name) {
            errors.push(at.field("name").not_found(name));
        }
        if to.is_empty() {
            errors.push(at.field("mountPath").required(""));
        }
        if seen.repeats(to) {
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
        read_only(mount, &all, errors);
    }
    devices(container, path, place, errors);
}

/// What is mounted below a read-only mount is read-only too.
fn read_only(mount: &Tree, all: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = all.field("recursiveReadOnly");
    match rules::given(mount, "recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                errors.push(at.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(rules::given(mount, "mountPropagation"), None | Some("None")) {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(at.forbidden(detail));
            }
        }
        Some(other) => errors.push(at.not_supported(other, &["Disabled", "Enabled", "IfPossible"])),
    }
}

pub(super) fn devices(container: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("volumeDevices");
    let (mut names, mut paths) = (Seen::new(), Seen::new());
    for (index, device) in list(container, "volumeDevices").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let (name, device_path) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            errors.push(at.field("name").required(""));
        }
        if names.repeats(name) {
            errors.push(at.field("name").invalid(name, "must be unique"));
        }
        if let Some(volume) = place.volumes.get(name) {
            if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") {
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
        if paths.repeats(device_path) {
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
