//! Making sandboxes and starting containers.

use crate::container_config::{self, Inputs};
use crate::events::{Normal, Warning};
use crate::hostname;
use crate::images::{self, User};
use crate::plan::{Kind, Start};
use crate::pods::{self, is_host_network, name, namespace, uid};
use crate::resolv_conf::{self, Problem};
use crate::run::Kubelet;
use crate::runtime::{self, RuntimePod, State};
use crate::volumes::RecursiveReadOnly;
use crate::volumes::image::Images;
use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tracing::warn;

pub fn make_folders(kubelet: &Kubelet, pod: &Pod) -> std::io::Result<()> {
    let root = kubelet.paths.pod_dir(uid(pod));
    std::fs::create_dir_all(&root)?;
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o750))?;
    for folder in ["volumes", "plugins"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    Ok(())
}

/// A pod's sandbox as the runtime gets it, and what is wrong with its resolver, which is for the one who makes the sandbox to
/// say; the error says why it cannot be described.
pub fn sandbox_config(
    kubelet: &Kubelet,
    pod: &Pod,
    attempt: u32,
) -> Result<(v1::PodSandboxConfig, Vec<Problem>), String> {
    let shown = hostname::for_kernel(pod, &kubelet.config.cluster_domain)?;
    let host = kubelet.resolv_conf.read().map_err(|error| error.to_string())?;
    let (dns, problems) = crate::resolv_conf::for_pod(pod, &kubelet.config, &host);
    let logs = kubelet.paths.pod_logs(namespace(pod), name(pod), uid(pod));
    Ok((container_config::sandbox(pod, attempt, &logs, &shown, dns, &kubelet.cgroups.parent(pod)), problems))
}

pub async fn create_sandbox(
    kubelet: &Kubelet,
    pod: &Pod,
    config: v1::PodSandboxConfig,
    resolver_problems: Vec<Problem>,
) -> Result<String, String> {
    for problem in resolver_problems {
        if problem == Problem::MissingClusterDns {
            let (name, text) = (&kubelet.node_name, resolv_conf::NO_CLUSTER_DNS);
            kubelet.events.node(name, Warning, "MissingClusterDNS", text);
        }
        let (reason, text) = problem.event(pod);
        kubelet.events.event(pod, Warning, reason, &text);
    }
    if pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false) {
        // Never with the host's users instead.
        return Err("can't set `spec.hostUsers: false`, runtime does not support user namespaces".into());
    }
    std::fs::create_dir_all(&config.log_directory).map_err(|error| error.to_string())?;
    let handler = runtime_handler(kubelet, pod).await?;
    kubelet.runtime.run_pod_sandbox(config, &handler).await.map_err(|error| error.to_string())
}

/// The runtime's handler for a pod, empty for its default.
async fn runtime_handler(kubelet: &Kubelet, pod: &Pod) -> Result<String, String> {
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()).unwrap_or_default();
    match (&kubelet.client, class) {
        (_, "") | (None, _) => Ok(String::new()),
        (Some(client), class) => {
            let found = client.get::<RuntimeClass>(None, class).await;
            Ok(found.map_err(|error| format!("failed to get sandbox runtime: {error}"))?.handler)
        }
    }
}

/// Whether the pod's runtime makes mounts read-only with all below them. Asked only where a container wants to know.
async fn recursive_read_only(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
) -> Result<RecursiveReadOnly, String> {
    if container.volume_mounts.iter().flatten().all(|mount| mount.recursive_read_only.is_none()) {
        return Ok(RecursiveReadOnly(false));
    }
    let name = runtime_handler(kubelet, pod).await?;
    let health = kubelet.runtime_health.read();
    let handler = health.handlers.iter().find(|it| it.name == name);
    let features = handler.and_then(|it| it.features.as_ref());
    Ok(RecursiveReadOnly(features.is_some_and(|it| it.recursive_read_only_mounts)))
}

