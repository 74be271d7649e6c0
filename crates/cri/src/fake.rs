//! A runtime in memory. Containers run until told otherwise ([`FakeRuntime::exit`]) or stopped; any call can
//! be made to fail ([`FakeRuntime::fail`]); calls are recorded by name and subject.

mod images;

use crate::RuntimeService;
use crate::error::{Code, Error, Result};
use crate::v1::*;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Default)]
pub struct FakeRuntime {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<String, (PodSandboxStatus, PodSandboxConfig)>,
    containers: BTreeMap<String, (ContainerStatus, ContainerConfig, String)>,
    images: BTreeSet<String>,
    failures: BTreeMap<&'static str, Error>,
    exec: BTreeMap<String, ExecSyncResponse>,
    calls: Vec<String>,
    graces: BTreeMap<String, i64>,
    stream_url: Option<String>,
}

impl FakeRuntime {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every later call of that name (`"CreateContainer"`) fail; `None` ends it.
    pub fn fail(&self, call: &'static str, error: Option<Error>) {
        let mut state = self.state.lock();
        match error {
            Some(error) => state.failures.insert(call, error),
            None => state.failures.remove(call),
        };
    }

    /// Puts an image there without a pull.
    pub fn add_image(&self, image: &str) {
        self.state.lock().images.insert(image.into());
    }

    /// What a command (joined by spaces) answers to `exec_sync`; an unknown one succeeds silently.
    pub fn answer_exec(&self, command: &str, exit_code: i32, stdout: &str) {
        let answer = ExecSyncResponse { stdout: stdout.into(), stderr: Vec::new(), exit_code };
        self.state.lock().exec.insert(command.into(), answer);
    }

    /// Where exec, attach and port-forward are streamed; without it they are unimplemented.
    pub fn stream_at(&self, url: &str) {
        self.state.lock().stream_url = Some(url.into());
    }

    /// Ends a container as if its process had.
    pub fn exit(&self, id: &str, exit_code: i32, reason: &str) {
        if let Some((status, ..)) = self.state.lock().containers.get_mut(id) {
            exited(status, exit_code, reason);
        }
    }

    /// Ends a sandbox as if its pause process had died.
    pub fn lose_sandbox(&self, id: &str) {
        if let Some((status, _)) = self.state.lock().sandboxes.get_mut(id) {
            status.state = PodSandboxState::SandboxNotready.into();
        }
    }

    /// Ids of containers with that name in their metadata, oldest first.
    pub fn containers_named(&self, name: &str) -> Vec<ContainerStatus> {
        let state = self.state.lock();
        let named = |status: &&ContainerStatus| status.metadata.as_ref().is_some_and(|it| it.name == name);
        let mut found: Vec<_> =
            state.containers.values().map(|(status, ..)| status).filter(named).cloned().collect();
        found.sort_by_key(|status| status.created_at);
        found
    }

    pub fn container_config(&self, id: &str) -> Option<ContainerConfig> {
        self.state.lock().containers.get(id).map(|(_, config, _)| config.clone())
    }

    pub fn sandbox_configs(&self) -> Vec<PodSandboxConfig> {
        self.state.lock().sandboxes.values().map(|(_, config)| config.clone()).collect()
    }

    /// The seconds a container had when it was last asked to stop.
    pub fn grace(&self, id: &str) -> Option<i64> {
        self.state.lock().graces.get(id).copied()
    }

    /// Calls that changed something, as `Name subject`, in order.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }
}

impl State {
    fn call(&mut self, name: &'static str, subject: &str) -> Result<()> {
        self.calls.push(format!("{name} {subject}"));
        self.failures.get(name).cloned().map_or(Ok(()), Err)
    }

    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{:04}", self.next)
    }

    fn container(&mut self, id: &str) -> Result<&mut ContainerStatus> {
        self.containers
            .get_mut(id)
            .map(|(status, ..)| status)
            .ok_or_else(|| Error::new(Code::NotFound, format!("no container {id}")))
    }
}

