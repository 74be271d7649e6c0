//! What pods refer to: config maps, secrets, tokens, certificates, services. One cache serves volumes, environments and
//! pull credentials. An object in use is watched by its name, which is all a node may do with it, so that a change
//! reaches the volumes made of it at once.

mod fake;
mod listed;
mod standalone;
mod watched;

use async_trait::async_trait;
use client::Selectors;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service, ServiceAccount};
use std::sync::Arc;
use tokio::sync::broadcast;

pub use fake::Fake;
use listed::Listed;
pub use standalone::Standalone;
use watched::Watched;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The text is upstream's, e.g. `configmap "x" not found`.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound(_))
    }
}

/// What kind of object has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ConfigMap,
    Secret,
    TrustBundle,
    /// Named by the pod that it is for.
    CertificateRequest,
}

/// An object that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

#[async_trait]
pub trait Objects: Send + Sync {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, Error>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, Error>;
    async fn service_account_token(
        &self,
        namespace: &str,
        service_account: &str,
        request: TokenRequest,
    ) -> Result<TokenRequest, Error>;
    async fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, Error>;
    /// The uids of a service account and of this node.
    async fn identities(&self, namespace: &str, service_account: &str) -> Result<(String, String), Error>;
    async fn request_certificate(
        &self,
        request: PodCertificateRequest,
    ) -> Result<PodCertificateRequest, Error>;
    /// A request that was made, as it stands.
    async fn certificate_request(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<PodCertificateRequest>, Error>;
    /// Services of all namespaces.
    fn services(&self) -> Vec<Arc<Service>>;
    /// A pod of that namespace is about to start: objects without a watch are read again.
    fn refresh(&self, _namespace: &str) {}
    /// Changes from now on, of objects that somebody has read. A receiver that falls behind gets `Lagged` and should look
    /// at everything.
    fn changes(&self) -> broadcast::Receiver<Change>;
}

/// Changes kept for a reader that is busy.
const CHANGES: usize = 256;

/// Objects from the API server.
pub struct ApiObjects {
    client: client::Client,
    services: client::Informer<Service>,
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
    trust_bundles: Listed<ClusterTrustBundle>,
    certificate_requests: Listed<PodCertificateRequest>,
    node: String,
    changes: broadcast::Sender<Change>,
}

impl ApiObjects {
    /// Of a node, which may see the requests that are its own.
    pub fn new(client: client::Client, services: client::Informer<Service>, node: &str) -> Self {
        let informers = client::Informers::new(client.clone());
        let changes = broadcast::Sender::new(CHANGES);
        let trust_bundles = Listed::new(
            informers.clone(),
            Selectors::none(),
            changes.clone(),
            |bundle: &ClusterTrustBundle| {
                let name = bundle.metadata.name.clone().unwrap_or_default();
                Change { kind: Kind::TrustBundle, namespace: String::new(), name }
            },
        );
        let own = Selectors::fields(format!("spec.nodeName={node}"));
        let certificate_requests =
            Listed::new(informers.clone(), own, changes.clone(), |request: &PodCertificateRequest| Change {
                kind: Kind::CertificateRequest,
                namespace: request.metadata.namespace.clone().unwrap_or_default(),
                name: request.spec.pod_name.clone(),
            });
        Self {
            config_maps: Watched::new(client.clone(), informers.clone(), Kind::ConfigMap, changes.clone()),
            secrets: Watched::new(client.clone(), informers, Kind::Secret, changes.clone()),
            trust_bundles,
            certificate_requests,
            node: node.to_owned(),
            client,
            services,
            changes,
        }
    }
}

fn convert(error: &client::Error) -> Error {
    let text = error.status().map(|status| status.message.clone()).filter(|message| !message.is_empty());
    let text = text.unwrap_or_else(|| error.to_string());
    if !error.is_not_found() {
        return Error::Other(text);
    }
    // The server speaks of resources, the kubelet of the one object.
    Error::NotFound(text.replacen("configmaps ", "configmap ", 1).replacen("secrets ", "secret ", 1))
}

#[async_trait]
impl Objects for ApiObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, Error> {
        self.config_maps.get(namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, Error> {
        self.secrets.get(namespace, name).await
    }

    async fn service_account_token(
        &self,
        namespace: &str,
        service_account: &str,
        request: TokenRequest,
    ) -> Result<TokenRequest, Error> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token");
        let request = client::Request::new(http::Method::POST, path)
            .json(&request)
            .map_err(|error| Error::Other(error.to_string()))?;
        self.client.call(request).await.map_err(|error| convert(&error))
    }

    async fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, Error> {
        Ok(self.trust_bundles.informer().await?.list())
    }

    async fn identities(&self, namespace: &str, service_account: &str) -> Result<(String, String), Error> {
        let account = self.client.get::<ServiceAccount>(Some(namespace), service_account);
        let node = self.client.get::<Node>(None, &self.node);
        let (account, node) = tokio::try_join!(account, node).map_err(|error| convert(&error))?;
        Ok((account.metadata.uid.unwrap_or_default(), node.metadata.uid.unwrap_or_default()))
    }

    async fn request_certificate(
        &self,
        request: PodCertificateRequest,
    ) -> Result<PodCertificateRequest, Error> {
        // Watched from before it is there, so that nothing that happens to it is missed.
        self.certificate_requests.informer().await?;
        let namespace = request.metadata.namespace.clone();
        self.client.create(namespace.as_deref(), &request).await.map_err(|error| convert(&error))
    }

    async fn certificate_request(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<PodCertificateRequest>, Error> {
        let known = self.certificate_requests.informer().await?.get(Some(namespace), name);
        known.ok_or_else(|| Error::NotFound(format!("podcertificaterequest {name:?} not found")))
    }

    fn services(&self) -> Vec<Arc<Service>> {
        self.services.list()
    }

    fn refresh(&self, namespace: &str) {
        self.config_maps.refresh(namespace);
        self.secrets.refresh(namespace);
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