/// Image, create, start, postStart hook. The error is what the container's status shows while it waits.
pub async fn start(
    kubelet: &Arc<Kubelet>,
    pod: &Arc<Pod>,
    container: &Container,
    planned: &Start,
    sandbox: &str,
    sandbox_config: &v1::PodSandboxConfig,
    volumes: &Images,
) -> Result<(), images::Error> {
    let event = |kind, reason, text: &str| kubelet.events.container(pod, &container.name, kind, reason, text);
    let volumes = volumes.of(container).map_err(|mut errors| {
        for error in &errors {
            event(Warning, "Failed", &format!("Error: {}", error.reason));
        }
        errors.swap_remove(errors.len() - 1)
    })?;
    let image = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref();
    let present = match kubelet
        .puller
        .ensure(pod, User::Container(&container.name), image, policy, sandbox_config)
        .await
    {
        Ok(present) => present,
        Err(error) => {
            event(Warning, "Failed", &format!("Error: {}", error.reason));
            return Err(error);
        }
    };
    let config = match configure(kubelet, pod, container, planned, present, &volumes).await {
        Ok(config) => config,
        Err(text) => {
            event(Warning, "Failed", &format!("Error: {text}"));
            return Err(images::Error::new("CreateContainerConfigError", text));
        }
    };
    let log = std::path::Path::new(&sandbox_config.log_directory).join(&config.log_path);
    let id = match kubelet.runtime.create_container(sandbox, config, sandbox_config.clone()).await {
        Ok(id) => id,
        Err(error) => {
            event(Warning, "Failed", &format!("Error: {}", error.message));
            return Err(images::Error::new("CreateContainerError", error.message));
        }
    };
    event(Normal, "Created", "Container created");
    if let Err(error) = kubelet.runtime.start_container(&id).await {
        event(Warning, "Failed", &format!("Error: {}", error.message));
        return Err(images::Error::new("RunContainerError", error.message));
    }
    event(Normal, "Started", "Container started");
    link_log(kubelet, pod, &container.name, &id, &log);

    if let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) {
        let runtime_pod = runtime::read_pod(&*kubelet.runtime, uid(pod)).await;
        let instance = runtime_pod.ok().and_then(|found| {
            kubelet.pods.set_runtime(uid(pod), Arc::new(found.clone()));
            found.containers.into_iter().find(|it| it.id == id)
        });
        if let Some(instance) = instance
            && let Err(error) =
                crate::hooks::run(kubelet, pod, &instance, hook, crate::hooks::POST_START).await
        {
            warn!(pod = pods::title(pod), container = container.name, %error, "PostStart hook failed");
            event(Warning, "FailedPostStartHook", "PostStartHook failed");
            let grace = super::terminate::grace(pod, None);
            let message = Some("FailedPostStartHook".to_owned());
            if let Err(error) =
                super::terminate::kill_container(kubelet, pod, &instance, grace, message).await
            {
                warn!(pod = pods::title(pod), container = container.name, %error, "Failed to end the container");
            }
            return Err(images::Error::new("PostStartHookError", "PostStartHook failed"));
        }
    }
    Ok(())
}

fn link_log(kubelet: &Kubelet, pod: &Pod, container: &str, id: &str, log: &std::path::Path) {
    let link = kubelet.paths.container_link(namespace(pod), name(pod), container, id);
    let made = std::fs::create_dir_all(&kubelet.paths.container_links)
        .and_then(|()| std::os::unix::fs::symlink(log, &link));
    if let Err(error) = made {
        warn!(link = %link.display(), %error, "Failed to link the container's log");
    }
}

/// How often a container was started that the runtime has no instance of any more: by the logs that it left, `N.log` and
/// what was rotated of it.
pub fn restarts_by_logs(folder: &std::path::Path) -> u32 {
    let count = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let (number, rest) = name.to_str()?.split_once('.')?;
        (rest == "log" || rest.starts_with("log.")).then(|| number.parse::<u32>().ok())?.map(|it| it + 1)
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().filter_map(count).max().unwrap_or_default()
}

