//! `--config-dir`: files `*.conf` that amend the configuration, in the order of their names, each a merge patch.

use crate::config::{API_VERSION, KIND};
use serde_json::Value;
use std::path::Path;

/// Puts what the files below `folder` say into `configuration`: maps are merged, everything else is replaced, and null
/// brings the default back.
pub fn merge(folder: &Path, configuration: &mut Value) -> Result<(), String> {
    walk(folder, configuration).map_err(|error| {
        format!("failed to merge kubelet configs: failed to walk through kubelet dropin directory {folder:?}: {error}")
    })
}

fn walk(folder: &Path, configuration: &mut Value) -> Result<(), String> {
    let unread = |path: &Path, error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("lstat {}: no such file or directory", path.display()),
        _ => format!("open {}: {error}", path.display()),
    };
    let entries = std::fs::read_dir(folder).map_err(|error| unread(folder, error))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|error| unread(folder, error))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            // a ConfigMap volume has each file twice: as a link, and under its own name
            let link = path.symlink_metadata().is_ok_and(|it| it.is_symlink());
            if !link {
                walk(&path, configuration)?;
            }
        } else if path.extension().is_some_and(|it| it == "conf") {
            let failed = |error: String| {
                format!("failed to load kubelet dropin file, path: {}, error: {error}", path.display())
            };
            let text = std::fs::read_to_string(&path).map_err(|error| failed(unread(&path, error)))?;
            amend(&text, configuration).map_err(failed)?;
        }
    }
    Ok(())
}

fn amend(text: &str, configuration: &mut Value) -> Result<(), String> {
    let mut patch = daemon::config::yaml(text)?;
    let mut take = |name: &str| match patch.as_object_mut().and_then(|fields| fields.shift_remove(name)) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (version, kind) = (take("apiVersion"), take("kind"));
    if kind.is_empty() {
        return Err(format!("Object 'Kind' is missing in '{}'", text.trim_end()));
    }
    if version != API_VERSION || kind != KIND {
        return Err(format!("no kind {kind:?} is registered for version {version:?}"));
    }
    let merged = machinery::patch::merge(&configuration.take().into(), &patch.into());
    *configuration = merged.map_err(|error| error.to_string())?.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_amend_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{text}\n")).unwrap();
        };
        write(
            "10.conf",
            "maxPods: 41\nclusterDNS: [10.0.0.1]\nevictionHard: {memory.available: 5%}\nport: null",
        );
        write("20.conf", "maxPods: 42\nclusterDNS: [10.0.0.2]");
        write("30.yaml", "maxPods: 43");
        write("sub/40.conf", "cgroupRoot: /x");
        let mut tree = json!({"maxPods": 110, "port": 1, "evictionHard": {"nodefs.available": "10%"}});
        merge(folder.path(), &mut tree).unwrap();
        assert_eq!(
            tree,
            json!({
                "maxPods": 42, "clusterDNS": ["10.0.0.2"], "cgroupRoot": "/x",
                "evictionHard": {"nodefs.available": "10%", "memory.available": "5%"},
            })
        );
        std::fs::write(folder.path().join("05.conf"), "maxPods: 1\n").unwrap();
        let name = folder.path().display();
        assert_eq!(
            merge(folder.path(), &mut tree).unwrap_err(),
            format!(
                "failed to merge kubelet configs: failed to walk through kubelet dropin directory \"{name}\": failed to load kubelet dropin file, path: {name}/05.conf, error: Object 'Kind' is missing in 'maxPods: 1'"
            )
        );
        assert!(
            merge(Path::new("/nonexistent"), &mut tree)
                .unwrap_err()
                .ends_with("directory \"/nonexistent\": lstat /nonexistent: no such file or directory")
        );
    }
}
