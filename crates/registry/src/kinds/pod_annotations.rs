//! Annotations that mean something to pods, most of them older than the field in their place.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;

use super::warnings::app_armor_profile;
use crate::kinds::container::local_path;
use crate::tree::{get, list, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";

fn containers(spec: &Tree) -> impl Iterator<Item = (&'static str, usize, &Tree)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(spec, field).iter().enumerate().map(move |(index, one)| (field, index, one)))
}

/// Each annotation for itself, of a pod or a template.
pub(super) fn check(annotations: &Tree, spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let value = |key: &str| annotations.get(key).and_then(Tree::as_str);
    if let Some(mirror) = value(MIRROR).filter(|_| text(spec, "nodeName").is_empty()) {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(path.key(MIRROR).invalid(mirror, detail));
    }
    if let Some(tolerations) = value(TOLERATIONS).filter(|text| !text.is_empty()) {
        match serde_json::from_str::<Vec<Tree>>(tolerations) {
            Ok(all) => super::pod_spec::tolerations(&all, &path.field(TOLERATIONS), errors),
            Err(error) => errors.push(path.invalid(TOLERATIONS, &error.to_string())),
        }
    }
    if let Some(cost) = value(DELETION_COST).filter(|cost| !is_cost(cost)) {
        errors.push(path.key(DELETION_COST).invalid(cost, "must be a 32bit integer"));
    }
    if let Some(profile) = value(SECCOMP_POD) {
        seccomp(profile, &path.field(SECCOMP_POD), errors);
    }
    let all = annotations.as_object().into_iter().flatten();
    let mut noted: Vec<(&str, &Tree)> = all.map(|(key, value)| (key.as_str(), value)).collect();
    noted.sort_unstable_by_key(|(key, _)| *key);
    for (key, profile) in noted.iter().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER)) {
        if is_full(errors) {
            break;
        }
        seccomp(profile.as_str().unwrap_or_default(), &path.field(key), errors);
    }
    let names: Seen<&str> = containers(spec).map(|(_, _, one)| text(one, "name")).collect();
    for (key, profile) in noted {
        if is_full(errors) {
            break;
        }
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        if !names.contains(name) {
            errors.push(path.key(key).invalid(name, "container not found"));
        }
        let profile = profile.as_str().unwrap_or_default();
        let known = matches!(profile, "" | "runtime/default" | "unconfined");
        if !known && !profile.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {profile:?}");
            errors.push(path.key(key).invalid(profile, &detail));
        }
    }
}

/// Without a plus, and without zeros in front.
fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let first = text == "0" || !digits.starts_with(['0', '+']);
    first && text.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        other => match other.strip_prefix("localhost/") {
            Some(file) => local_path(file, path, errors),
            None => errors.push(path.invalid(other, "must be a valid seccomp profile")),
        },
    }
}

/// Annotations and the fields in their place say the same.
pub(super) fn match_fields(annotations: &Tree, spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let value = |key: &str| annotations.get(key).and_then(Tree::as_str);
    let at = path.field("securityContext");
    if let Some(noted) = value(SECCOMP_POD) {
        same_seccomp(noted, get(spec, "securityContext.seccompProfile"), &at, errors);
    }
    for (field, index, one) in containers(spec) {
        if is_full(errors) {
            break;
        }
        let Some(noted) = value(&format!("{SECCOMP_CONTAINER}{}", text(one, "name"))) else { continue };
        let at = path.field(field);
        let at = at.index(index);
        let at = at.field("securityContext");
        same_seccomp(noted, get(one, "securityContext.seccompProfile"), &at, errors);
    }
    if text(spec, "os.name") == "windows" {
        return;
    }
    for (field, index, one) in containers(spec) {
        if is_full(errors) {
            break;
        }
        let Some(noted) = value(&format!("{APP_ARMOR}{}", text(one, "name"))) else { continue };
        let own = match get(one, "securityContext.appArmorProfile") {
            Tree::Null => get(spec, "securityContext.appArmorProfile"),
            own => own,
        };
        let at = path.field(field);
        let at = at.index(index);
        let at = at.field("securityContext.appArmorProfile");
        let noted_type = app_armor_profile(noted);
        let noted_type = noted_type.as_ref().map_or("", |profile| text(profile, "type"));
        if own.is_null() {
            continue;
        }
        if noted_type != text(own, "type") {
            errors.push(at.field("type").forbidden("apparmor type in annotation and field must match"));
        } else if noted_type == "Localhost" && app_armor_profile(noted).as_ref() != Some(own) {
            let detail = "apparmor profile in annotation and field must match";
            errors.push(at.field("localhostProfile").forbidden(detail));
        }
    }
}

fn same_seccomp(noted: &str, own: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = path.field("seccompProfile");
    let right = match text(own, "type") {
        "" => return,
        "Unconfined" => noted == "unconfined",
        "RuntimeDefault" => matches!(noted, "runtime/default" | "docker/default"),
        "Localhost" => match noted.strip_prefix("localhost/") {
            Some(file) if file != text(own, "localhostProfile") => {
                let detail = "seccomp profile in annotation and field must match";
                errors.push(at.field("localhostProfile").forbidden(detail));
                return;
            }
            other => other.is_some(),
        },
        _ => return,
    };
    if !right {
        errors.push(at.field("type").forbidden("seccomp type in annotation and field must match"));
    }
}
