//! Volumes that are the content of an image (KEP-4639): pulled before containers that mount them start, and mounted by the
//! runtime.

use crate::images::{self, User};
use crate::run::Kubelet;
use cri::v1::{ImageSpec, PodSandboxConfig};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashMap;

/// The image of each such volume by its name, or why it is not here.
#[derive(Default)]
pub struct Images(HashMap<String, Result<ImageSpec, images::Error>>);

impl Images {
    /// Pulls what the pod's volumes need. One that fails keeps only those back that mount it.
    pub async fn pull(kubelet: &Kubelet, pod: &Pod, sandbox: &PodSandboxConfig) -> Self {
        let mut all = HashMap::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(source) = &volume.image else { continue };
            let image = source.reference.as_deref().unwrap_or_default();
            let policy = source.pull_policy.as_deref();
            let found = kubelet.puller.ensure(pod, User::Volume, image, policy, sandbox).await;
            all.insert(volume.name.clone(), found.map(|present| present.spec));
        }
        Self(all)
    }

    /// The images that a container mounts, by volume, unless one of them is missing.
    pub fn of(&self, container: &Container) -> Result<HashMap<String, ImageSpec>, Vec<images::Error>> {
        let mut found = HashMap::new();
        let mut errors = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            match self.0.get(&mount.name) {
                Some(Ok(spec)) => drop(found.insert(mount.name.clone(), spec.clone())),
                Some(Err(error)) => errors.push(error.clone()),
                None => {}
            }
        }
        if errors.is_empty() { Ok(found) } else { Err(errors) }
    }
}