fn exited(status: &mut ContainerStatus, exit_code: i32, reason: &str) {
    status.state = ContainerState::ContainerExited.into();
    status.finished_at = now();
    status.exit_code = exit_code;
    status.reason = reason.into();
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn unimplemented(what: &str) -> Error {
    Error::new(Code::Unimplemented, format!("unknown method {what} for service runtime.v1.RuntimeService"))
}

fn chosen(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[async_trait]
impl RuntimeService for FakeRuntime {
    async fn version(&self) -> Result<VersionResponse> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1.0.0".into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self, _verbose: bool) -> Result<StatusResponse> {
        self.state.lock().call("Status", "")?;
        let ready = |name: &str| RuntimeCondition { r#type: name.into(), status: true, ..Default::default() };
        let conditions = vec![ready("RuntimeReady"), ready("NetworkReady")];
        Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() })
    }

    async fn runtime_config(&self) -> Result<RuntimeConfigResponse> {
        Err(unimplemented("RuntimeConfig"))
    }

    async fn update_runtime_config(&self, _config: RuntimeConfig) -> Result<()> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<String> {
        let mut state = self.state.lock();
        let metadata = config.metadata.clone().unwrap_or_default();
        state.call("RunPodSandbox", &metadata.name)?;
        let id = state.id("sandbox");
        let ip = format!("10.88.0.{}", state.next % 250 + 1);
        let security = config.linux.as_ref().and_then(|linux| linux.security_context.clone());
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: PodSandboxState::SandboxReady.into(),
            created_at: now(),
            network: Some(PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace { options: security.and_then(|it| it.namespace_options) }),
            }),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            runtime_handler: handler.into(),
        };
        state.sandboxes.insert(id.clone(), (status, config));
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.call("StopPodSandbox", id)?;
        for (status, _, sandbox) in state.containers.values_mut() {
            if sandbox == id && status.state == i32::from(ContainerState::ContainerRunning) {
                exited(status, 137, "Error");
            }
        }
        if let Some((status, _)) = state.sandboxes.get_mut(id) {
            status.state = PodSandboxState::SandboxNotready.into();
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.call("RemovePodSandbox", id)?;
        state.containers.retain(|_, (_, _, sandbox)| sandbox != id);
        state.sandboxes.remove(id);
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str, _verbose: bool) -> Result<PodSandboxStatusResponse> {
        let state = self.state.lock();
        let status = state.sandboxes.get(id).map(|(status, _)| status.clone());
        match status {
            Some(status) => Ok(PodSandboxStatusResponse { status: Some(status), ..Default::default() }),
            None => Err(Error::new(Code::NotFound, format!("no sandbox {id}"))),
        }
    }

    async fn list_pod_sandboxes(&self, filter: Option<PodSandboxFilter>) -> Result<Vec<PodSandbox>> {
        let state = self.state.lock();
        state.failures.get("ListPodSandbox").cloned().map_or(Ok(()), Err)?;
        let filter = filter.unwrap_or_default();
        let wanted = |status: &&PodSandboxStatus| {
            (filter.id.is_empty() || filter.id == status.id)
                && filter.state.as_ref().is_none_or(|value| value.state == status.state)
                && chosen(&status.labels, &filter.label_selector)
        };
        let brief = |status: &PodSandboxStatus| PodSandbox {
            id: status.id.clone(),
            metadata: status.metadata.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: status.labels.clone(),
            annotations: status.annotations.clone(),
            runtime_handler: status.runtime_handler.clone(),
        };
        Ok(state.sandboxes.values().map(|(status, _)| status).filter(wanted).map(brief).collect())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        _sandbox_config: PodSandboxConfig,
    ) -> Result<String> {
        let mut state = self.state.lock();
        let metadata = config.metadata.clone().unwrap_or_default();
        state.call("CreateContainer", &metadata.name)?;
        let log_directory = match state.sandboxes.get(sandbox) {
            Some((_, config)) => config.log_directory.clone(),
            None => return Err(Error::new(Code::NotFound, format!("no sandbox {sandbox}"))),
        };
        let id = state.id("container");
        let status = ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: ContainerState::ContainerCreated.into(),
            created_at: now(),
            image: config.image.clone(),
            image_ref: format!("{}@sha256:fake", config.image.as_ref().map_or("", |image| &image.image)),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: format!("{log_directory}/{}", config.log_path),
            ..Default::default()
        };
        state.containers.insert(id.clone(), (status, config, sandbox.into()));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.call("StartContainer", id)?;
        let status = state.container(id)?;
        status.state = ContainerState::ContainerRunning.into();
        status.started_at = now();
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        let mut state = self.state.lock();
        state.call("StopContainer", id)?;
        state.graces.insert(id.into(), timeout);
        let status = state.container(id)?;
        if status.state == i32::from(ContainerState::ContainerRunning) {
            exited(status, 143, "Error");
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.call("RemoveContainer", id)?;
        state.containers.remove(id);
        Ok(())
    }

    async fn list_containers(&self, filter: Option<ContainerFilter>) -> Result<Vec<Container>> {
        let state = self.state.lock();
        let filter = filter.unwrap_or_default();
        let wanted = |(status, _, sandbox): &&(ContainerStatus, ContainerConfig, String)| {
            (filter.id.is_empty() || filter.id == status.id)
                && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == *sandbox)
                && filter.state.as_ref().is_none_or(|value| value.state == status.state)
                && chosen(&status.labels, &filter.label_selector)
        };
        let brief = |(status, _, sandbox): &(ContainerStatus, ContainerConfig, String)| Container {
            id: status.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: status.metadata.clone(),
            image: status.image.clone(),
            image_ref: status.image_ref.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: status.labels.clone(),
            annotations: status.annotations.clone(),
            image_id: status.image_id.clone(),
        };
        Ok(state.containers.values().filter(wanted).map(brief).collect())
    }

    async fn container_status(&self, id: &str, _verbose: bool) -> Result<ContainerStatusResponse> {
        let status = self.state.lock().container(id)?.clone();
        Ok(ContainerStatusResponse { status: Some(status), ..Default::default() })
    }

    async fn update_container_resources(&self, request: UpdateContainerResourcesRequest) -> Result<()> {
        self.state.lock().call("UpdateContainerResources", &request.container_id)
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        self.state.lock().call("ReopenContainerLog", id)
    }

    async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        _timeout: Duration,
    ) -> Result<ExecSyncResponse> {
        let mut state = self.state.lock();
        state.call("ExecSync", id)?;
        state.container(id)?;
        Ok(state.exec.get(&command.join(" ")).cloned().unwrap_or_default())
    }

    async fn exec(&self, _request: ExecRequest) -> Result<String> {
        self.state.lock().stream_url.clone().ok_or_else(|| unimplemented("Exec"))
    }

    async fn attach(&self, _request: AttachRequest) -> Result<String> {
        self.state.lock().stream_url.clone().ok_or_else(|| unimplemented("Attach"))
    }

    async fn port_forward(&self, _request: PortForwardRequest) -> Result<String> {
        self.state.lock().stream_url.clone().ok_or_else(|| unimplemented("PortForward"))
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let status = self.state.lock().container(id)?.clone();
        let attributes =
            ContainerAttributes { id: status.id, metadata: status.metadata, ..Default::default() };
        Ok(ContainerStats { attributes: Some(attributes), ..Default::default() })
    }

    async fn list_container_stats(
        &self,
        _filter: Option<ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>> {
        Ok(Vec::new())
    }

    async fn pod_sandbox_stats(&self, _id: &str) -> Result<PodSandboxStats> {
        Ok(PodSandboxStats::default())
    }

    async fn list_pod_sandbox_stats(
        &self,
        _filter: Option<PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>> {
        Ok(Vec::new())
    }

    async fn container_events(&self) -> Result<BoxStream<'static, Result<ContainerEventResponse>>> {
        Ok(futures::stream::pending().boxed())
    }
}
