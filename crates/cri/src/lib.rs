//! The Container Runtime Interface as the kubelet uses it: two traits over the messages of [`proto::cri::v1`],
//! a gRPC client for a runtime behind a Unix socket, and a runtime in memory for tests.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod error;
pub mod fake;
pub mod observed;

use async_trait::async_trait;
use futures::stream::BoxStream;
use std::time::Duration;

pub use client::Client;
pub use error::{Code, Error, Result};
pub use proto::cri::v1;

use v1::*;

/// Sandboxes and containers. Ids are the runtime's own; times are nanoseconds since the epoch.
#[async_trait]
pub trait RuntimeService: Send + Sync {
    async fn version(&self) -> Result<VersionResponse>;
    /// Conditions `RuntimeReady` and `NetworkReady`, and the runtime's handlers.
    async fn status(&self, verbose: bool) -> Result<StatusResponse>;
    /// The cgroup driver the runtime uses; `Unimplemented` from older ones.
    async fn runtime_config(&self) -> Result<RuntimeConfigResponse>;
    async fn update_runtime_config(&self, config: RuntimeConfig) -> Result<()>;

    /// Creates and starts a sandbox, network included; returns its id.
    async fn run_pod_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<String>;
    /// Stops what runs in it and gives back its network. Idempotent.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    /// Removes it with its containers, by force where they run. Idempotent.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, id: &str, verbose: bool) -> Result<PodSandboxStatusResponse>;
    async fn list_pod_sandboxes(&self, filter: Option<PodSandboxFilter>) -> Result<Vec<PodSandbox>>;

    async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Sends the stop signal, and kills after `timeout` seconds. Returns when the container has stopped.
    async fn stop_container(&self, id: &str, timeout: i64) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn list_containers(&self, filter: Option<ContainerFilter>) -> Result<Vec<Container>>;
    async fn container_status(&self, id: &str, verbose: bool) -> Result<ContainerStatusResponse>;
    async fn update_container_resources(&self, request: UpdateContainerResourcesRequest) -> Result<()>;
    /// What a pod's own group has, for plugins; `Unimplemented` from most runtimes.
    async fn update_pod_sandbox_resources(&self, request: UpdatePodSandboxResourcesRequest) -> Result<()>;
    async fn reopen_container_log(&self, id: &str) -> Result<()>;

    /// Runs a command to its end. A zero `timeout` waits as long as it takes; past it: `DeadlineExceeded`.
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecSyncResponse>;
    /// The address of a streaming server that runs the command.
    async fn exec(&self, request: ExecRequest) -> Result<String>;
    async fn attach(&self, request: AttachRequest) -> Result<String>;
    async fn port_forward(&self, request: PortForwardRequest) -> Result<String>;

    async fn container_stats(&self, id: &str) -> Result<ContainerStats>;
    async fn list_container_stats(&self, filter: Option<ContainerStatsFilter>)
    -> Result<Vec<ContainerStats>>;
    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats>;
    async fn list_pod_sandbox_stats(
        &self,
        filter: Option<PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>>;

    /// Container events as they happen; `Unimplemented` from runtimes without them.
    async fn container_events(&self) -> Result<BoxStream<'static, Result<ContainerEventResponse>>>;
}

/// Images.
#[async_trait]
pub trait ImageService: Send + Sync {
    async fn list_images(&self, filter: Option<ImageFilter>) -> Result<Vec<Image>>;
    /// `None` where the image is not present.
    async fn image_status(&self, image: ImageSpec) -> Result<Option<Image>>;
    /// Returns the reference by which containers name the pulled image. Has no time limit of its own.
    async fn pull_image(
        &self,
        image: ImageSpec,
        auth: Option<AuthConfig>,
        sandbox_config: Option<PodSandboxConfig>,
    ) -> Result<String>;
    /// Idempotent.
    async fn remove_image(&self, image: ImageSpec) -> Result<()>;
    async fn image_fs_info(&self) -> Result<ImageFsInfoResponse>;
}
