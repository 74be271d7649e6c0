//! What a request asks for, read off its method and path, as authorization and the handlers need it.

use std::borrow::Cow;

use http::{Method, Uri};

/// Upstream's attributes of a request. Strings are empty where the request says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it names an API resource (otherwise a path such as `/healthz` or `/apis/apps/v1`).
    pub is_resource_request: bool,
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for other paths the method in lower case.
    pub verb: String,
    /// Whether the path has the deprecated `/watch/` before its resource.
    pub below_watch: bool,
    /// `api` or `apis`.
    pub api_prefix: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// The path from the resource on: resource, name, subresource, and the rest (of a proxy path).
    pub parts: Vec<String>,
    pub field_selector: String,
    pub label_selector: String,
}

/// Subresources of `namespaces` that are not resources within the namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    pub fn of(method: &Method, uri: &Uri) -> RequestInfo {
        let mut info = RequestInfo {
            path: uri.path().to_owned(),
            verb: method.as_str().to_ascii_lowercase(),
            ..RequestInfo::default()
        };
        let path = decode(uri.path());
        let mut parts: Vec<String> = path.trim_matches('/').split('/').map(str::to_owned).collect();
        if parts.first().is_some_and(String::is_empty) {
            parts.clear();
        }
        if parts.len() < 3 || path.starts_with("//") {
            return info;
        }
        match parts[0].as_str() {
            "api" => info.api_prefix = parts.remove(0),
            "apis" => {
                if parts.len() < 4 {
                    return info;
                }
                info.api_prefix = parts.remove(0);
                info.group = parts.remove(0);
            }
            _ => return info,
        }
        info.is_resource_request = true;
        info.version = parts.remove(0);
        info.verb = match (method, parts[0].as_str()) {
            (_, verb @ ("proxy" | "watch")) => verb.to_owned(),
            (&Method::POST, _) => "create".to_owned(),
            (&Method::GET | &Method::HEAD, _) => "get".to_owned(),
            (&Method::PUT, _) => "update".to_owned(),
            (&Method::PATCH, _) => "patch".to_owned(),
            (&Method::DELETE, _) => "delete".to_owned(),
            _ => String::new(),
        };
        if matches!(parts[0].as_str(), "proxy" | "watch") {
            // names no resource
            if parts.len() < 2 {
                return info;
            }
            info.below_watch = parts.remove(0) == "watch";
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].clone();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
                parts.drain(..2);
            }
        }
        info.resource = parts[0].clone();
        info.name = parts.get(1).cloned().unwrap_or_default();
        if info.verb != "proxy" {
            info.subresource = parts.get(2).cloned().unwrap_or_default();
        }
        info.parts = parts;
        let query = uri.query().unwrap_or_default();
        if info.name.is_empty() && info.verb == "get" {
            info.verb = "list".to_owned();
            if flag(query, "watch") {
                info.verb = "watch".to_owned();
            }
            // A list of the one object a field selector names is authorized by that name.
            if let Some(name) = parameter(query, "fieldSelector").and_then(|text| name_of(&text)) {
                info.name = name;
            }
        } else if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection".to_owned();
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.field_selector = parameter(query, "fieldSelector").unwrap_or_default();
            info.label_selector = parameter(query, "labelSelector").unwrap_or_default();
        }
        info
    }
}

/// The first value of a query parameter, decoded.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// All query parameters, decoded, in order. What is not well escaped, or has a semicolon, is none, as in upstream's reading.
pub fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let readable = |pair: &&str| !pair.is_empty() && !pair.contains(';') && well_escaped(pair);
    query.split('&').filter(readable).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(key), decode_form(value))
    })
}

/// Whether two hexadecimal digits follow every percent sign.
pub fn well_escaped(text: &str) -> bool {
    let hex = |digits: &str| digits.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(hex)
}

/// A boolean parameter in upstream's reading: present and neither `false` nor `0`.
pub fn flag(query: &str, name: &str) -> bool {
    parameter(query, name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
}

fn name_of(selector: &str) -> Option<String> {
    let selector = machinery::fields::Selector::parse(selector).ok()?;
    selector.required("metadata.name").filter(|name| !name.is_empty()).map(str::to_owned)
}

fn decode_form(text: &str) -> Cow<'_, str> {
    if text.contains('+') { Cow::Owned(decode(&text.replace('+', " ")).into_owned()) } else { decode(text) }
}

/// Undoes percent encoding; what is not valid stays as it is.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, uri: &str, expect: [&str; 6]) {
        let info = RequestInfo::of(&method, &uri.parse().unwrap());
        let got = [&info.verb, &info.group, &info.namespace, &info.resource, &info.name, &info.subresource];
        assert_eq!(got.map(String::as_str), expect, "{uri}");
    }

    #[test]
    fn parameters_are_read_or_passed_over() {
        for (query, expect) in [
            ("a=1&b=%20+c&d", "a=1 b=  c d="),
            ("a=%zz&b=1", "b=1"),
            ("a=1;b=2&c=3", "c=3"),
            ("%=1&a%3=2&&=4&e=%e2%82%ac", "=4 e=€"),
        ] {
            let got: Vec<String> = parameters(query).map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(got.join(" "), expect, "{query}");
        }
    }

    #[test]
    fn reads_paths() {
        check(Method::GET, "/api/v1/pods", ["list", "", "", "pods", "", ""]);
        check(Method::GET, "/api/v1/pods?watch=true", ["watch", "", "", "pods", "", ""]);
        check(Method::GET, "/api/v1/pods?watch=0", ["list", "", "", "pods", "", ""]);
        check(Method::POST, "/api/v1/namespaces/a/pods", ["create", "", "a", "pods", "", ""]);
        check(Method::GET, "/api/v1/namespaces/a", ["get", "", "a", "namespaces", "a", ""]);
        check(
            Method::PUT,
            "/api/v1/namespaces/a/finalize",
            ["update", "", "a", "namespaces", "a", "finalize"],
        );
        check(
            Method::PATCH,
            "/apis/apps/v1/namespaces/a/deployments/b/status",
            ["patch", "apps", "a", "deployments", "b", "status"],
        );
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            ["deletecollection", "apps", "a", "deployments", "", ""],
        );
        check(Method::GET, "/api/v1/watch/pods", ["watch", "", "", "pods", "", ""]);
        check(
            Method::GET,
            "/api/v1/pods?fieldSelector=metadata.name%3Dx&watch=1",
            ["watch", "", "", "pods", "x", ""],
        );
        check(
            Method::GET,
            "/api/v1/secrets?fieldSelector=metadata.name!%3Dx%5C,metadata.name%3Dy",
            ["list", "", "", "secrets", "", ""],
        );
        check(
            Method::POST,
            "/api/v1/namespaces/a/pods/b/exec?command=sh",
            ["create", "", "a", "pods", "b", "exec"],
        );
        check(Method::GET, "/healthz", ["get", "", "", "", "", ""]);
    }
}
