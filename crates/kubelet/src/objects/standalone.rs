//! Without an API server there is nothing that a pod could refer to by name.

use super::{CHANGES, Change, Error, Objects};
use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use std::sync::Arc;
use tokio::sync::broadcast;

/// What a kubelet without `--kubeconfig` knows: nothing.
pub struct Standalone {
    changes: broadcast::Sender<Change>,
}

impl Default for Standalone {
    fn default() -> Self {
        Self { changes: broadcast::Sender::new(CHANGES) }
    }
}

#[async_trait]
impl Objects for Standalone {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, Error> {
        Err(Error::Other(format!(
            "failed to get configmap {namespace}/{name}: the kubelet runs standalone, without an API server"
        )))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, Error> {
        Err(Error::Other(format!(
            "failed to get secret {namespace}/{name}: the kubelet runs standalone, without an API server"
        )))
    }

    async fn service_account_token(&self, _: &str, _: &str, _: TokenRequest) -> Result<TokenRequest, Error> {
        Err(Error::Other("cannot use TokenManager when kubelet is in standalone mode".into()))
    }

    async fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, Error> {
        Err(Error::Other("ClusterTrustBundle projection is not supported in static kubelet mode".into()))
    }

    async fn identities(&self, _: &str, _: &str) -> Result<(String, String), Error> {
        Err(no_certificates())
    }

    async fn request_certificate(&self, _: PodCertificateRequest) -> Result<PodCertificateRequest, Error> {
        Err(no_certificates())
    }

    async fn certificate_request(&self, _: &str, _: &str) -> Result<Arc<PodCertificateRequest>, Error> {
        Err(no_certificates())
    }

    fn services(&self) -> Vec<Arc<Service>> {
        Vec::new()
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

fn no_certificates() -> Error {
    Error::Other("pod certificates are not issued when kubelet is in standalone mode".into())
}
