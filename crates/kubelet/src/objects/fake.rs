//! Objects in memory, for tests.

use super::{Change, Error, Kind, Objects};
use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::broadcast;

type Named<T> = Mutex<HashMap<(String, String), Arc<T>>>;

/// Objects in memory.
pub struct Fake {
    config_maps: Named<ConfigMap>,
    secrets: Named<Secret>,
    trust_bundles: Mutex<Vec<Arc<ClusterTrustBundle>>>,
    certificate_requests: Named<PodCertificateRequest>,
    /// Refuses requests of certificates.
    pub refuses_certificates: AtomicBool,
    services: Mutex<Vec<Arc<Service>>>,
    changes: broadcast::Sender<Change>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            config_maps: Mutex::default(),
            secrets: Mutex::default(),
            trust_bundles: Mutex::default(),
            certificate_requests: Mutex::default(),
            refuses_certificates: AtomicBool::default(),
            services: Mutex::default(),
            changes: broadcast::Sender::new(16),
        }
    }
}

impl Fake {
    pub fn add_config_map(&self, object: ConfigMap) {
        let key = key(&object.metadata);
        self.config_maps.lock().insert(key.clone(), Arc::new(object));
        let _ = self.changes.send(Change { kind: Kind::ConfigMap, namespace: key.0, name: key.1 });
    }

    pub fn add_secret(&self, object: Secret) {
        let key = key(&object.metadata);
        self.secrets.lock().insert(key.clone(), Arc::new(object));
        let _ = self.changes.send(Change { kind: Kind::Secret, namespace: key.0, name: key.1 });
    }

    pub fn add_trust_bundle(&self, object: ClusterTrustBundle) {
        let name = object.metadata.name.clone().unwrap_or_default();
        self.trust_bundles.lock().push(Arc::new(object));
        let _ = self.changes.send(Change { kind: Kind::TrustBundle, namespace: String::new(), name });
    }

    /// The certificates that were asked for.
    pub fn certificate_requests(&self) -> Vec<Arc<PodCertificateRequest>> {
        let mut all: Vec<_> = self.certificate_requests.lock().values().cloned().collect();
        all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        all
    }

    pub fn set_certificate_request(&self, object: PodCertificateRequest) {
        let (key, pod) = (key(&object.metadata), object.spec.pod_name.clone());
        self.certificate_requests.lock().insert(key.clone(), Arc::new(object));
        let _ = self.changes.send(Change { kind: Kind::CertificateRequest, namespace: key.0, name: pod });
    }

    pub fn add_service(&self, object: Service) {
        self.services.lock().push(Arc::new(object));
    }
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

#[async_trait]
impl Objects for Fake {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, Error> {
        let found = self.config_maps.lock().get(&(namespace.into(), name.into())).cloned();
        found.ok_or_else(|| Error::NotFound(format!("configmap {name:?} not found")))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, Error> {
        let found = self.secrets.lock().get(&(namespace.into(), name.into())).cloned();
        found.ok_or_else(|| Error::NotFound(format!("secret {name:?} not found")))
    }

    async fn service_account_token(
        &self,
        namespace: &str,
        service_account: &str,
        mut request: TokenRequest,
    ) -> Result<TokenRequest, Error> {
        let seconds = request.spec.as_ref().and_then(|spec| spec.expiration_seconds).unwrap_or(3600);
        let expires = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).ok();
        request.status = Some(TokenRequestStatus {
            token: Some(format!("token-of-{namespace}-{service_account}")),
            expiration_timestamp: expires.map(Time),
        });
        Ok(request)
    }

    async fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, Error> {
        Ok(self.trust_bundles.lock().clone())
    }

    async fn identities(&self, namespace: &str, service_account: &str) -> Result<(String, String), Error> {
        Ok((format!("uid-of-{namespace}-{service_account}"), "uid-of-node".into()))
    }

    async fn request_certificate(
        &self,
        mut request: PodCertificateRequest,
    ) -> Result<PodCertificateRequest, Error> {
        if self.refuses_certificates.load(Ordering::Relaxed) {
            return Err(Error::Other("forbidden".into()));
        }
        let number = self.certificate_requests.lock().len();
        request.metadata.name = Some(format!("req-{number}"));
        self.set_certificate_request(request.clone());
        Ok(request)
    }

    async fn certificate_request(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<PodCertificateRequest>, Error> {
        let found = self.certificate_requests.lock().get(&(namespace.into(), name.into())).cloned();
        found.ok_or_else(|| Error::NotFound(format!("podcertificaterequest {name:?} not found")))
    }

    fn services(&self) -> Vec<Arc<Service>> {
        self.services.lock().clone()
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
