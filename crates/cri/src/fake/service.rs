//! The calls of the fake runtime. What a call does, it does in the middle of the time that it takes: whoever goes away
//! before sees nothing done, whoever goes away after does not learn that it was.

use super::{FakeRuntime, Ran, chosen, exited, is_running, unimplemented};
use crate::RuntimeService;
use crate::error::{Code, Error, Result};
use crate::v1::*;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;
use tokio::time::Instant;

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

    async fn status(&self, verbose: bool) -> Result<StatusResponse> {
        self.before().await?;
        let mut state = self.state();
        state.call("Status", "")?;
        let condition =
            |name: &str, status| RuntimeCondition { r#type: name.into(), status, ..Default::default() };
        let network = !state.network_is_down;
        let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", network)];
        let config = |image: &String| ("config".to_owned(), format!(r#"{{"sandboxImage":"{image}"}}"#));
        let info = state.sandbox_image.iter().filter(|_| verbose).map(config).collect();
        Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), info, ..Default::default() })
    }

    async fn runtime_config(&self) -> Result<RuntimeConfigResponse> {
        Err(unimplemented("RuntimeConfig"))
    }

    async fn update_runtime_config(&self, _config: RuntimeConfig) -> Result<()> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<String> {
        self.before().await?;
        let answer = self.made_sandbox(config, handler);
        self.after(answer).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.before().await?;
        let now = self.now();
        let answer = {
            let mut state = self.state();
            state.call("StopPodSandbox", id)?;
            for (status, _, sandbox) in state.containers.values_mut() {
                if sandbox == id && is_running(status) {
                    exited(status, now, 137, "Error");
                }
            }
            if let Some((status, _)) = state.sandboxes.get_mut(id) {
                status.state = PodSandboxState::SandboxNotready.into();
            }
            Ok(())
        };
        self.after(answer).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.before().await?;
        let answer = {
            let mut state = self.state();
            state.call("RemovePodSandbox", id)?;
            state.containers.retain(|_, (_, _, sandbox)| sandbox != id);
            state.sandboxes.remove(id);
            Ok(())
        };
        self.after(answer).await
    }

    async fn pod_sandbox_status(&self, id: &str, _verbose: bool) -> Result<PodSandboxStatusResponse> {
        self.before().await?;
        let mut state = self.state();
        state.reads();
        let status = state.sandboxes.get(id).map(|(status, _)| status.clone());
        match status {
            Some(status) => Ok(PodSandboxStatusResponse { status: Some(status), ..Default::default() }),
            None => Err(Error::new(Code::NotFound, format!("no sandbox {id}"))),
        }
    }

    async fn list_pod_sandboxes(&self, filter: Option<PodSandboxFilter>) -> Result<Vec<PodSandbox>> {
        self.before().await?;
        let mut state = self.state();
        state.failures.get("ListPodSandbox").cloned().map_or(Ok(()), Err)?;
        let filter = filter.unwrap_or_default();
        if !filter.label_selector.is_empty() {
            state.reads();
        }
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
        self.before().await?;
        let answer = self.made_container(sandbox, config);
        self.after(answer).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.before().await?;
        let answer = self.started(id);
        self.after(answer).await
    }

    async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        self.before().await?;
        let grace = Duration::from_secs(timeout.max(0).unsigned_abs());
        let ending = self.ending();
        {
            let mut state = self.state();
            state.call("StopContainer", id)?;
            state.graces.insert(id.into(), timeout);
            if is_running(state.container(id)?) {
                // Asked once, it ends whether or not somebody waits for it.
                state.ending.entry(id.into()).or_insert(Instant::now() + ending);
            }
        }
        // At once, where it takes no time at all.
        let wait = ending.min(grace);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let now = self.now();
        {
            let mut state = self.state();
            if let Some((status, ..)) = state.containers.get_mut(id).filter(|(it, ..)| is_running(it)) {
                exited(status, now, 137, "Error");
            }
        }
        self.after(Ok(())).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.before().await?;
        let answer = {
            let mut state = self.state();
            state.call("RemoveContainer", id)?;
            state.containers.remove(id);
            Ok(())
        };
        self.after(answer).await
    }

    async fn list_containers(&self, filter: Option<ContainerFilter>) -> Result<Vec<Container>> {
        self.before().await?;
        let mut state = self.state();
        let filter = filter.unwrap_or_default();
        if !filter.label_selector.is_empty() {
            state.reads();
        }
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
        self.before().await?;
        let mut state = self.state();
        state.reads();
        let status = state.container(id)?.clone();
        Ok(ContainerStatusResponse { status: Some(status), ..Default::default() })
    }

    async fn update_container_resources(&self, request: UpdateContainerResourcesRequest) -> Result<()> {
        self.before().await?;
        let answer = self.updated(request);
        self.after(answer).await
    }

    async fn update_pod_sandbox_resources(&self, _request: UpdatePodSandboxResourcesRequest) -> Result<()> {
        Err(unimplemented("UpdatePodSandboxResources"))
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        self.state().call("ReopenContainerLog", id)
    }

    async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        _timeout: Duration,
    ) -> Result<ExecSyncResponse> {
        self.before().await?;
        let mut state = self.state();
        state.call("ExecSync", id)?;
        state.container(id)?;
        Ok(state.exec.get(&command.join(" ")).cloned().unwrap_or_default())
    }

    async fn exec(&self, _request: ExecRequest) -> Result<String> {
        self.state().stream_url.clone().ok_or_else(|| unimplemented("Exec"))
    }

    async fn attach(&self, _request: AttachRequest) -> Result<String> {
        self.state().stream_url.clone().ok_or_else(|| unimplemented("Attach"))
    }

    async fn port_forward(&self, _request: PortForwardRequest) -> Result<String> {
        self.state().stream_url.clone().ok_or_else(|| unimplemented("PortForward"))
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let state = &mut *self.state();
        let status = state.container(id)?.clone();
        let usage = UInt64Value { value: state.memory_used.get(id).copied().unwrap_or_default() };
        let memory = MemoryUsage { usage_bytes: Some(usage), ..Default::default() };
        let attributes =
            ContainerAttributes { id: status.id, metadata: status.metadata, ..Default::default() };
        Ok(ContainerStats { attributes: Some(attributes), memory: Some(memory), ..Default::default() })
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

impl FakeRuntime {
    fn made_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<String> {
        let now = self.now();
        let mut state = self.state();
        let metadata = config.metadata.clone().unwrap_or_default();
        state.call("RunPodSandbox", &metadata.name)?;
        if state.sandboxes.values().any(|(it, _)| it.metadata.as_ref() == Some(&metadata)) {
            let text = format!("sandbox name {:?} attempt {} is reserved", metadata.name, metadata.attempt);
            return Err(Error::new(Code::AlreadyExists, text));
        }
        let id = state.id("sandbox");
        let ip = format!("10.88.0.{}", state.next % 250 + 1);
        let security = config.linux.as_ref().and_then(|linux| linux.security_context.clone());
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: PodSandboxState::SandboxReady.into(),
            created_at: now,
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

    fn made_container(&self, sandbox: &str, config: ContainerConfig) -> Result<String> {
        let now = self.now();
        let mut state = self.state();
        let metadata = config.metadata.clone().unwrap_or_default();
        state.call("CreateContainer", &metadata.name)?;
        let reserved = |(it, _, of): &(ContainerStatus, ContainerConfig, String)| {
            of == sandbox && it.metadata.as_ref() == Some(&metadata)
        };
        if state.containers.values().any(reserved) {
            let text = format!("container name {:?} attempt {} is reserved", metadata.name, metadata.attempt);
            return Err(Error::new(Code::AlreadyExists, text));
        }
        let log_directory = match state.sandboxes.get(sandbox) {
            Some((status, config)) if status.state == i32::from(PodSandboxState::SandboxReady) => {
                config.log_directory.clone()
            }
            Some(_) => return Err(Error::new(Code::Unknown, format!("sandbox {sandbox} is not running"))),
            None => return Err(Error::new(Code::NotFound, format!("no sandbox {sandbox}"))),
        };
        let id = state.id("container");
        let status = ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: ContainerState::ContainerCreated.into(),
            created_at: now,
            image: config.image.clone(),
            image_ref: format!("{}@sha256:fake", config.image.as_ref().map_or("", |image| &image.image)),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: format!("{log_directory}/{}", config.log_path),
            resources: config
                .linux
                .as_ref()
                .map(|linux| ContainerResources { linux: linux.resources.clone() }),
            ..Default::default()
        };
        state.containers.insert(id.clone(), (status, config, sandbox.into()));
        Ok(id)
    }

    /// As runtimes do it: a zero leaves a value as it is.
    fn updated(&self, request: UpdateContainerResourcesRequest) -> Result<()> {
        let mut state = self.state();
        state.call("UpdateContainerResources", &request.container_id)?;
        let status = state.container(&request.container_id)?;
        let new = request.linux.unwrap_or_default();
        let resources = status.resources.get_or_insert_default().linux.get_or_insert_default();
        let set = |to: &mut i64, from: i64| {
            if from != 0 {
                *to = from;
            }
        };
        set(&mut resources.cpu_shares, new.cpu_shares);
        set(&mut resources.cpu_quota, new.cpu_quota);
        set(&mut resources.cpu_period, new.cpu_period);
        set(&mut resources.memory_limit_in_bytes, new.memory_limit_in_bytes);
        Ok(())
    }

    fn started(&self, id: &str) -> Result<()> {
        let now = self.now();
        let mut state = self.state();
        state.call("StartContainer", id)?;
        let sandbox = state.containers.get(id).map(|(_, _, sandbox)| sandbox.clone()).unwrap_or_default();
        let ready = |(it, _): &(PodSandboxStatus, PodSandboxConfig)| {
            it.state == i32::from(PodSandboxState::SandboxReady)
        };
        let in_sandbox = state.sandboxes.get(&sandbox).is_some_and(ready);
        let status = state.container(id)?;
        if status.state != i32::from(ContainerState::ContainerCreated) || !in_sandbox {
            let text = format!("container {id} or its sandbox is not in a state to start it");
            return Err(Error::new(Code::Unknown, text));
        }
        status.state = ContainerState::ContainerRunning.into();
        status.started_at = now;
        let metadata = status.metadata.clone().unwrap_or_default();
        let pod_uid = status.labels.get(super::POD_UID).cloned().unwrap_or_default();
        let (container, attempt) = (metadata.name, metadata.attempt);
        state.ran.push(Ran { pod_uid, container, attempt, id: id.into() });
        Ok(())
    }
}
