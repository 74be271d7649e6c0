//! What a request says of who its user is: read once, and never seen by a backend that the request is passed on to.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// A browser, which cannot give a WebSocket an Authorization header, names its token as a protocol.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The bearer token of a request: its Authorization header, or what a browser smuggles in a WebSocket protocol.
pub fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    use base64::Engine as _;
    headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok()).find_map(|value| {
        let encoded = value.split(',').find_map(|part| part.trim().strip_prefix(BEARER_PROTOCOL))?;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
        String::from_utf8(bytes).ok()
    })
}

/// Takes out the token, what impersonation asks and whatever else `told` says, given a header's name.
pub fn strip(headers: &mut HeaderMap, told: impl Fn(&str) -> bool) {
    headers.remove(AUTHORIZATION);
    let told = |name: &&HeaderName| name.as_str().starts_with("impersonate-") || told(name.as_str());
    let names: Vec<HeaderName> = headers.keys().filter(told).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    let offered: Vec<HeaderValue> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
    let is_token = |part: &str| part.trim().starts_with(BEARER_PROTOCOL);
    if !offered.iter().any(|value| value.to_str().is_ok_and(|text| text.split(',').any(is_token))) {
        return;
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for value in offered.iter().filter_map(|value| value.to_str().ok()) {
        let rest: Vec<&str> = value.split(',').map(str::trim).filter(|part| !is_token(part)).collect();
        if let Ok(value) = HeaderValue::from_str(&rest.join(", "))
            && !rest.is_empty()
        {
            headers.append(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_see_nothing_of_the_user() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer a"),
            ("impersonate-user", "a"),
            ("impersonate-extra-scopes", "a"),
            ("x-remote-user", "a"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.YQ, v5.channel.k8s.io"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.YQ"),
            ("x-remote-addr", "kept"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(bearer(&headers).as_deref(), Some("a"));
        strip(&mut headers, |name| matches!(name, "x-remote-user" | "x-remote-group"));
        let left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&("sec-websocket-protocol", "v5.channel.k8s.io")));
        assert!(left.contains(&("x-remote-addr", "kept")));
    }
}
