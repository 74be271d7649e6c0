//! Identity that a request claims: a bearer token, a front proxy's headers, the names in a certificate. Every daemon's
//! secure port reads them here.
//!
//! A credential that is present and cannot be read is an error and never ignored: the request would be treated as another
//! user's. Values may be any UTF-8, as they are in Go's servers.

use std::collections::BTreeMap;

use base64::Engine as _;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

/// A browser, which cannot give a WebSocket an Authorization header, names its token as a protocol.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Something of a request that says who its user is, and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the value of the header {0} is not UTF-8")]
    Value(HeaderName),
    #[error("the name of the header {0} is not UTF-8 once unescaped")]
    Key(HeaderName),
    #[error("multiple base64.bearer.authorization tokens specified")]
    Tokens,
    #[error("invalid base64.bearer.authorization token encoding")]
    Encoding,
    #[error("invalid base64.bearer.authorization token")]
    Token,
    #[error("missing additional subprotocol")]
    Alone,
}

/// A user by name, as certificates and headers give it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The headers in which a front proxy says whom it speaks for.
#[derive(Clone, Debug, Default)]
pub struct ProxyHeaders {
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
}

impl ProxyHeaders {
    /// Whether a header of this name, in lower case, is one of these.
    pub fn reads(&self, name: &str) -> bool {
        let is = |own: &String| own.eq_ignore_ascii_case(name);
        [&self.username, &self.uid, &self.group].into_iter().flatten().any(is)
            || self.extra_prefix.iter().any(|prefix| name.starts_with(&prefix.to_ascii_lowercase()))
    }

    /// Whom the request is for; `None` where no user is named. That the sender may say so is for the caller to check.
    pub fn identity(&self, headers: &HeaderMap) -> Result<Option<Identity>, Unreadable> {
        let Some(name) = first(headers, &self.username)? else { return Ok(None) };
        let mut identity = Identity { name, ..Identity::default() };
        identity.uid = first(headers, &self.uid)?.unwrap_or_default();
        for header in &self.group {
            identity.groups.extend(texts(headers, header)?.into_iter().filter(|group| !group.is_empty()));
        }
        for prefix in &self.extra_prefix {
            for (key, values) in extra(headers, prefix)? {
                identity.extra.entry(key).or_default().extend(values);
            }
        }
        Ok(Some(identity))
    }
}

/// The first of these headers that has a value; of several values the first counts.
fn first(headers: &HeaderMap, names: &[String]) -> Result<Option<String>, Unreadable> {
    for name in names {
        let found = texts(headers, name)?.into_iter().next().filter(|text| !text.is_empty());
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// All values of a header.
pub fn texts(headers: &HeaderMap, name: &str) -> Result<Vec<String>, Unreadable> {
    let Ok(name) = name.parse::<HeaderName>() else { return Ok(Vec::new()) };
    headers.get_all(&name).iter().map(|value| text(&name, value).map(str::to_owned)).collect()
}

fn text<'v>(name: &HeaderName, value: &'v HeaderValue) -> Result<&'v str, Unreadable> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| Unreadable::Value(name.clone()))
}

/// What headers of a prefix say: the rest of a name, unescaped, is a key.
pub fn extra(headers: &HeaderMap, prefix: &str) -> Result<BTreeMap<String, Vec<String>>, Unreadable> {
    let prefix = prefix.to_ascii_lowercase();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(&prefix) else { continue };
        let key = unescape(key).ok_or_else(|| Unreadable::Key(name.clone()))?;
        extra.entry(key).or_default().push(text(name, value)?.to_owned());
    }
    Ok(extra)
}

/// Decodes percent encoding. A text that is not well escaped stays as it is; `None` when the result is not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Some(text.to_owned());
        };
        bytes.push(byte);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// The bearer token of a request: that of its Authorization header, or what a browser names as a protocol of a WebSocket.
pub fn token(headers: &HeaderMap) -> Result<Option<String>, Unreadable> {
    match bearer(headers)? {
        Some(token) => Ok(Some(token)),
        None => protocol_token(headers),
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>, Unreadable> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    // another scheme is not for us, whatever its value
    let bytes = value.as_bytes().trim_ascii();
    let scheme = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    let token = text(&AUTHORIZATION, value)?.trim().split(' ').nth(1).unwrap_or_default();
    Ok((!token.is_empty()).then(|| token.to_owned()))
}

fn protocol_token(headers: &HeaderMap) -> Result<Option<String>, Unreadable> {
    let websocket =
        headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let upgrades =
        |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().windows(7).any(|text| text == b"upgrade");
    if !websocket || !headers.get_all(CONNECTION).iter().any(upgrades) {
        return Ok(None);
    }
    let offered = texts(headers, SEC_WEBSOCKET_PROTOCOL.as_str())?;
    let offered = offered.iter().flat_map(|value| value.split(',')).map(str::trim);
    let (tokens, others): (Vec<&str>, Vec<&str>) = offered.partition(|part| is_token(part));
    let encoded = match tokens.as_slice() {
        [] => return Ok(None),
        [token] => &token[BEARER_PROTOCOL.len()..],
        _ => return Err(Unreadable::Tokens),
    };
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded);
    let token =
        String::from_utf8(decoded.map_err(|_| Unreadable::Encoding)?).map_err(|_| Unreadable::Token)?;
    match (token.is_empty(), others.is_empty()) {
        (true, _) => Ok(None),
        (false, true) => Err(Unreadable::Alone),
        (false, false) => Ok(Some(token)),
    }
}

/// Whether a WebSocket protocol is a token.
fn is_token(protocol: &str) -> bool {
    protocol.starts_with(BEARER_PROTOCOL)
}

/// Takes the token out, and every header that `names_user` takes by its name: none of it is a backend's business.
pub fn strip(headers: &mut HeaderMap, names_user: impl Fn(&str) -> bool) {
    headers.remove(AUTHORIZATION);
    let names: Vec<HeaderName> = headers.keys().filter(|name| names_user(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    // a header that is not text cannot be searched and names no protocol
    let Ok(offered) = texts(headers, SEC_WEBSOCKET_PROTOCOL.as_str()) else {
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        return;
    };
    if !offered.iter().any(|value| value.split(',').any(|part| is_token(part.trim()))) {
        return;
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for value in offered {
        let rest: Vec<&str> = value.split(',').map(str::trim).filter(|part| !is_token(part)).collect();
        if let Ok(value) = HeaderValue::from_bytes(rest.join(", ").as_bytes())
            && !rest.is_empty()
        {
            headers.append(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
}

#[cfg(test)]
mod tests;