async fn configure(
    kubelet: &Arc<Kubelet>,
    pod: &Arc<Pod>,
    container: &Container,
    planned: &Start,
    present: images::Present,
    volumes: &HashMap<String, v1::ImageSpec>,
) -> Result<v1::ContainerConfig, String> {
    let host_ips = kubelet.addresses.texts();
    let sandbox_ips = match kubelet.runtime_ips(uid(pod)).await {
        _ if is_host_network(pod) => host_ips.clone(),
        ips => ips,
    };
    let context = crate::env::Context {
        pod_ips: &sandbox_ips,
        host_ips: &host_ips,
        services: kubelet.objects.services(),
        allocatable: kubelet.allocatable(),
        objects: &*kubelet.objects,
    };
    let env = crate::env::build(pod, container, &context).await.map_err(|error| error.to_string())?;
    let supported = recursive_read_only(kubelet, pod, container).await?;
    let mounts = kubelet.volumes.container_mounts(pod, container, &env, supported, volumes).await;
    let mut mounts = mounts.map_err(|error| error.to_string())?;
    let taken = |path: &str, mounts: &[v1::Mount]| mounts.iter().any(|mount| mount.container_path == path);
    if !sandbox_ips.is_empty() && !taken("/etc/hosts", &mounts) {
        let path = kubelet.paths.etc_hosts(uid(pod));
        let (hostname, domain) = hostname::of(pod, &kubelet.config.cluster_domain);
        crate::etc_hosts::ensure(&path, pod, &sandbox_ips, &hostname, &domain, is_host_network(pod))
            .map_err(|error| error.to_string())?;
        mounts.push(mount("/etc/hosts", &path));
    }
    let message_path =
        container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".into());
    if !message_path.is_empty() {
        let folder = kubelet.paths.container_dir(uid(pod), &container.name);
        let file = folder.join(format!("{:08x}", rand::random::<u32>()));
        let made = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, ""))
            .and_then(|()| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)));
        made.map_err(|error| {
            format!("error on creating termination-log file {:?}: {error}", file.display())
        })?;
        mounts.push(mount(&message_path, &file));
    }
    let target = match planned.kind {
        Kind::Ephemeral => target(kubelet, pod, &container.name)?,
        _ => None,
    };
    let log = kubelet.paths.pod_logs(namespace(pod), name(pod), uid(pod)).join(&container.name);
    std::fs::create_dir_all(&log).map_err(|error| {
        format!("create container log directory for container {} failed: {error}", container.name)
    })?;
    let inputs = Inputs {
        restart_count: planned.restart_count,
        image: present.spec,
        image_uid: present.image.uid.map(|uid| uid.value),
        image_user: present.image.username,
        env,
        mounts,
        target,
        node: &kubelet.container_node,
    };
    container_config::container(pod, container, inputs).map_err(|error| error.to_string())
}

fn mount(container_path: &str, host_path: &std::path::Path) -> v1::Mount {
    v1::Mount {
        container_path: container_path.into(),
        host_path: host_path.display().to_string(),
        ..Default::default()
    }
}

/// The id of the container an ephemeral one looks into.
fn target(kubelet: &Kubelet, pod: &Pod, container: &str) -> Result<Option<String>, String> {
    let ephemeral = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let name =
        ephemeral.into_iter().find(|it| it.name == container).and_then(|it| it.target_container_name.clone());
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let runtime = kubelet.pods.runtime_pod(uid(pod));
    let found = runtime.and_then(|it| it.container(&name).map(|it| it.id.clone()));
    found.map(Some).ok_or_else(|| format!("unable to find target container {name}"))
}

/// What a container may leave as its last words.
const MESSAGE_LIMIT: u64 = 4096;
const LOG_LIMIT: usize = 2048;
const LOG_LINES: usize = 80;

