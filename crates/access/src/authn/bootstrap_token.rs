//! Bootstrap tokens, `id.secret`, kept in secrets `bootstrap-token-<id>` of kube-system: how a new node first speaks.

use base64::Engine as _;
use watchcache::resources::Resources;

use crate::kinds;
use crate::user::User;

const DEFAULT_GROUP: &str = "system:bootstrappers";

pub fn authenticate(resources: &Resources, token: &str) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if !plain(id, 6) || !plain(secret, 16) {
        return None;
    }
    let object = resources.read(kinds::secrets(), "kube-system", &format!("bootstrap-token-{id}")).ok()??;
    // bytes that are no text stay something that is there, and that no check lets pass
    let data = |name: &str| {
        let text = object["data"][name].as_str()?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
    };
    if object["type"] != "bootstrap.kubernetes.io/token"
        || object["metadata"]["deletionTimestamp"].is_string()
    {
        return None;
    }
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(
        data("token-secret")?.as_bytes(),
        secret.as_bytes(),
    );
    if same.is_err() || data("token-id")? != id || data("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    if let Some(expiration) = data("expiration") {
        let expires: jiff::Timestamp = expiration.parse().ok()?;
        if expires <= jiff::Timestamp::now() {
            return None;
        }
    }
    let groups = groups(&data("auth-extra-groups").unwrap_or_default())?;
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// The groups of a token's user; none where one is named that is not for such users.
fn groups(extra: &str) -> Option<Vec<String>> {
    let valid = |group: &str| {
        let Some(name) = group.strip_prefix("system:bootstrappers:") else { return false };
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":-".contains(&byte);
        (1..=256).contains(&name.len())
            && name.bytes().all(inner)
            && name.bytes().last().is_some_and(|last| !b":-".contains(&last))
    };
    let mut groups = std::collections::BTreeSet::from([DEFAULT_GROUP.to_owned()]);
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        valid(group).then(|| groups.insert(group.to_owned()))?;
    }
    Some(groups.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_extra_groups_are_refused() {
        let check = |extra: &str, expect: Option<&str>| {
            assert_eq!(groups(extra).map(|groups| groups.join(" ")).as_deref(), expect, "{extra}");
        };
        check("", Some("system:bootstrappers"));
        check(
            "system:bootstrappers:b,system:bootstrappers:a:x-1",
            Some("system:bootstrappers system:bootstrappers:a:x-1 system:bootstrappers:b"),
        );
        for extra in [
            "system:masters",
            "system:bootstrappers:",
            "system:bootstrappers:a-",
            "system:bootstrappers:A",
            ",",
        ] {
            check(&format!("system:bootstrappers:a,{extra}"), None);
        }
    }
}
