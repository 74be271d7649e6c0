//! ConfigMaps and Secrets.

use api::Tree;
use api::status::Cause;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::names;

use crate::profile::Profile;
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, as_object, entries, flag, get, same, text};

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
    let Some(Tree::Object(plain)) = secret.remove("stringData") else { return };
    let data = as_object(secret.entry("data").or_insert(Tree::Null));
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        data.insert(key, STANDARD.encode(text).into());
    }
    data.sort_keys();
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
            let in_both = get(object, "binaryData").get(key).is_some();
            if field == "data" && in_both {
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
        if kind == kind_of && !missing(key) {
            let value = bytes(get(object, "data").get(key).and_then(Tree::as_str).unwrap_or_default());
            if let Some(problem) = api::decode::object_problem(&value) {
                errors.push(DATA.key(key).invalid("<secret contents redacted>", &problem));
            }
        }
    }
}

/// What a value is, decoded.
pub(super) fn bytes(value: &str) -> Vec<u8> {
    STANDARD.decode(value).unwrap_or_default()
}
