//! gRPC to a runtime behind a Unix socket.
//!
//! One lazily made connection serves all calls and is replaced after the runtime restarts. The authority is
//! always `localhost`: HTTP/2 does not take a socket's path there.

use crate::error::{Code, Error, Result};
use crate::observed::{Observed, Observer};
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::*;
use crate::{ImageService, RuntimeService};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};

/// What one message may hold, as upstream's client allows.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// A header of gRPC holds no more than eight digits; a call that may take a year may take for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Cheap to clone.
#[derive(Clone)]
pub struct Client {
    runtime: RuntimeServiceClient<Observed>,
    image: ImageServiceClient<Observed>,
    timeout: Duration,
}

impl Client {
    /// `endpoint` is `unix:///path` or a bare path; `timeout` bounds calls that should return promptly.
    pub fn new(endpoint: &str, timeout: Duration) -> Result<Self> {
        Self::observed(endpoint, timeout, None)
    }

    /// As [`Client::new`]; the observer hears of every call.
    pub fn observed(endpoint: &str, timeout: Duration, observer: Option<Observer>) -> Result<Self> {
        let path = socket_path(endpoint)?;
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(
            tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }),
        );
        let channel = Observed { channel, observer };
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE),
            image: ImageServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE),
            timeout,
        })
    }

    /// Asks the runtime for its version and refuses one that does not speak CRI v1.
    pub async fn check_version(&self) -> Result<VersionResponse> {
        let version = self.version().await?;
        if version.runtime_api_version != "v1" {
            return Err(Error::new(
                Code::FailedPrecondition,
                format!("CRI v1 runtime API is not implemented: runtime has {}", version.runtime_api_version),
            ));
        }
        Ok(version)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        limited(message, self.timeout)
    }
}

fn limited<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout.min(LONGEST));
    request
}

/// How long the call that stops a container may take: its grace comes from whoever wrote the pod.
fn stopping(timeout: Duration, grace: i64) -> Duration {
    timeout.saturating_add(Duration::from_secs(grace.max(0).unsigned_abs()))
}

fn socket_path(endpoint: &str) -> Result<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !path.starts_with('/') {
        return Err(Error::new(
            Code::InvalidArgument,
            format!("container runtime endpoint {endpoint:?} is not a Unix socket"),
        ));
    }
    Ok(PathBuf::from(path))
}

fn missing(what: &str) -> Error {
    Error::new(Code::Internal, format!("the runtime's answer has no {what}"))
}

#[async_trait]
impl RuntimeService for Client {
    async fn version(&self) -> Result<VersionResponse> {
        let request = self.request(VersionRequest { version: "v1".into() });
        Ok(self.runtime.clone().version(request).await?.into_inner())
    }

    async fn status(&self, verbose: bool) -> Result<StatusResponse> {
        Ok(self.runtime.clone().status(self.request(StatusRequest { verbose })).await?.into_inner())
    }

    async fn runtime_config(&self) -> Result<RuntimeConfigResponse> {
        Ok(self.runtime.clone().runtime_config(self.request(RuntimeConfigRequest {})).await?.into_inner())
    }

    async fn update_runtime_config(&self, config: RuntimeConfig) -> Result<()> {
        let request = self.request(UpdateRuntimeConfigRequest { runtime_config: Some(config) });
        self.runtime.clone().update_runtime_config(request).await?;
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<String> {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: handler.into() };
        // The network plugins run within this call.
        let request = limited(request, self.timeout.saturating_mul(2));
        Ok(self.runtime.clone().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = self.request(StopPodSandboxRequest { pod_sandbox_id: id.into() });
        self.runtime.clone().stop_pod_sandbox(request).await?;
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = self.request(RemovePodSandboxRequest { pod_sandbox_id: id.into() });
        self.runtime.clone().remove_pod_sandbox(request).await?;
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str, verbose: bool) -> Result<PodSandboxStatusResponse> {
        let request = self.request(PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose });
        Ok(self.runtime.clone().pod_sandbox_status(request).await?.into_inner())
    }

