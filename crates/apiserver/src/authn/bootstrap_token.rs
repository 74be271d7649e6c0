//! Bootstrap tokens, `id.secret`, kept in secrets `bootstrap-token-<id>` of kube-system: how a new node first speaks.

use base64::Engine as _;

use crate::kinds;
use crate::resources::Resources;
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
    let object = resources.get(kinds::secrets(), "kube-system", &format!("bootstrap-token-{id}"))?.tree();
    let data = |name: &str| {
        let text = object["data"][name].as_str()?;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok()
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
    let mut groups = vec![DEFAULT_GROUP.to_owned()];
    let extra = data("auth-extra-groups").unwrap_or_default();
    groups.extend(
        extra.split(',').filter(|group| group.starts_with("system:bootstrappers:")).map(str::to_owned),
    );
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}
