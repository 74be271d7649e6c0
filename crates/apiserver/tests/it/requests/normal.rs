//! The normal form of an answer: what differs from run to run has a name in angle brackets in its place.

use http::header::HeaderMap;
use serde_json::{Map, Value, json};

const HEADERS: [&str; 5] = ["allow", "location", "retry-after", "www-authenticate", "x-content-type-options"];

pub fn answer(parts: &http::response::Parts, body: &[u8]) -> Value {
    let mut out = Map::new();
    out.insert("code".to_owned(), parts.status.as_u16().into());
    let header = |headers: &HeaderMap, name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    out.extend(header(&parts.headers, "content-type").map(|kind| ("type".to_owned(), kind.into())));
    for name in HEADERS {
        out.extend(header(&parts.headers, name).map(|value| (name.to_owned(), value.into())));
    }
    let warnings: Vec<Value> = parts
        .headers
        .get_all("warning")
        .iter()
        .map(|value| text(value.to_str().unwrap_or_default()).into())
        .collect();
    if !warnings.is_empty() {
        out.insert("warnings".to_owned(), warnings.into());
    }
    out.insert("body".to_owned(), content(body));
    out.into()
}

fn content(body: &[u8]) -> Value {
    let Ok(whole) = std::str::from_utf8(body) else { return json!({"bytes": true}) };
    if whole.is_empty() {
        return "".into();
    }
    let frames: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(whole).into_iter().collect();
    match frames {
        Ok(mut frames) if frames.len() == 1 => value("", frames.remove(0)),
        Ok(frames) => frames.into_iter().map(|frame| value("", frame)).collect::<Vec<_>>().into(),
        Err(_) => text(whole).into(),
    }
}

fn value(key: &str, tree: Value) -> Value {
    match tree {
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, inner)| (key.clone(), value(&key, inner))).collect())
        }
        Value::Array(items) => {
            let mut items: Vec<_> = items.into_iter().map(|inner| value(key, inner)).collect();
            if key == "managedFields" {
                // in order of their times, which are all but the same
                items.sort_by_key(Value::to_string);
            }
            items.into()
        }
        Value::String(own) if own.is_empty() => own.into(),
        Value::String(own) => match key {
            "uid" | "creationTimestamp" | "token" | "continue" => format!("<{key}>").into(),
            "resourceVersion" if own.bytes().all(|byte| byte.is_ascii_digit()) => "<version>".into(),
            "serverAddress" => "<address>".into(),
            "cells" if is_age(&own) => "<age>".into(),
            _ => text(&own).into(),
        },
        other => other,
    }
}

fn is_age(text: &str) -> bool {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    digits.len() < text.len() && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Text with its names, times and versions replaced.
fn text(whole: &str) -> String {
    let mut out = whole.to_owned();
    replace(&mut out, "<uid>", |rest| {
        let shape = [8, 4, 4, 4, 12];
        let mut at = 0;
        for (index, length) in shape.iter().enumerate() {
            if index > 0 {
                at += usize::from(rest.get(at..=at)? == "-");
            }
            let part = rest.get(at..at + length)?;
            if !part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
                return None;
            }
            at += length;
        }
        (at == 36).then_some(36)
    });
    replace(&mut out, "<time>", |rest| {
        let stamp = rest.get(..20)?;
        let shape = "dddd-dd-ddTdd:dd:ddZ";
        let fits = stamp.bytes().zip(shape.bytes()).all(|(own, wanted)| match wanted {
            b'd' => own.is_ascii_digit(),
            other => own == other,
        });
        fits.then_some(20)
    });
    for (mark, length) in [("kube-api-access-", 5), ("gen-", 5), ("Gen_", 5), ("X509SHA256=", 64)] {
        replace_after(
            &mut out,
            mark,
            |rest| rest.get(..length).filter(|own| is_word(own)).map(str::len),
            "<random>",
        );
    }
    for mark in [
        "ResourceVersion in record (",
        "ResourceVersion in object meta: ",
        "current: ",
        "resourceVersion\":\"",
        "resourceVersion\\\":\\\"",
        "resourceVersion: \"",
        "too old resource version: 1 (",
        "ResourceVersion: ",
    ] {
        replace_after(&mut out, mark, digits, "<version>");
    }
    out
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn digits(rest: &str) -> Option<usize> {
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    (length > 0).then_some(length)
}

/// Replaces wherever `matching` answers how long what it found is.
fn replace(out: &mut String, by: &str, matching: impl Fn(&str) -> Option<usize>) {
    let mut at = 0;
    while at < out.len() {
        match out.get(at..).and_then(&matching) {
            Some(length) => {
                out.replace_range(at..at + length, by);
                at += by.len();
            }
            None => at += 1,
        }
    }
}

fn replace_after(out: &mut String, mark: &str, matching: impl Fn(&str) -> Option<usize>, by: &str) {
    let mut at = 0;
    while let Some(found) = out.get(at..).and_then(|rest| rest.find(mark)) {
        at += found + mark.len();
        if let Some(length) = out.get(at..).and_then(&matching) {
            out.replace_range(at..at + length, by);
        }
    }
}
