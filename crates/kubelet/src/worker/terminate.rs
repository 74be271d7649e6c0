//! Ending containers and pods: preStop hook, stop signal, grace, kill; sidecars last, in reverse order.

use super::Error;
use crate::events::{Normal, Warning};
use crate::pods::{self, title};
use crate::qos::is_sidecar;
use crate::run::Kubelet;
use crate::runtime::{self, Container as Instance, RuntimePod, State};
use crate::volumes::mounting;
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// What a container has at least after its preStop hook, and a sidecar after the others.
const MINIMUM_GRACE: i64 = 2;

/// Seconds a pod has to end: what its deletion says, what it asks for itself, or `override`.
pub fn grace(pod: &Pod, other: Option<i64>) -> i64 {
    let spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let deletion = pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.deletion_grace_period_seconds);
    let grace = deletion.or(other).or(spec).unwrap_or(30);
    // A grace of nothing would leave no trace of how the containers ended.
    if deletion.is_some() || other.is_some() { grace.max(1) } else { grace.max(0) }
}

/// Ends everything of a pod that runs, its sandboxes last.
pub async fn kill_pod(
    kubelet: &Arc<Kubelet>,
    pod: &Pod,
    observed: &RuntimePod,
    grace: i64,
) -> Result<(), Error> {
    let spec = pod.spec.clone().unwrap_or_default();
    let sidecars: Vec<String> =
        spec.init_containers.iter().flatten().filter(|it| is_sidecar(it)).map(|it| it.name.clone()).collect();
    let began = Instant::now();
    let to_end = |it: &&Instance| it.state == State::Running || it.state == State::Unknown;
    let others = observed.containers.iter().filter(to_end).filter(|it| !sidecars.contains(&it.name));
    let kills = others.map(|it| kill_container(kubelet, pod, it, grace, None));
    let mut results = futures::future::join_all(kills).await;
    for name in sidecars.iter().rev() {
        let left = grace.saturating_sub(i64::try_from(began.elapsed().as_secs()).unwrap_or_default());
        for instance in observed.instances(name).filter(to_end) {
            results.push(kill_container(kubelet, pod, instance, left.max(MINIMUM_GRACE), None).await);
        }
    }
    for result in results {
        if let Err(error) = result {
            let text = format!("error killing pod: {error}");
            kubelet.events.event(pod, Warning, "FailedKillPod", &text);
            return Err(error.into());
        }
    }
    for sandbox in &observed.sandboxes {
        kubelet.runtime.stop_pod_sandbox(&sandbox.id).await?;
    }
    Ok(())
}

/// `message` is the text of the Killing event, where it is not the ordinary one.
pub async fn kill_container(
    kubelet: &Arc<Kubelet>,
    pod: &Pod,
    instance: &Instance,
    grace: i64,
    message: Option<String>,
) -> cri::Result<()> {
    let name = &instance.name;
    let message = message.unwrap_or_else(|| format!("Stopping container {name}"));
    kubelet.events.container(pod, name, Normal, "Killing", &message);
    let began = Instant::now();
    if grace > 0
        && let Some(hook) = pre_stop(pod, instance)
    {
        let limit = Duration::from_secs(grace.unsigned_abs());
        let run = crate::hooks::run(kubelet, pod, instance, &hook, limit);
        match tokio::time::timeout(limit, run).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(pod = title(pod), container = name, %error, "PreStop hook failed");
                kubelet.events.container(pod, name, Warning, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => {
                warn!(
                    pod = title(pod),
                    container = name,
                    grace,
                    "PreStop hook not completed in grace period"
                );
                kubelet.events.container(pod, name, Warning, "FailedPreStopHook", "PreStopHook failed");
            }
        }
    }
    let passed = i64::try_from(began.elapsed().as_secs()).unwrap_or_default();
    // Probe graces may be below the minimum; the minimum is for what a hook has used up.
    let left = if passed > 0 { grace.saturating_sub(passed).max(MINIMUM_GRACE) } else { grace };
    info!(
        pod = title(pod),
        container = name,
        id = instance.id,
        grace = left,
        "Killing container with a grace period"
    );
    match kubelet.runtime.stop_container(&instance.id, left).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

fn pre_stop(pod: &Pod, instance: &Instance) -> Option<LifecycleHandler> {
    let spec = pod.spec.as_ref()?;
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    match containers.find(|it| it.name == instance.name) {
        Some(container) => container.lifecycle.as_ref()?.pre_stop.clone(),
        // The spec is lost: the container remembers.
        None => serde_json::from_str(instance.annotations.get(runtime::PRE_STOP_HANDLER)?).ok(),
    }
}

/// Takes the last traces of a pod that was deleted: sandboxes, containers, logs, folders.
pub async fn remove_remains(kubelet: &Arc<Kubelet>, pod: &Pod, observed: &RuntimePod) -> Result<(), Error> {
    for sandbox in &observed.sandboxes {
        kubelet.runtime.remove_pod_sandbox(&sandbox.id).await?;
    }
    for container in &observed.containers {
        let link = kubelet.paths.container_link(
            pods::namespace(pod),
            pods::name(pod),
            &container.name,
            &container.id,
        );
        let _ = tokio::fs::remove_file(link).await;
    }
    let uid = pods::uid(pod);
    let logs = kubelet.paths.pod_logs(pods::namespace(pod), pods::name(pod), uid);
    let _ = tokio::fs::remove_dir_all(logs).await;
    remove_folder(kubelet, uid).await;
    Ok(())
}

/// Removes a pod's folder after its volumes are unmounted: what is left is etc-hosts and termination messages. What may be a
/// volume, or is mounted, is left alone.
pub async fn remove_folder(kubelet: &Kubelet, uid: &str) {
    let (folder, volumes) = (kubelet.paths.pod_dir(uid), kubelet.paths.volumes_dir(uid));
    let removed = tokio::task::spawn_blocking(move || {
        if has_volumes(&volumes) || !mounting::below(&folder)?.is_empty() {
            return Ok(());
        }
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    if let Err(error) = removed.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        warn!(uid, %error, "Failed to remove a pod's folder");
    }
}

/// Whether a volume's folder is left, which must not be deleted blindly: it may be a mount. What cannot be read may hold
/// one, too.
fn has_volumes(folder: &Path) -> bool {
    fn entries(folder: &Path) -> io::Result<Vec<std::fs::DirEntry>> {
        match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries?.collect(),
        }
    }
    let left =
        |plugin: &std::fs::DirEntry| entries(&plugin.path()).map_or(true, |volumes| !volumes.is_empty());
    entries(folder).map_or(true, |plugins| plugins.iter().any(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_folder_may_be_a_volume() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = folder.path().join("volumes");
        assert!(!has_volumes(&volumes));
        std::fs::create_dir_all(volumes.join("kubernetes.io~secret")).unwrap();
        assert!(!has_volumes(&volumes));
        std::fs::create_dir(volumes.join("kubernetes.io~secret/keys")).unwrap();
        assert!(has_volumes(&volumes));
        let odd = folder.path().join("odd");
        std::fs::write(&odd, "").unwrap();
        assert!(has_volumes(&odd));
    }
}
