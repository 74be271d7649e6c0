//! A request as an aggregated server gets it: the path and query as they were understood here, and the user in headers that it
//! believes because of our certificate.

use std::net::IpAddr;

use access::request_info::parameters;
use access::user::User;
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::proxy;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What of a request is not in its headers.
pub struct Sent<'a> {
    pub user: &'a User,
    pub client: Option<IpAddr>,
    /// Path and query.
    pub path: &'a str,
    /// `host:port` of the server.
    pub address: &'a str,
    pub audit_id: Option<&'a HeaderValue>,
    pub upgrade: bool,
}

/// The headers for the backend. An error where the user cannot be said in headers: it would be taken for another.
pub fn headers(from: &HeaderMap, sent: &Sent<'_>) -> Result<HeaderMap, String> {
    let mut to = HeaderMap::with_capacity(from.len() + 8);
    proxy::copy_headers(from, &mut to, sent.upgrade);
    for name in from
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        if !name.trim().eq_ignore_ascii_case("upgrade") {
            to.remove(name.trim());
        }
    }
    let claims: Vec<HeaderName> =
        to.keys().filter(|name| name.as_str().starts_with(EXTRA)).cloned().collect();
    claims.iter().chain(&[USER, UID, GROUP]).for_each(|name| drop(to.remove(name)));
    identity(sent.user, &mut to)?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| invalid("X-Forwarded-Uri"));
    if let Some(client) = sent.client {
        let former = from.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> = former.map(str::to_owned).chain([client.to_canonical().to_string()]).collect();
        to.insert(FORWARDED_FOR, value(&all.join(", "))?);
    }
    if !sent.upgrade {
        to.insert(FORWARDED_URI, value(sent.path.split('?').next().unwrap_or_default())?);
        to.insert(FORWARDED_HOST, value(sent.address)?);
        to.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
    to.insert(HOST, value(sent.address)?);
    if let Some(audit_id) = sent.audit_id {
        to.insert(AUDIT_ID, audit_id.clone());
    }
    Ok(to)
}

/// Says who the user is.
pub fn identity(user: &User, to: &mut HeaderMap) -> Result<(), String> {
    let value = |name: &str, text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|_| invalid(name));
    to.insert(USER, value("X-Remote-User", &user.name)?);
    if !user.uid.is_empty() {
        to.insert(UID, value("X-Remote-Uid", &user.uid)?);
    }
    for group in &user.groups {
        to.append(GROUP, value("X-Remote-Group", group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped_key(key));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid(&name))?;
        for text in values {
            to.append(header.clone(), value(&name, text)?);
        }
    }
    Ok(())
}

fn invalid(name: &str) -> String {
    format!("net/http: invalid header field value for {name:?}")
}

/// What is no token of HTTP is escaped, and the sign of escapes.
fn escaped_key(key: &str) -> String {
    escaped(key.as_bytes(), |byte| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte))
}

fn escaped(bytes: &[u8], plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match plain(*byte) {
            true => out.push(char::from(*byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

/// The path and query to ask for: decoded as they were to authorize them, and encoded anew, so that the backend reads what this
/// server has read.
pub fn path_of(uri: &Uri) -> String {
    let mut path = escaped(&decoded(uri.path()), |byte| is_unreserved(byte) || b"$&+,/:;=@".contains(&byte));
    let mut query: Vec<_> = parameters(uri.query().unwrap_or_default()).collect();
    query.sort_by(|one, other| one.0.cmp(&other.0));
    for (at, (name, value)) in query.iter().enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        let encode = |text: &str| {
            escaped(text.as_bytes(), |byte| is_unreserved(byte) || byte == b' ').replace(' ', "+")
        };
        path.push_str(&format!("{}={}", encode(name), encode(value)));
    }
    path
}

fn decoded(path: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (byte, behind.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => (bytes.push(byte), rest = &behind[2..]).0,
            _ => (bytes.push(*byte), rest = behind).0,
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_was_authorized() {
        for (asked, expect) in [
            ("/apis/a/v1/x", "/apis/a/v1/x"),
            ("/apis/a/v1%2Fx/b%20c", "/apis/a/v1/x/b%20c"),
            ("/apis/a/v1/x?watch=1&a=b+c&a=%3D", "/apis/a/v1/x?a=b+c&a=%3D&watch=1"),
            ("/apis/a/v1/x?l=a%2Cb&c", "/apis/a/v1/x?c=&l=a%2Cb"),
            ("/apis/a/v1/x:y@z!", "/apis/a/v1/x:y@z%21"),
            ("/apis/a/v1/%25zz", "/apis/a/v1/%25zz"),
        ] {
            assert_eq!(path_of(&asked.parse().unwrap()), expect);
        }
    }

    fn sent<'a>(user: &'a User, upgrade: bool) -> Sent<'a> {
        let client = Some("10.0.0.1".parse().unwrap());
        Sent { user, client, path: "/apis/a/v1?b=c", address: "10.0.0.9:443", audit_id: None, upgrade }
    }

    #[test]
    fn nobody_says_who_he_is_but_this_server() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-uid", "0"),
            ("x-remote-extra-scopes", "all"),
            ("connection", "close, x-dropped"),
            ("x-dropped", "1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("accept", "application/json"),
        ] {
            from.append(name, HeaderValue::from_static(value));
        }
        let user = User {
            name: "jürgen".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: [("acme.com/x%y".to_owned(), vec!["1".to_owned(), "2".to_owned()])].into(),
            ..User::default()
        };
        let got = headers(&from, &sent(&user, false)).unwrap();
        let mut shown: Vec<String> = got
            .iter()
            .map(|(name, value)| format!("{name}: {}", std::str::from_utf8(value.as_bytes()).unwrap()))
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "accept: application/json",
                "host: 10.0.0.9:443",
                "x-forwarded-for: 10.0.0.2, 10.0.0.1",
                "x-forwarded-host: 10.0.0.9:443",
                "x-forwarded-proto: https",
                "x-forwarded-uri: /apis/a/v1",
                "x-remote-extra-acme.com%2fx%25y: 1",
                "x-remote-extra-acme.com%2fx%25y: 2",
                "x-remote-group: a",
                "x-remote-group: b",
                "x-remote-user: jürgen",
            ]
        );
        let unsayable = User { name: "a\nb".to_owned(), ..User::default() };
        assert!(headers(&from, &sent(&unsayable, false)).is_err());
    }

    #[test]
    fn an_upgrade_is_asked_for() {
        let mut from = HeaderMap::new();
        from.insert("connection", HeaderValue::from_static("Upgrade"));
        from.insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
        let user = User::default();
        let got = headers(&from, &sent(&user, true)).unwrap();
        assert_eq!(
            (&got["connection"], &got["upgrade"]),
            (&"Upgrade".parse().unwrap(), &"SPDY/3.1".parse().unwrap())
        );
        assert!(!headers(&from, &sent(&user, false)).unwrap().contains_key("upgrade"));
    }
}
