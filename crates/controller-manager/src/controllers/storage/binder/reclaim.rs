//! What becomes of a volume whose claim is gone.

use controllers::views::PersistentVolume;

use super::plan::Report;
use super::{MIGRATED_TO, PROVISIONED_BY};

/// The plugins that upstream's daemon has for volumes.
pub(super) const PLUGINS: [&str; 5] = [
    "kubernetes.io/csi",
    "kubernetes.io/fc",
    "kubernetes.io/host-path",
    "kubernetes.io/iscsi",
    "kubernetes.io/nfs",
];

#[derive(Debug)]
pub(super) enum Reclaim {
    /// It stays, or somebody else deletes it.
    Nothing,
    Fail(Report),
    /// The contents of this folder of the host.
    Delete(String),
}

pub(super) fn reclaim(volume: &PersistentVolume) -> Reclaim {
    if volume.metadata.annotation(MIGRATED_TO).is_some_and(|driver| !driver.is_empty()) {
        return Reclaim::Nothing;
    }
    match volume.spec.persistent_volume_reclaim_policy.as_str() {
        "Retain" => Reclaim::Nothing,
        "Delete" => delete_by_plugin(volume),
        "Recycle" => {
            let message = "No recycler plugin found for the volume!";
            Reclaim::Fail(Report::warning("VolumeFailedRecycle", message))
        }
        _ => {
            let message = "Volume has unrecognized PersistentVolumeReclaimPolicy";
            Reclaim::Fail(Report::warning("VolumeUnknownReclaimPolicy", message))
        }
    }
}

fn delete_by_plugin(volume: &PersistentVolume) -> Reclaim {
    let (meta, spec) = (&volume.metadata, &volume.spec);
    let fail = |message: String| Reclaim::Fail(Report::warning("VolumeFailedDelete", message));
    let path = || spec.host_path.as_ref().map(|host| host.path.clone());
    if let Some(provisioner) = meta.annotation(PROVISIONED_BY).filter(|name| !name.is_empty()) {
        return match provisioner {
            "kubernetes.io/host-path" => path().map_or(Reclaim::Nothing, Reclaim::Delete),
            name if PLUGINS.contains(&name) => fail("no deletable volume plugin matched".to_owned()),
            name if name.starts_with("kubernetes.io/") => {
                fail(format!("no volume plugin matched name: {name}"))
            }
            _ => Reclaim::Nothing,
        };
    }
    if meta.annotation(MIGRATED_TO).is_some() || spec.csi.is_some() {
        return Reclaim::Nothing;
    }
    if let Some(path) = path() {
        return Reclaim::Delete(path);
    }
    let has_plugin = [&spec.nfs, &spec.fc, &spec.iscsi].iter().any(|source| source.is_some());
    let why = if has_plugin { "no deletable volume plugin matched" } else { "no volume plugin matched" };
    fail(format!("error getting deleter volume plugin for volume {:?}: {why}", meta.name))
}

/// Deletes a folder, of those that may be: other folders of a host are never a volume's own.
pub(super) async fn delete(path: &str) -> Result<(), String> {
    let own = path.strip_prefix("/tmp/").unwrap_or_default();
    if own.is_empty() || own.split('/').any(|part| part == "..") {
        return Err(format!("host_path deleter only supports /tmp/.+ but received provided {path}"));
    }
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("unlinkat {path}: {error}"))
        }
        _ => Ok(()),
    }
}
