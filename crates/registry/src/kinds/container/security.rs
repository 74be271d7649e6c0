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

/// All of `/proc` is for containers whose users are not the host's.
pub(super) fn proc_mount(container: &Tree, spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let unmasked = text(container, "securityContext.procMount") == "Unmasked";
    if unmasked && get(spec, "hostUsers") != &Tree::Bool(false) {
        let at = path.field("securityContext");
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(at.field("procMount").invalid("Unmasked", detail));
    }
}

/// Whom a container on Windows runs as.
pub(super) fn windows(options: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const SPEC_KIB: usize = 64;
    rules::formatted(options, "gmsaCredentialSpecName", names::dns1123_subdomain, path, errors);
    if let Some(spec) = rules::given(options, "gmsaCredentialSpec") {
        let at = path.field("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.push(at.invalid(spec, "gmsaCredentialSpec cannot be an empty string"));
        } else if spec.len() > SPEC_KIB << 10 {
            errors.push(at.invalid(spec, &format!("gmsaCredentialSpec size must be under {SPEC_KIB} KiB")));
        }
    }
    if let Some(user) = rules::given(options, "runAsUserName") {
        let at = path.field("runAsUserName");
        errors.extend(windows_user(user).iter().map(|problem| at.invalid(user, problem)));
    }
}

/// Complaints about `user` or `domain\user`.
fn windows_user(name: &str) -> Vec<String> {
    const DOMAIN_BELOW: usize = 256;
    const USER_MOST: usize = 104;
    let alone = |problem: &str| vec![format!("runAsUserName {problem}")];
    if name.is_empty() {
        return alone("cannot be an empty string");
    }
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return alone("cannot contain control characters");
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => return alone("cannot contain more than one backslash"),
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut problems = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_BELOW {
            problems.push(format!("runAsUserName's Domain length must be under {DOMAIN_BELOW} characters"));
        }
        if !net_bios(domain) && !domain.split('.').all(windows_label) {
            problems.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        problems.push("runAsUserName's User cannot be empty".to_owned());
        return problems;
    }
    if user.len() > USER_MOST {
        problems.push(format!("runAsUserName's User length must not be longer than {USER_MOST} characters"));
    }
    if user.bytes().all(|byte| matches!(byte, b'.' | b' ')) {
        problems.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let characters = r#""/\:;|=,+*?<>@[]"#;
        problems.push(format!("runAsUserName's User cannot contain the following characters: {characters}"));
    }
    problems
}

fn net_bios(domain: &str) -> bool {
    let count = domain.chars().count();
    (1..=15).contains(&count)
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn windows_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    (1..=63).contains(&bytes.len())
        && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(super) fn app_armor(profile: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let local = text(profile, "localhostProfile");
    match text(profile, "type") {
        "Localhost" if local.is_empty() => {
            errors
                .push(path.field("localhostProfile").required("must be set when AppArmor type is Localhost"));
        }
        "Localhost" => {
            const MOST: usize = 4095;
            let at = path.field("localhostProfile");
            if local.trim() != local {
                errors.push(at.invalid(local, "must not be padded with whitespace"));
            }
            if local.len() > MOST {
                errors.push(at.too_long(MOST));
            }
        }
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
