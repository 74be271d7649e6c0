//! Configuration files (`--config`): YAML or JSON of one of upstream's kinds.
//!
//! A field nothing reads is a warning, not an error: a file written for upstream may use more of it
//! than this daemon does, and must still start it. A repeated key, a wrong type, kind or version is an error.

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
}

/// Reads `path` as `kind` of `api_version` (e.g. `kubelet.config.k8s.io/v1beta1`, `KubeletConfiguration`).
pub fn load<T: DeserializeOwned>(path: &Path, api_version: &str, kind: &str) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let (value, unread) = parse(&text, path, api_version, kind)?;
    crate::absent::warn_of_fields(unread);
    Ok(value)
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
    }

    #[test]
    fn reads_the_kind_and_names_what_nothing_reads() {
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