    async fn list_pod_sandboxes(&self, filter: Option<PodSandboxFilter>) -> Result<Vec<PodSandbox>> {
        let request = self.request(ListPodSandboxRequest { filter });
        Ok(self.runtime.clone().list_pod_sandbox(request).await?.into_inner().items)
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String> {
        let request = self.request(CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        });
        Ok(self.runtime.clone().create_container(request).await?.into_inner().container_id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let request = self.request(StartContainerRequest { container_id: id.into() });
        self.runtime.clone().start_container(request).await?;
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        let limit = stopping(self.timeout, timeout);
        let request = limited(StopContainerRequest { container_id: id.into(), timeout }, limit);
        self.runtime.clone().stop_container(request).await?;
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let request = self.request(RemoveContainerRequest { container_id: id.into() });
        self.runtime.clone().remove_container(request).await?;
        Ok(())
    }

    async fn list_containers(&self, filter: Option<ContainerFilter>) -> Result<Vec<Container>> {
        let request = self.request(ListContainersRequest { filter });
        Ok(self.runtime.clone().list_containers(request).await?.into_inner().containers)
    }

    async fn container_status(&self, id: &str, verbose: bool) -> Result<ContainerStatusResponse> {
        let request = self.request(ContainerStatusRequest { container_id: id.into(), verbose });
        Ok(self.runtime.clone().container_status(request).await?.into_inner())
    }

    async fn update_container_resources(&self, request: UpdateContainerResourcesRequest) -> Result<()> {
        self.runtime.clone().update_container_resources(self.request(request)).await?;
        Ok(())
    }

    async fn update_pod_sandbox_resources(&self, request: UpdatePodSandboxResourcesRequest) -> Result<()> {
        self.runtime.clone().update_pod_sandbox_resources(self.request(request)).await?;
        Ok(())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let request = self.request(ReopenContainerLogRequest { container_id: id.into() });
        self.runtime.clone().reopen_container_log(request).await?;
        Ok(())
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let message = ExecSyncRequest { container_id: id.into(), cmd: command, timeout: seconds };
        // The runtime keeps the time; ours is the second line, for a runtime that hangs.
        let request = match timeout.is_zero() {
            true => tonic::Request::new(message),
            false => limited(message, self.timeout.saturating_add(timeout)),
        };
        Ok(self.runtime.clone().exec_sync(request).await?.into_inner())
    }

    async fn exec(&self, request: ExecRequest) -> Result<String> {
        Ok(self.runtime.clone().exec(self.request(request)).await?.into_inner().url)
    }

    async fn attach(&self, request: AttachRequest) -> Result<String> {
        Ok(self.runtime.clone().attach(self.request(request)).await?.into_inner().url)
    }

    async fn port_forward(&self, request: PortForwardRequest) -> Result<String> {
        Ok(self.runtime.clone().port_forward(self.request(request)).await?.into_inner().url)
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let request = self.request(ContainerStatsRequest { container_id: id.into() });
        let answer = self.runtime.clone().container_stats(request).await?.into_inner();
        answer.stats.ok_or_else(|| missing("stats"))
    }

    async fn list_container_stats(
        &self,
        filter: Option<ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>> {
        let request = self.request(ListContainerStatsRequest { filter });
        Ok(self.runtime.clone().list_container_stats(request).await?.into_inner().stats)
    }

    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats> {
        let request = self.request(PodSandboxStatsRequest { pod_sandbox_id: id.into() });
        let answer = self.runtime.clone().pod_sandbox_stats(request).await?.into_inner();
        answer.stats.ok_or_else(|| missing("stats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        filter: Option<PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>> {
        let request = self.request(ListPodSandboxStatsRequest { filter });
        Ok(self.runtime.clone().list_pod_sandbox_stats(request).await?.into_inner().stats)
    }

    async fn container_events(&self) -> Result<BoxStream<'static, Result<ContainerEventResponse>>> {
        let stream = self.runtime.clone().get_container_events(GetEventsRequest {}).await?.into_inner();
        Ok(stream.map(|event| event.map_err(Error::from)).boxed())
    }
}

#[async_trait]
impl ImageService for Client {
    async fn list_images(&self, filter: Option<ImageFilter>) -> Result<Vec<Image>> {
        let request = self.request(ListImagesRequest { filter });
        Ok(self.image.clone().list_images(request).await?.into_inner().images)
    }

    async fn image_status(&self, image: ImageSpec) -> Result<Option<Image>> {
        let request = self.request(ImageStatusRequest { image: Some(image), verbose: false });
        Ok(self.image.clone().image_status(request).await?.into_inner().image)
    }

    async fn pull_image(
        &self,
        image: ImageSpec,
        auth: Option<AuthConfig>,
        sandbox_config: Option<PodSandboxConfig>,
    ) -> Result<String> {
        let request = PullImageRequest { image: Some(image), auth, sandbox_config };
        Ok(self.image.clone().pull_image(request).await?.into_inner().image_ref)
    }

    async fn remove_image(&self, image: ImageSpec) -> Result<()> {
        self.image.clone().remove_image(self.request(RemoveImageRequest { image: Some(image) })).await?;
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<ImageFsInfoResponse> {
        Ok(self.image.clone().image_fs_info(self.request(ImageFsInfoRequest {})).await?.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!(socket_path("unix:///run/x.sock").unwrap(), PathBuf::from("/run/x.sock"));
        assert_eq!(socket_path("/run/x.sock").unwrap(), PathBuf::from("/run/x.sock"));
        assert!(socket_path("tcp://localhost:1").is_err());
    }

    #[test]
    fn times_beyond_what_a_header_holds() {
        let header = |limit| {
            let request = limited((), limit);
            request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(header(stopping(Duration::from_secs(120), 30)), "150000m");
        let year = header(LONGEST);
        assert_eq!(header(stopping(Duration::from_secs(120), i64::MAX)), year);
        assert_eq!(header(stopping(Duration::MAX, i64::MAX)), year);
    }
}
