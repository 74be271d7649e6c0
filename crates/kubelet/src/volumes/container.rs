//! How a container gets its pod's volumes: one CRI mount per volume mount.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::v1::{ImageSpec, Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};

use super::{Error, Manager, blocking, sub_path};
use crate::env::{Variable, expand_strict};
use crate::pods::uid;

impl Manager {
    /// The container's mounts; the pod's volumes must be set up, and `images` be there, by volume. `environment` is what
    /// `subPathExpr` refers to.
    pub async fn container_mounts(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        environment: &[Variable],
        supported: RecursiveReadOnly,
        images: &HashMap<String, ImageSpec>,
    ) -> Result<Vec<Mount>, Error> {
        let mut mounts = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            if let (Some(volume), Some(image)) = (volume, images.get(&mount.name)) {
                let part = part(mount, environment)?.unwrap_or_default();
                let nowhere = Path::new("");
                let made = cri_mount(mount, volume, nowhere, recursive_read_only(mount, supported)?);
                mounts.push(Mount { image: Some(image.clone()), image_sub_path: part, ..made });
                continue;
            }
            let path = volume.and_then(|volume| self.path(pod, volume));
            let (Some(volume), Some(path)) = (volume, path) else {
                let text = format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    mount.name, container.name
                );
                return Err(Error::Mount(text));
            };
            let host_path = match part(mount, environment)? {
                Some(part) => self.part(pod, container, index, (volume, path), part).await?,
                None => path,
            };
            mounts.push(cri_mount(mount, volume, &host_path, recursive_read_only(mount, supported)?));
        }
        Ok(mounts)
    }

    fn path(&self, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
        match &volume.host_path {
            Some(source) => Some(PathBuf::from(&source.path)),
            None => self.folder(pod, volume),
        }
    }

    async fn part(
        &self,
        pod: &Pod,
        container: &Container,
        index: usize,
        (volume, path): (&Volume, PathBuf),
        part: String,
    ) -> Result<PathBuf, Error> {
        let target = self.paths.subpaths_dir(uid(pod), &volume.name, &container.name, index);
        let failed = |error: std::io::Error| {
            tracing::warn!(pod = crate::pods::title(pod), volume = volume.name, %error, "Cannot prepare subPath");
            Error::Mount(format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}",
                volume.name, container.name
            ))
        };
        let at = target.clone();
        let alone = self.of_pod(pod).alone().await;
        blocking(&alone, move || sub_path::mount(&path, &part, &at)).await.map_err(failed)?;
        Ok(target)
    }
}

/// The part of the volume that is asked for, checked as far as its text goes.
fn part(mount: &VolumeMount, environment: &[Variable]) -> Result<Option<String>, Error> {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let part = match set(&mount.sub_path_expr) {
        Some(expression) => {
            Some(expand_strict(&expression, environment).map_err(|error| Error::Mount(error.to_string()))?)
        }
        None => set(&mount.sub_path),
    };
    let Some(part) = part.filter(|part| !part.is_empty()) else { return Ok(None) };
    if part.starts_with('/') {
        return Err(Error::Mount(format!("error SubPath `{part}` must not be an absolute path")));
    }
    if part.split('/').any(|segment| segment == "..") {
        return Err(Error::Mount(format!("unable to provision SubPath `{part}`: must not contain '..'")));
    }
    Ok(Some(part))
}

/// Whether the pod's runtime can make a mount read-only with all that is mounted below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecursiveReadOnly(pub bool);

/// Whether a mount is to be read-only with what is mounted below it.
fn recursive_read_only(mount: &VolumeMount, supported: RecursiveReadOnly) -> Result<bool, Error> {
    match mount.recursive_read_only.as_deref() {
        _ if mount.read_only != Some(true) => Ok(false),
        Some("Enabled") if !supported.0 => Err(Error::Mount(format!(
            "failed to resolve recursive read-only mode: volume {:?} requested recursive read-only mode, but it is not supported by the runtime",
            mount.name
        ))),
        Some("Enabled") => Ok(true),
        Some("IfPossible") => Ok(supported.0),
        _ => Ok(false),
    }
}

fn cri_mount(mount: &VolumeMount, volume: &Volume, host_path: &Path, recursive_read_only: bool) -> Mount {
    // The kubelet alone writes these, or nobody.
    let managed = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.image.is_some()
        || volume.projected.is_some();
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    let container_path = if mount.mount_path.starts_with('/') {
        mount.mount_path.clone()
    } else {
        format!("/{}", mount.mount_path)
    };
    Mount {
        container_path,
        host_path: host_path.display().to_string(),
        readonly: mount.read_only.unwrap_or_default() || managed,
        propagation: propagation.into(),
        recursive_read_only,
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recursive_read_only_needs_a_runtime_that_supports_it() {
        let check = |read_only: bool, mode: Option<&str>, supported: bool| {
            let mount =
                json!({"name": "v", "mountPath": "/v", "readOnly": read_only, "recursiveReadOnly": mode});
            let mount: VolumeMount = serde_json::from_value(mount).unwrap();
            recursive_read_only(&mount, RecursiveReadOnly(supported)).map_err(|error| error.to_string())
        };
        let refused = "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not supported by the runtime";
        assert_eq!(check(true, Some("Enabled"), true), Ok(true));
        assert_eq!(check(true, Some("Enabled"), false), Err(refused.into()));
        assert_eq!(check(true, Some("IfPossible"), true), Ok(true));
        for (read_only, mode) in
            [(true, Some("IfPossible")), (true, Some("Disabled")), (true, None), (false, None)]
        {
            assert_eq!(check(read_only, mode, false), Ok(false), "{mode:?}");
        }
    }
}
