//! URLs, read as Go reads the target of a request: absolute, or a path from the root.

use std::sync::Arc;

use super::{Context, Extended, Row, row, take};
use crate::error::EvalError;
use crate::text;
use crate::value::{Map, Outcome, Table, Value};

pub(crate) const ROWS: &[Row] = &[
    row("string_to_url", "url(string) -> kubernetes.URL", url),
    row("is_url_string", "isURL(string) -> bool", is_url),
    row("url_get_scheme", ".getScheme(kubernetes.URL) -> string", scheme),
    row("url_get_host", ".getHost(kubernetes.URL) -> string", host),
    row("url_get_hostname", ".getHostname(kubernetes.URL) -> string", hostname),
    row("url_get_port", ".getPort(kubernetes.URL) -> string", port),
    row("url_get_escaped_path", ".getEscapedPath(kubernetes.URL) -> string", path),
    row("url_get_query", ".getQuery(kubernetes.URL) -> map(string, list(string))", query),
];

#[derive(Debug, Default)]
pub struct Url {
    /// As it was written.
    pub text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

/// Reads a URL, or says what is wrong with it in Go's words.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let wrong = |reason: String| format!("parse {}: {reason}", text::quote(text));
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(wrong("net/url: invalid control character in URL".to_owned()));
    }
    if text.is_empty() {
        return Err(wrong("empty url".to_owned()));
    }
    let mut url = Url { text: text.to_owned(), ..Url::default() };
    if text == "*" {
        url.path = "*".to_owned();
        return Ok(url);
    }
    let (scheme, rest) = split_scheme(text).map_err(wrong)?;
    url.scheme = scheme.to_ascii_lowercase();
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.query = query.to_owned();
    if !rest.starts_with('/') {
        if url.scheme.is_empty() {
            return Err(wrong("invalid URI for request".to_owned()));
        }
        // An opaque one, such as `mailto:a@b`.
        return Ok(url);
    }
    let has_authority = rest.starts_with("//") && (!url.scheme.is_empty() || !rest.starts_with("///"));
    let path = match rest.strip_prefix("//").filter(|_| has_authority && !url.scheme.is_empty()) {
        None => rest,
        Some(after) => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            url.host = parse_authority(authority).map_err(wrong)?;
            path
        }
    };
    check_escapes(path).map_err(wrong)?;
    url.path = escaped_path(path);
    Ok(url)
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn parse_authority(authority: &str) -> Result<String, String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some((user, _)) = authority.rsplit_once('@')
        && user.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._:~!$&'()*+,;=%@".contains(c))
    {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let port = match host.strip_prefix('[') {
        Some(inner) => match inner.rfind(']') {
            None => return Err("missing ']' in host".to_owned()),
            Some(end) => &inner[end + 1..],
        },
        None => host.find(':').map_or("", |at| &host[host.rfind(':').unwrap_or(at)..]),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_port {
        return Err(format!("invalid port {} after host", text::quote(port)));
    }
    check_escapes(host)?;
    let wrong = host
        .chars()
        .find(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"%".contains(*c));
    match wrong {
        Some(c) => Err(format!("invalid character {} in host name", text::quote(&c.to_string()))),
        None => Ok(host.to_owned()),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let escape: String = text[at..].chars().take(3).collect();
        let is_hex = escape.len() == 3 && escape[1..].bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Err(format!("invalid URL escape {}", text::quote(&escape)));
        }
    }
    Ok(())
}

/// The path as it was written where that is a valid one, and otherwise with all escaped that must be.
fn escaped_path(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    if path.bytes().all(|byte| is_plain(byte) || b"!'()*[]%".contains(&byte)) {
        return path.to_owned();
    }
    let mut out = String::with_capacity(path.len());
    for byte in bytes_of(path, false).unwrap_or_else(|| path.as_bytes().to_vec()) {
        if is_plain(byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A part of a query without escapes; `None` where one is broken.
fn unescaped(text: &str) -> Option<String> {
    bytes_of(text, true).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes_of(text: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' if plus_is_space => bytes.push(b' '),
            b'%' => {
                let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    Some(bytes)
}

fn url<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => match parse(text) {
        Ok(url) => Ok(Value::Extended(Extended::Url(Arc::new(url)))),
        Err(message) => Err(EvalError::message(format!("URL parse error during conversion from string: {message}"))),
    })
}

fn is_url<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::Bool(parse(text).is_ok())))
}

fn part<'v>(context: &Context<'_>, args: &[Value<'v>], of: fn(&Url) -> &str) -> Outcome<Value<'v>> {
    take!(context, args, [Value::Extended(Extended::Url(url))] => Ok(Value::text(of(url))))
}

/// Host and port apart, without the brackets of an address.
fn host_and_port(host: &str) -> (&str, &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

fn scheme<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |url| &url.scheme)
}

fn host<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |url| &url.host)
}

fn hostname<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |url| host_and_port(&url.host).0)
}

fn port<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |url| host_and_port(&url.host).1)
}

fn path<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |url| &url.path)
}

fn query<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::Extended(Extended::Url(url))] => {
        let mut values: Vec<(String, Vec<Value<'v>>)> = Vec::new();
        for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) else { continue };
            match values.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => known.push(Value::text(value)),
                None => values.push((key, vec![Value::text(value)])),
            }
        }
        let mut table = Table::default();
        for (key, values) in values {
            table.insert(Value::text(key), Value::list(values));
        }
        Ok(Value::Map(Map::table(table)))
    })
}
