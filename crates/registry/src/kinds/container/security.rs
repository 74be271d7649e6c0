//! Under which rights a container runs.

use super::*;

pub(in crate::kinds) fn user_id(id: i64, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if !(0..=2_147_483_647).contains(&id) {
        errors.push(path.invalid(id, "must be between 0 and 2147483647, inclusive"));
    }
}

pub(super) fn security(context: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
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
                let detail = format!("cannot set `allowPrivilegeEscalation` to false and {what}");
                errors.push(path.invalid(shown, &detail));
            }
        }
    }
}

pub(super) fn app_armor(profile: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
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

pub(in crate::kinds) fn seccomp(profile: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
    let (kind, local, at) =
        (text(profile, "type"), text(profile, "localhostProfile"), path.field("localhostProfile"));
    match kind {
        "" => errors.push(path.field("type").required("type is required when seccompProfile is set")),
        kind if TYPES.contains(&kind) => {}
        other => errors.push(path.field("type").not_supported(other, &TYPES)),
    }
    match (kind, local) {
        ("Localhost", _) if !has(profile, "localhostProfile") => {
            errors.push(at.required("must be set when seccomp type is Localhost"))
        }
        ("Localhost", local) => local_path(local, &at, errors),
        _ if has(profile, "localhostProfile") => {
            let shown = crate::internal::shown(profile, "core.v1.SeccompProfile");
            errors.push(at.invalid(shown, "can only be set when seccomp type is Localhost"));
        }
        _ => {}
    }
}
