//! Static pods: manifests in a folder (or one file), read again when the folder changes and every so often.
//!
//! The uid of a static pod is a hash of its file and node, so that a changed manifest is another pod.

use super::{Change, Changes};
use crate::pods::{self, CONFIG_HASH, CONFIG_SEEN, SOURCE};
use k8s_openapi::api::core::v1::{Pod, Toleration};
use md5::{Digest, Md5};
use notify::Watcher;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub async fn run(
    path: String,
    node: String,
    period: Duration,
    changes: Changes,
    shutdown: CancellationToken,
) {
    let changed = Arc::new(Notify::new());
    let teller = changed.clone();
    let watcher = notify::recommended_watcher(move |_| teller.notify_one()).and_then(|mut watcher| {
        watcher.watch(Path::new(&path), notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    if let Err(error) = &watcher {
        warn!(path, %error, "Cannot watch the static pod path, reading it from time to time only");
    }
    let mut known: HashMap<String, Arc<Pod>> = HashMap::new();
    let mut first = true;
    loop {
        match read(Path::new(&path), &node) {
            Ok(read) => {
                let mut found: HashMap<String, Arc<Pod>> =
                    read.into_iter().map(|pod| (pods::uid(&pod).to_owned(), Arc::new(pod))).collect();
                for (_, pod) in known.extract_if(|uid, _| !found.contains_key(uid)) {
                    changes.send(Change::Removed(pod));
                }
                for (uid, pod) in found.drain() {
                    // The first reading stays, with the time it was seen.
                    let pod = known.entry(uid).or_insert(pod);
                    changes.send(Change::Put(pod.clone()));
                }
                if std::mem::take(&mut first) {
                    changes.send(Change::ManifestsRead);
                }
            }
            // Not even that there are none.
            Err(error) => {
                warn!(path, %error, "Cannot read the static pod path, static pods stay as they are")
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => tokio::time::sleep(Duration::from_millis(100)).await,
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// Pods of the manifests that can be used; an error where it cannot be known which manifests there are.
fn read(path: &Path, node: &str) -> io::Result<Vec<Pod>> {
    let mut files = Vec::new();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if metadata.is_dir() => {
            for entry in std::fs::read_dir(path)? {
                let path = entry?.path();
                let hidden =
                    path.file_name().and_then(|name| name.to_str()).is_none_or(|it| it.starts_with('.'));
                if !hidden && path.is_file() {
                    files.push(path);
                }
            }
        }
        Ok(metadata) if metadata.is_file() => files.push(path.to_owned()),
        Ok(_) => {}
    }
    files.sort();
    let mut pods = Vec::new();
    for file in files {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                warn!(file = %file.display(), %error, "Cannot read static pod manifest");
                continue;
            }
        };
        match parse(&text, &file, node) {
            Ok(pod) => pods.push(pod),
            Err(error) => warn!(file = %file.display(), error, "Cannot use static pod manifest"),
        }
    }
    Ok(pods)
}

/// A pod out of a manifest, with what the API server would have filled in.
pub fn parse(text: &str, file: &Path, node: &str) -> Result<Pod, String> {
    let tree = daemon::config::yaml(text)?;
    let kind = tree.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default();
    if kind != "Pod" {
        return Err(format!("invalid pod: kind is {kind:?}"));
    }
    let mut pod: Pod = serde_json::from_value(tree).map_err(|error| error.to_string())?;
    let mut hasher = Md5::new();
    hasher.update(format!("host:{node}file:{}", file.display()));
    hasher.update(text);
    let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();

    let metadata = &mut pod.metadata;
    let name =
        metadata.name.clone().filter(|name| !name.is_empty()).ok_or("metadata.name: Required value")?;
    metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    metadata.namespace.get_or_insert_with(|| "default".into());
    let uid = metadata.uid.get_or_insert_with(|| hash.clone()).clone();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(SOURCE.into(), "file".into());
    annotations.insert(CONFIG_HASH.into(), uid);
    annotations.insert(CONFIG_SEEN.into(), jiff::Timestamp::now().to_string());
    let spec = pod.spec.as_mut().ok_or("spec: Required value")?;
    spec.node_name = Some(node.into());
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.scheduler_name.get_or_insert_with(|| "default-scheduler".into());
    spec.security_context.get_or_insert_default();
    // Nothing may evict a static pod by taint.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Default::default()
    });
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let latest = container.image.as_deref().is_some_and(|image| {
            let last = image.rsplit('/').next().unwrap_or_default();
            last.ends_with(":latest") || (!last.contains(':') && !image.contains('@'))
        });
        let policy = if latest { "Always" } else { "IfNotPresent" };
        container.image_pull_policy.get_or_insert_with(|| policy.into());
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
        container.termination_message_policy.get_or_insert_with(|| "File".into());
        let probes =
            [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
        for probe in probes.into_iter().flatten() {
            probe.timeout_seconds.get_or_insert(1);
            probe.period_seconds.get_or_insert(10);
            probe.success_threshold.get_or_insert(1);
            probe.failure_threshold.get_or_insert(3);
            if let Some(get) = &mut probe.http_get {
                get.path.get_or_insert_with(|| "/".into());
                get.scheme.get_or_insert_with(|| "HTTP".into());
            }
        }
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".into());
            if spec.host_network == Some(true) {
                port.host_port.get_or_insert(port.container_port);
            }
        }
    }
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: busybox}]}";
        let pod = parse(text, Path::new("/m/web.yaml"), "Node-1").unwrap();
        assert_eq!(pods::name(&pod), "web-node-1");
        assert_eq!(pods::namespace(&pod), "default");
        assert!(pods::is_static(&pod));
        assert_eq!(pods::uid(&pod).len(), 32);
        let other = parse(&text.replace("busybox", "busybox:1"), Path::new("/m/web.yaml"), "Node-1").unwrap();
        assert_ne!(pods::uid(&pod), pods::uid(&other));
        assert!(parse("kind: Service", Path::new("x"), "n").is_err());
    }
    #[test]
    fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("none"), "n").unwrap().is_empty());
        let text = "kind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: busybox}]}";
        std::fs::write(folder.path().join("web.yaml"), text).unwrap();
        std::fs::write(folder.path().join("odd.yaml"), "{").unwrap();
        assert_eq!(read(folder.path(), "n").unwrap().len(), 1);
        assert_eq!(read(&folder.path().join("web.yaml"), "n").unwrap().len(), 1);
        assert!(read(&folder.path().join("web.yaml/below"), "n").is_err());
    }
}
