//! Configuration files (`--config`): YAML or JSON of one of upstream's kinds.
//!
//! A field nothing reads is a warning, not an error: a file written for upstream may use more of it
//! than this daemon does, and must still start it. A repeated key, a wrong type, kind or version is an error; and so is a
//! field that upstream does not know either, where a daemon knows upstream's fields ([`load_strict`]).
//! Files that say who may do what are read by [`strict`] instead, where an unknown field is an error too.
//! A field that is null is one that is not set.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to load config file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("failed to decode config file {path}: {message}")]
    Decode { path: PathBuf, message: String },
    #[error(
        "failed to decode config file {path}: no kind {kind:?} is registered for version {api_version:?}"
    )]
    Kind { path: PathBuf, kind: String, api_version: String },
    #[error("strict decoding error: {}", unknown(.0))]
    Unknown(Vec<String>),
}

fn unknown(fields: &[String]) -> String {
    let texts: Vec<String> = fields.iter().map(|field| format!("unknown field {field:?}")).collect();
    texts.join(", ")
}

/// Reads `path` as `kind` of `api_version` (e.g. `kubelet.config.k8s.io/v1beta1`, `KubeletConfiguration`).
pub fn load<T: DeserializeOwned>(path: &Path, api_version: &str, kind: &str) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let (value, unread) = parse(&text, path, api_version, kind)?;
    crate::absent::warn_of_fields(unread);
    Ok(value)
}

/// Reads text as `kind` of one of the versions of `group`; what is wrong with it in upstream's words.
pub fn strict<T: DeserializeOwned>(
    text: &str,
    group: &str,
    versions: &[&str],
    kind: &str,
) -> Result<T, String> {
    let mut tree = yaml(text)?;
    without_nulls(&mut tree);
    let mut take = |name: &str| match tree.as_object_mut().and_then(|fields| fields.shift_remove(name)) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (found_version, found_kind) = (take("apiVersion"), take("kind"));
    for (name, found) in [("Kind", &found_kind), ("apiVersion", &found_version)] {
        if found.is_empty() {
            return Err(format!("Object '{name}' is missing in '{}'", text.trim_end()));
        }
    }
    let version = found_version.strip_prefix(group).and_then(|rest| rest.strip_prefix('/'));
    if found_kind != kind || !version.is_some_and(|version| versions.contains(&version)) {
        return Err(format!("no kind {found_kind:?} is registered for version {found_version:?}"));
    }
    let mut unknown = Vec::new();
    let value =
        serde_ignored::deserialize(tree, |field| unknown.push(format!("unknown field \"{}\"", path(&field))))
            .map_err(|error: serde_json::Error| error.to_string())?;
    match unknown.is_empty() {
        true => Ok(value),
        false => Err(format!("strict decoding error: {}", unknown.join(", "))),
    }
}

/// `a.b[0].c`.
fn path(field: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path::{Map, NewtypeStruct, NewtypeVariant, Root, Seq, Some};
    match field {
        Root => String::new(),
        Seq { parent, index } => format!("{}[{index}]", path(parent)),
        Map { parent, key } => match path(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => path(parent),
    }
}

/// Takes out of every map what is null: for upstream's daemons that is as if it were not there.
fn without_nulls(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// [`load`] for a kind all of whose fields are known: those that `T` does not read are `without_effect`, `a.b`, or an error.
pub fn load_strict<T: DeserializeOwned>(
    path: &Path,
    api_version: &str,
    kind: &str,
    without_effect: &[&str],
) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let (value, unread) = parse(&text, path, api_version, kind)?;
    let (known, unknown): (Vec<String>, Vec<String>) =
        unread.into_iter().partition(|field| without_effect.contains(&field.as_str()));
    if !unknown.is_empty() {
        return Err(Error::Unknown(unknown.iter().map(|field| with_brackets(field)).collect()));
    }
    crate::absent::warn_of_fields(known);
    Ok(value)
}

/// `a.0.b` as `a[0].b`.
fn with_brackets(field: &str) -> String {
    let mut text = String::new();
    for part in field.split('.') {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            text = format!("{text}[{part}]");
        } else if text.is_empty() {
            text.push_str(part);
        } else {
            text = format!("{text}.{part}");
        }
    }
    text
}

/// Any YAML or JSON text as a tree.
pub fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

