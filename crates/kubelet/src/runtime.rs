//! What the runtime holds of a pod, read back from it. Labels and annotations carry everything a restarted
//! kubelet needs, under upstream's names.

use cri::v1;
use cri::{Result, RuntimeService};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
pub const CONTAINER_PORTS: &str = "io.kubernetes.container.ports";
pub const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// A pod's sandboxes and containers, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimePod {
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    /// Nanoseconds since the epoch, as all times here.
    pub created_at: i64,
    pub ips: Vec<String>,
    pub host_network: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    #[default]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    /// How often the kubelet had started this container before.
    pub restart_count: u32,
    pub state: State,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    pub image_ref: String,
    pub hash: String,
    pub log_path: String,
    pub annotations: BTreeMap<String, String>,
    pub mounts: Vec<v1::Mount>,
    pub user: Option<v1::LinuxContainerUser>,
    pub resources: Option<v1::LinuxContainerResources>,
}

impl Container {
    /// Whether it was made and did not get as far as running. Of one that it was making when it ended itself, the
    /// runtime knows no state.
    pub fn never_ran(&self) -> bool {
        match self.state {
            State::Created => true,
            State::Unknown => self.started_at <= 0,
            State::Running | State::Exited => false,
        }
    }
}

impl RuntimePod {
    /// The newest instance of a container.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// All instances of a container, newest first.
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(move |container| container.name == name)
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| container.state == State::Running)
    }

    /// Whether anything of the pod still runs.
    pub fn is_running(&self) -> bool {
        self.running().next().is_some() || self.sandboxes.iter().any(|sandbox| sandbox.ready)
    }

    /// Whether anything of the pod runs, or might: of what the runtime does not know, the worst is assumed.
    pub fn may_run(&self) -> bool {
        self.is_running() || self.containers.iter().any(|it| it.state == State::Unknown && !it.never_ran())
    }

    /// Whether a regular container was made in the newest sandbox, which proves that the init containers are done.
    pub fn is_initialized(&self, pod: &Pod) -> bool {
        let regular = |name: &str| pod.spec.iter().flat_map(|it| &it.containers).any(|it| it.name == name);
        self.sandboxes.first().is_some_and(|sandbox| {
            self.containers.iter().any(|it| it.sandbox_id == sandbox.id && regular(&it.name))
        })
    }

    /// The addresses of the newest sandbox, where it is ready.
    pub fn ips(&self) -> &[String] {
        self.sandboxes.first().filter(|sandbox| sandbox.ready).map_or(&[], |sandbox| &sandbox.ips)
    }
}

/// Reads one pod, with the full status of each of its sandboxes and containers.
pub async fn read_pod(runtime: &dyn RuntimeService, uid: &str) -> Result<RuntimePod> {
    let labels = BTreeMap::from([(POD_UID.to_owned(), uid.to_owned())]);
    let filter = v1::PodSandboxFilter { label_selector: labels.clone(), ..Default::default() };
    let sandboxes = runtime.list_pod_sandboxes(Some(filter)).await?;
    let filter = v1::ContainerFilter { label_selector: labels, ..Default::default() };
    let containers = runtime.list_containers(Some(filter)).await?;

    let mut pod = RuntimePod { uid: uid.into(), ..Default::default() };
    for brief in sandboxes {
        let metadata = brief.metadata.clone().unwrap_or_default();
        pod.name = metadata.name;
        pod.namespace = metadata.namespace;
        match runtime.pod_sandbox_status(&brief.id, false).await {
            Ok(answer) => pod.sandboxes.extend(answer.status.map(sandbox)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    for brief in containers {
        let label = |key: &str| brief.labels.get(key).cloned().unwrap_or_default();
        if pod.name.is_empty() {
            pod.name = label(POD_NAME);
            pod.namespace = label(POD_NAMESPACE);
        }
        match runtime.container_status(&brief.id, false).await {
            Ok(answer) => {
                pod.containers.extend(answer.status.map(|status| container(status, &brief.pod_sandbox_id)));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    pod.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
    pod.containers
        .sort_by_key(|container| std::cmp::Reverse((container.created_at, container.restart_count)));
    Ok(pod)
}

fn sandbox(status: v1::PodSandboxStatus) -> Sandbox {
    let options = status.linux.and_then(|linux| linux.namespaces).and_then(|it| it.options);
    let host_network = options.is_some_and(|options| options.network == i32::from(v1::NamespaceMode::Node));
    let network = status.network.unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|it| it.ip);
    let ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
    Sandbox {
        id: status.id,
        attempt: status.metadata.unwrap_or_default().attempt,
        ready: status.state == i32::from(v1::PodSandboxState::SandboxReady),
        created_at: status.created_at,
        ips: if host_network { Vec::new() } else { ips },
        host_network,
    }
}

pub fn state(value: i32) -> State {
    match v1::ContainerState::try_from(value) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    }
}

/// The runtime gives up a start when the kubelet that asked for it goes away: the container never ran.
fn start_was_called_off(status: &v1::ContainerStatus) -> bool {
    let called_off = ["context canceled", "failed to start shim: start failed: : signal: killed"];
    status.started_at <= 0
        && status.reason == "StartError"
        && called_off.iter().any(|text| status.message.contains(text))
}

fn container(status: v1::ContainerStatus, sandbox_id: &str) -> Container {
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let name = status.labels.get(CONTAINER_NAME).cloned();
    let metadata = status.metadata.clone().unwrap_or_default();
    Container {
        name: name.unwrap_or(metadata.name),
        sandbox_id: sandbox_id.into(),
        restart_count: annotation(RESTART_COUNT).parse().unwrap_or(metadata.attempt),
        state: match state(status.state) {
            State::Exited if start_was_called_off(&status) => State::Created,
            state => state,
        },
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        image: status.image.unwrap_or_default().image,
        hash: annotation(CONTAINER_HASH),
        id: status.id,
        reason: status.reason,
        message: status.message,
        image_id: status.image_id,
        image_ref: status.image_ref,
        log_path: status.log_path,
        annotations: status.annotations,
        mounts: status.mounts,
        user: status.user.and_then(|user| user.linux),
        resources: status.resources.and_then(|resources| resources.linux),
    }
}