/// Fills in the messages ended containers left in their file or, where asked, in their log.
pub async fn read_termination_messages(pod: &mut RuntimePod) {
    for container in pod.containers.iter_mut().filter(|it| it.state == State::Exited) {
        let annotation = |key: &str| container.annotations.get(key).map(String::as_str).unwrap_or_default();
        let path = annotation(runtime::TERMINATION_MESSAGE_PATH);
        let mount = container.mounts.iter().find(|mount| mount.container_path == path && !path.is_empty());
        let mut text = String::new();
        if let Some(mount) = mount
            && let Ok((bytes, _)) = last_bytes(&mount.host_path, MESSAGE_LIMIT).await
        {
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let fallback = annotation(runtime::TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError";
        if text.is_empty() && fallback && container.exit_code != 0 && container.reason != "ContainerCannotRun"
        {
            text = log_tail(&container.log_path).await;
        }
        if !text.is_empty() {
            container.message =
                if container.message.is_empty() { text } else { format!("{}: {text}", container.message) };
        }
    }
}

/// The last bytes of a file, `limit` at most, and whether they are all of it. A container may write there as much
/// as it likes.
async fn last_bytes(path: &str, limit: u64) -> std::io::Result<(Vec<u8>, bool)> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    // Opening a pipe that nobody writes to would wait for ever.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = tokio::fs::File::options().read(true).custom_flags(flags).open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let length = metadata.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(limit))).await?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).await?;
    Ok((bytes, length <= limit))
}

/// The end of a log in the CRI's format, without its prefixes.
async fn log_tail(path: &str) -> String {
    let Ok((bytes, whole)) = last_bytes(path, 64 * 1024).await else { return String::new() };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if !whole && !lines.is_empty() {
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(LOG_LINES);
    let mut tail = String::new();
    for line in &lines[skip..] {
        let mut parts = line.splitn(4, ' ');
        let (_, _, tag, words) = (parts.next(), parts.next(), parts.next(), parts.next());
        tail.push_str(words.unwrap_or_default());
        if tag != Some("P") {
            tail.push('\n');
        }
    }
    let mut from = tail.len().saturating_sub(LOG_LIMIT);
    while !tail.is_char_boundary(from) {
        from += 1;
    }
    tail.split_off(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_counted_by_logs() {
        let folder = tempfile::tempdir().unwrap();
        let restarts = |files: &[&str]| {
            files.iter().for_each(|file| std::fs::write(folder.path().join(file), "").unwrap());
            restarts_by_logs(folder.path())
        };
        assert_eq!(restarts(&[]), 0);
        assert_eq!(restarts(&["notes", "x.log", "0.txt"]), 0);
        assert_eq!(restarts(&["0.log"]), 1);
        assert_eq!(restarts(&["0.log.20260101-000000.gz", "3.log.20260101-000000"]), 4);
        assert_eq!(restarts_by_logs(&folder.path().join("none")), 0);
    }

    #[tokio::test]
    async fn last_words() {
        let folder = tempfile::tempdir().unwrap();
        let (message, log) = (folder.path().join("message"), folder.path().join("log"));
        let read = async |policy: &str| {
            let annotations = [
                (runtime::TERMINATION_MESSAGE_PATH, "/dev/termination-log"),
                (runtime::TERMINATION_MESSAGE_POLICY, policy),
            ];
            let container = crate::runtime::Container {
                state: State::Exited,
                exit_code: 1,
                log_path: log.display().to_string(),
                mounts: vec![mount("/dev/termination-log", &message)],
                annotations: annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
                ..Default::default()
            };
            let mut pod = RuntimePod { containers: vec![container], ..RuntimePod::default() };
            read_termination_messages(&mut pod).await;
            pod.containers.remove(0).message
        };
        // Too large to be read whole: a hole, and at its end what counts.
        let file = std::fs::File::create(&message).unwrap();
        file.set_len(1 << 40).unwrap();
        drop(file);
        let mut file = std::fs::File::options().append(true).open(&message).unwrap();
        std::io::Write::write_all(&mut file, b"the end").unwrap();
        let text = read("File").await;
        assert_eq!(text.len(), 4096);
        assert!(text.ends_with("\0the end"));

        std::fs::remove_file(&message).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &message, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(read("File").await, "", "a pipe says nothing, and nobody waits for it");

        std::fs::remove_file(&message).unwrap();
        std::fs::write(&message, "").unwrap();
        let lines = |count: usize, text: &str| -> String {
            (0..count).map(|number| format!("2026-01-01T00:00:00Z stdout F {text}{number}\n")).collect()
        };
        std::fs::write(&log, lines(100, "")).unwrap();
        assert_eq!(read("File").await, "");
        let text = read("FallbackToLogsOnError").await;
        assert_eq!((text.lines().count(), text.lines().next()), (80, Some("20")));
        std::fs::write(&log, lines(5000, "a line of some length, as programs write them ")).unwrap();
        let text = read("FallbackToLogsOnError").await;
        assert_eq!(text.len(), 2048);
        assert!(text.ends_with(" 4999\n"));
    }
}
