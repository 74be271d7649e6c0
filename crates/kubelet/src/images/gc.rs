//! Removes images nobody uses when the image file system fills up, and all of them before a pod is evicted for its sake.
//!
//! Above the high threshold, images are removed, longest unused first, until usage is below the low one. An image
//! in use by a container, pinned by the runtime, or younger than the minimum age stays.

use crate::run::Kubelet;
use cri::RuntimeService;
use cri::v1::Image;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const PERIOD: Duration = Duration::from_secs(300);

pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = kubelet.image_collector.collect(&kubelet).await {
            warn!(%error, "Image garbage collection failed");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Remembers when images were seen and used.
#[derive(Default)]
pub struct Collector {
    seen: Mutex<HashMap<String, Seen>>,
}

struct Seen {
    first: Instant,
    last_used: Option<Instant>,
}

impl Collector {
    /// Removes images while they take more than their share of the disk.
    async fn collect(&self, kubelet: &Kubelet) -> cri::Result<()> {
        let mut seen = self.seen.lock().await;
        let unused = note(kubelet, &mut seen).await?;
        let config = &kubelet.config;
        if config.image_gc_high_threshold_percent >= 100 {
            return Ok(());
        }
        let Some((capacity, available)) = image_file_system(kubelet).await else { return Ok(()) };
        let usage = 100 - i32::try_from(available * 100 / capacity.max(1)).unwrap_or_default();
        if usage < config.image_gc_high_threshold_percent {
            return Ok(());
        }
        let low = u64::try_from(100 - config.image_gc_low_threshold_percent).unwrap_or_default();
        let to_free = (capacity * low / 100).saturating_sub(available);
        info!(usage, to_free, "Image file system usage is over the high threshold, removing unused images");
        let missing = remove(kubelet, &seen, unused, to_free).await;
        if missing > 0 {
            let message = format!(
                "Failed to free sufficient space by deleting unused images ({missing} bytes missing)."
            );
            kubelet.events.node(&kubelet.node_name, crate::events::Warning, "FreeDiskSpaceFailed", &message);
        }
        Ok(())
    }

    /// Removes every image that nobody uses.
    pub async fn delete_unused(&self, kubelet: &Kubelet) -> cri::Result<()> {
        info!("Attempting to delete unused images");
        let mut seen = self.seen.lock().await;
        let unused = note(kubelet, &mut seen).await?;
        remove(kubelet, &seen, unused, u64::MAX).await;
        Ok(())
    }
}

/// Notes which images there are and which are used. Returns those that may go, longest unused first.
async fn note(kubelet: &Kubelet, seen: &mut HashMap<String, Seen>) -> cri::Result<Vec<Image>> {
    let listed = jiff::Timestamp::now();
    let images = kubelet.images.list_images(None).await?;
    kubelet.puller.prune_records(&images.iter().map(|image| image.id.as_str()).collect(), listed);
    let containers = kubelet.runtime.list_containers(None).await?;
    let mut used: HashSet<String> = sandbox_image(&*kubelet.runtime).await?.into_iter().collect();
    for container in containers {
        used.insert(container.image_ref);
        used.insert(container.image_id);
        used.extend(container.image.map(|image| image.image));
    }
    // Volumes that are images are no containers of theirs.
    for pod in kubelet.pods.all() {
        let runtime = kubelet.pods.runtime_pod(crate::pods::uid(&pod));
        let mounts = runtime.iter().flat_map(|it| &it.containers).flat_map(|it| &it.mounts);
        used.extend(mounts.filter_map(|mount| Some(mount.image.as_ref()?.image.clone())));
    }
    let is_used = |image: &Image| {
        used.contains(&image.id)
            || image.repo_tags.iter().chain(&image.repo_digests).any(|name| used.contains(name))
    };
    let now = Instant::now();
    seen.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in &images {
        let entry = seen.entry(image.id.clone()).or_insert(Seen { first: now, last_used: None });
        if is_used(image) {
            entry.last_used = Some(now);
        }
    }
    let mut unused: Vec<Image> =
        images.into_iter().filter(|image| !image.pinned && !is_used(image)).collect();
    unused.sort_by_key(|image| seen.get(&image.id).and_then(|it| it.last_used));
    Ok(unused)
}

/// The image that sandboxes are made of, as far as the runtime says. Newer ones pin it; without it no pod starts, and it may
/// be one that cannot be pulled again.
async fn sandbox_image(runtime: &dyn RuntimeService) -> cri::Result<Option<String>> {
    let text = |info: &BTreeMap<String, String>, part: &str, field: &str| {
        let part: serde_json::Value = serde_json::from_str(info.get(part)?).ok()?;
        part.get(field)?.as_str().filter(|image| !image.is_empty()).map(str::to_owned)
    };
    if let Some(image) = text(&runtime.status(true).await?.info, "config", "sandboxImage") {
        return Ok(Some(image));
    }
    let sandboxes = runtime.list_pod_sandboxes(None).await?;
    let Some(newest) = sandboxes.into_iter().max_by_key(|sandbox| sandbox.created_at) else {
        return Ok(None);
    };
    match runtime.pod_sandbox_status(&newest.id, true).await {
        Ok(answer) => Ok(text(&answer.info, "info", "image")),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes images until so many bytes are free. Returns how many are missing then.
async fn remove(
    kubelet: &Kubelet,
    seen: &HashMap<String, Seen>,
    unused: Vec<Image>,
    mut to_free: u64,
) -> u64 {
    let youngest = kubelet.config.image_minimum_gc_age.0;
    for image in unused {
        if to_free == 0 {
            break;
        }
        // The image may have been pulled for a container that is about to be created.
        if seen.get(&image.id).is_some_and(|it| it.first.elapsed() < youngest) {
            continue;
        }
        let spec = cri::v1::ImageSpec { image: image.id.clone(), ..Default::default() };
        match kubelet.images.remove_image(spec).await {
            Ok(()) => {
                kubelet.puller.forget_image(&image.id);
                to_free = to_free.saturating_sub(image.size);
            }
            Err(error) => warn!(image = image.id, %error, "Failed to remove image"),
        }
    }
    to_free
}

/// Bytes: capacity and available, of the file system that holds the images.
pub async fn image_file_system(kubelet: &Kubelet) -> Option<(u64, u64)> {
    let info = kubelet.images.image_fs_info().await.ok()?;
    let mountpoint = info.image_filesystems.first()?.fs_id.clone()?.mountpoint;
    let stat = rustix::fs::statvfs(mountpoint.as_str()).ok()?;
    Some((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}
