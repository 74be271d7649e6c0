//! ConfigMaps and Secrets.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::names;

use crate::generic::Profile;
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, as_object, entries, flag, get, has, same, text};

const SIZE_MAX: usize = 1 << 20;

pub(super) const RULES: Table = &[(
    "k8s.io.api.core.v1.Secret",
    &[Rule::Default("type", Literal::Text("Opaque")), Rule::DefaultFn(string_data)],
)];

pub(super) const PROFILES: &[Profile] = &[
    Profile { check: Some(config_map), full: true, ..Profile::new("", "configmaps") },
    Profile {
        check: Some(secret),
        warn: Some(super::warnings::secret),
        full: true,
        ..Profile::new("", "secrets")
    },
];

/// `stringData` is written only: its values go to `data`, encoded.
fn string_data(secret: &mut Object) {
    let Some(Tree::Object(plain)) = secret.shift_remove("stringData") else { return };
    let data = as_object(secret.entry("data").or_insert(Tree::Null));
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        data.insert(key, base64(text.as_bytes()).into());
    }
    data.sort_keys();
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let used = digit <= chunk.len();
            out.push(if used { DIGITS[(bits >> (18 - 6 * digit) & 63) as usize] as char } else { '=' });
        }
    }
    out
}

fn decoded(value: &str) -> usize {
    value.trim_end_matches('=').len() * 3 / 4
}

fn immutable(object: &Tree, old: Option<&Tree>, fields: &[&str], errors: &mut Vec<Cause>) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    let Some(old) = old.filter(|old| flag(old, "immutable")) else { return };
    if !flag(object, "immutable") {
        errors.push(Path::new("immutable").forbidden(DETAIL));
    }
    for field in fields {
        if !same(get(object, field), get(old, field)) {
            errors.push(Path::new(field).forbidden(DETAIL));
        }
    }
}

fn config_map(_: &Context<'_>, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    immutable(object, old, &["data", "binaryData"], errors);
    let mut size = 0;
    for field in ["data", "binaryData"] {
        let path = Path::new(field);
        for (key, value) in entries(object, field) {
            if is_full(errors) {
                break;
            }
            errors.extend(names::config_key(key).iter().map(|problem| path.key(key).invalid(key, problem)));
            let twin = get(object, "binaryData").get(key).is_some();
            if field == "data" && twin {
                errors.push(path.key(key).invalid(key, "duplicate of key present in binaryData"));
            }
            let value = value.as_str().unwrap_or_default();
            size += if field == "data" { value.len() } else { decoded(value) };
        }
    }
    if size > SIZE_MAX {
        errors.push(Cause { field: "[]".to_owned(), ..Path::root().too_long(SIZE_MAX) });
    }
}

fn secret(_: &Context<'_>, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    static DATA: Path<'static> = Path::new("data");
    let kind = text(object, "type");
    if let Some(old) = old
        && kind != text(old, "type")
    {
        errors.push(Path::new("type").invalid(kind, "field is immutable"));
    }
    immutable(object, old, &["data"], errors);
    let mut size = 0;
    for (key, value) in entries(object, "data") {
        if is_full(errors) {
            break;
        }
        errors.extend(names::config_key(key).iter().map(|problem| DATA.key(key).invalid(key, problem)));
        size += decoded(value.as_str().unwrap_or_default());
    }
    if size > SIZE_MAX {
        errors.push(DATA.too_long(SIZE_MAX));
    }
    let missing = |key: &str| get(object, "data").get(key).is_none();
    let mut require = |keys: &[&str]| {
        let absent = keys.iter().filter(|key| missing(key));
        errors.extend(absent.map(|key| DATA.key(key).required("")));
    };
    match kind {
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"]),
        "kubernetes.io/dockerconfigjson" => require(&[".dockerconfigjson"]),
        "kubernetes.io/dockercfg" => require(&[".dockercfg"]),
        "kubernetes.io/ssh-auth" => {
            let key = get(object, "data").get("ssh-privatekey").and_then(Tree::as_str);
            if key.is_none_or(str::is_empty) {
                errors.push(DATA.key("ssh-privatekey").required(""));
            }
        }
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            require(&["username", "password"]);
        }
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            let annotations = get(object, "metadata.annotations");
            if annotations.get(annotation).and_then(Tree::as_str).is_none_or(str::is_empty) {
                let path = Path::new("metadata.annotations");
                errors.push(path.key(annotation).required(""));
            }
        }
        _ => {}
    }
    for (kind_of, key) in
        [("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")]
    {
        let value = get(object, "data").get(key).and_then(Tree::as_str).unwrap_or_default();
        if kind == kind_of
            && has(object, "data")
            && !missing(key)
            && (value.is_empty() || !looks_like_json(value))
        {
            let first = first_byte(value) as char;
            let detail = match value {
                "" => "unexpected end of JSON input".to_owned(),
                _ => format!("invalid character '{first}' looking for beginning of value"),
            };
            errors.push(DATA.key(key).invalid("<secret contents redacted>", &detail));
        }
    }
}

fn first_byte(encoded: &str) -> u8 {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    match encoded.as_bytes() {
        [a, b, ..] => value(*a) << 2 | value(*b) >> 4,
        _ => b' ',
    }
}

fn looks_like_json(encoded: &str) -> bool {
    matches!(first_byte(encoded), b'{' | b' ' | b'\n' | b'\t' | b'\r')
}

#[cfg(test)]
mod tests {
    #[test]
    fn encodes() {
        for (text, expect) in
            [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("admin", "YWRtaW4=")]
        {
            assert_eq!(super::base64(text.as_bytes()), expect);
        }
        assert_eq!(super::first_byte("eA=="), b'x');
    }
}