fn parse<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    api_version: &str,
    kind: &str,
) -> Result<(T, Vec<String>), Error> {
    let decode = |message: String| Error::Decode { path: path.into(), message };
    let mut tree = yaml(text).map_err(decode)?;
    without_nulls(&mut tree);
    let Value::Object(fields) = &mut tree else {
        return Err(decode("the document is not a map".into()));
    };
    let mut take = |name: &str| match fields.shift_remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (found_version, found_kind) = (take("apiVersion"), take("kind"));
    if found_version != api_version || found_kind != kind {
        return Err(Error::Kind { path: path.into(), kind: found_kind, api_version: found_version });
    }
    let mut unread = Vec::new();
    let value = serde_ignored::deserialize(tree, |field| unread.push(field.to_string().replace(".?", "")))
        .map_err(|error: serde_json::Error| decode(error.to_string()))?;
    Ok((value, unread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Sample {
        fail_swap_on: bool,
        mode: u32,
        parts: Vec<Part>,
    }

    #[derive(serde::Deserialize, Debug, Default)]
    #[serde(default)]
    struct Part {
        name: String,
    }

    #[test]
    fn null_is_not_set() {
        let text = "apiVersion: g/v1\nkind: Sample\nfailSwapOn: null\nmode: 1\nparts: null\nother: null\n";
        let (sample, unread) = parse::<Sample>(text, Path::new("x"), "g/v1", "Sample").unwrap();
        assert!(!sample.fail_swap_on && sample.mode == 1 && sample.parts.is_empty() && unread.is_empty());
    }

    #[test]
    fn a_strict_file_has_nothing_unknown() {
        let read = |text: &str| strict::<Sample>(text, "g", &["v1", "v1beta1"], "Sample");
        let head = "apiVersion: g/v1\nkind: Sample\n";
        assert_eq!(read(&format!("{head}parts: [{{name: a}}]")).unwrap().parts[0].name, "a");
        for (text, expected) in [
            (
                format!("{head}parts: [{{name: a, x: 1}}]\ny: 2"),
                "strict decoding error: unknown field \"parts[0].x\", unknown field \"y\"",
            ),
            ("{}\n".into(), "Object 'Kind' is missing in '{}'"),
            (
                "apiVersion: g/v2\nkind: Sample".into(),
                "no kind \"Sample\" is registered for version \"g/v2\"",
            ),
            ("apiVersion: g/v1\nkind: Other".into(), "no kind \"Other\" is registered for version \"g/v1\""),
        ] {
            assert_eq!(read(&text).unwrap_err(), expected);
        }
    }

    #[test]
    fn unknown_fields_are_errors_where_all_are_known() {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[derive(Default)]
        struct List {
            items: Vec<Sample>,
        }
        let path = std::env::temp_dir().join(format!("daemon-strict-{}.yaml", std::process::id()));
        let load = |text: &str| {
            std::fs::write(&path, format!("apiVersion: g/v1\nkind: List\n{text}\n")).unwrap();
            load_strict::<List>(&path, "g/v1", "List", &["later"])
        };
        assert_eq!(load("later: {on: 1}\nitems: [{mode: 1}]").unwrap().items.len(), 1);
        let Err(error) = load("items: [{mode: 1}, {x: 1}]\ny: 2") else { panic!("taken") };
        let text = "strict decoding error: unknown field \"items[1].x\", unknown field \"y\"";
        assert_eq!(error.to_string(), text);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn reads_the_kind_and_names_what_nothing_reads() {
        let text = "apiVersion: g/v1\nkind: Sample\nmode: null\nfailSwapOn: null\n";
        let (sample, unread) = parse::<Sample>(text, Path::new("x"), "g/v1", "Sample").unwrap();
        assert!(!sample.fail_swap_on && sample.mode == 0 && unread.is_empty());
        let text = "apiVersion: g/v1\nkind: Sample\nfailSwapOn: true\nmode: 0644\nother: {a: 1}\n";
        let (sample, unread) = parse::<Sample>(text, Path::new("x"), "g/v1", "Sample").unwrap();
        assert!(sample.fail_swap_on);
        assert_eq!(sample.mode, 0o644);
        assert_eq!(unread, ["other"]);
        assert!(parse::<Sample>(text, Path::new("x"), "g/v2", "Sample").is_err());
        assert!(
            parse::<Sample>(
                "apiVersion: g/v1\nkind: Sample\nkind: Sample\n",
                Path::new("x"),
                "g/v1",
                "Sample"
            )
            .is_err()
        );
    }
}
