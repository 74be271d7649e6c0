//! Certificates of pods: a key is made here and never leaves the node but into its pod, a signer issues the certificate for it by a
//! PodCertificateRequest, and both are renewed in time. After a restart each is requested anew.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{Pod, PodCertificateProjection};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};
use tokio::sync::Semaphore;

use super::trust;
use crate::events::{Events, Warning};
use crate::objects::{Error, Objects};
use crate::pods::{name, namespace, uid};

/// After this a request that is nowhere to be seen has been deleted.
const LOST: SignedDuration = SignedDuration::from_mins(10);
/// A certificate that is not renewed this long after its time is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);
/// Pods that started together do not renew together.
const JITTER_SECONDS: i64 = 300;
const KEYS_AT_ONCE: usize = 2;

/// Where a certificate stands in its pod: a volume and a source of it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub pod: &'a Pod,
    pub volume: &'a str,
    pub index: usize,
}

/// Pod, volume and source.
type Key = (String, String, usize);

pub struct Certificates {
    node: String,
    events: Arc<Events>,
    kept: Mutex<HashMap<Key, Kept>>,
    /// Keys that may be made at once.
    making: Semaphore,
}

#[derive(Clone, Default)]
struct Kept {
    issued: Option<Issued>,
    pending: Option<Pending>,
    /// A key whose request could not be made.
    made: Option<Made>,
    /// Why no further one is requested.
    ended: Option<String>,
}

#[derive(Clone)]
struct Issued {
    key: String,
    chain: Vec<u8>,
    renew: Timestamp,
    expires: Timestamp,
    was_overdue: bool,
    was_expired: bool,
}

/// A new key, in PEM, and an empty request for a certificate that shows who has it, in DER.
type Made = (String, Vec<u8>);

#[derive(Clone)]
struct Pending {
    request: String,
    key: String,
    lost: Timestamp,
}

/// What is known of a request.
enum Answer {
    None,
    Issued,
    /// Denied or failed: the condition's type, reason and message.
    Ended(&'static str, String, String),
}

impl Certificates {
    pub fn new(node: &str, events: Arc<Events>) -> Certificates {
        let making = Semaphore::new(KEYS_AT_ONCE);
        Certificates { node: node.to_owned(), events, kept: Mutex::default(), making }
    }

    /// The key and the chain, in PEM. One task at a time works on a pod's volumes.
    pub async fn get(
        &self,
        objects: &dyn Objects,
        place: Place<'_>,
        source: &PodCertificateProjection,
    ) -> Result<(String, Vec<u8>), Error> {
        let key = (uid(place.pod).to_owned(), place.volume.to_owned(), place.index);
        let mut kept = self.kept.lock().get(&key).cloned().unwrap_or_default();
        let advanced = self.advance(&mut kept, objects, place.pod, source).await;
        let found = match (&kept.ended, &kept.issued) {
            (Some(ended), _) => Err(Error::Other(ended.clone())),
            (None, Some(issued)) => {
                if let Err(error) = &advanced {
                    tracing::warn!(pod = name(place.pod), %error, "Cannot renew the pod's certificate");
                }
                Ok((issued.key.clone(), issued.chain.clone()))
            }
            (None, None) => {
                advanced.and_then(|()| Err(Error::Other("credential bundle is not issued yet".into())))
            }
        };
        self.kept.lock().insert(key, kept);
        found
    }

    pub fn forget(&self, uid: &str) {
        self.kept.lock().retain(|(of, _, _), _| of != uid);
    }

    /// Looks at what has been requested, and requests what is needed.
    async fn advance(
        &self,
        kept: &mut Kept,
        objects: &dyn Objects,
        pod: &Pod,
        source: &PodCertificateProjection,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        if kept.ended.is_some() {
            return Ok(());
        }
        if let Some(pending) = kept.pending.clone() {
            match objects.certificate_request(namespace(pod), &pending.request).await {
                Ok(request) => self.look(kept, pod, &request, pending),
                // Its watch may be late.
                Err(error) if error.is_not_found() && now < pending.lost => {}
                Err(error) if error.is_not_found() => kept.pending = None,
                Err(error) => return Err(error),
            }
        }
        if let Some(issued) = &mut kept.issued {
            self.complain(issued, pod, now);
        }
        let is_due = kept.issued.as_ref().is_none_or(|issued| now >= issued.renew);
        if kept.ended.is_none() && kept.pending.is_none() && is_due {
            let made = match kept.made.take() {
                Some(made) => made,
                None => self.make(&source.key_type).await?,
            };
            let request = self.request(objects, pod, source, made.1.clone()).await;
            kept.made = request.is_err().then(|| made.clone());
            let lost = now.checked_add(LOST + jitter()).unwrap_or(Timestamp::MAX);
            kept.pending = Some(Pending { request: request?, key: made.0, lost });
        }
        Ok(())
    }

    fn look(&self, kept: &mut Kept, pod: &Pod, request: &PodCertificateRequest, pending: Pending) {
        match answer(request) {
            Answer::None => {}
            Answer::Ended(kind, reason, message) => {
                let was = if kind == "Denied" { "was denied" } else { "failed" };
                let text = format!(
                    "PodCertificateRequest {}/{} {was}, reason={reason:?}, message={message:?}",
                    namespace(pod),
                    pending.request
                );
                self.events.event(pod, Warning, kind, &text);
                *kept = Kept {
                    ended: Some(format!(
                        "PodCertificateRequest was permanently {}: reason={reason:?} message={message:?}",
                        kind.to_ascii_lowercase()
                    )),
                    ..Kept::default()
                };
            }
            Answer::Issued => {
                let status = request.status.clone().unwrap_or_default();
                let expires = status.not_after.map_or(Timestamp::MAX, |time| time.0);
                let renew = status.begin_refresh_at.map_or(expires, |time| time.0);
                kept.pending = None;
                kept.issued = Some(Issued {
                    key: pending.key,
                    chain: trust::cleaned(&status.certificate_chain.unwrap_or_default()),
                    renew: renew.checked_add(jitter()).unwrap_or(renew),
                    expires,
                    was_overdue: false,
                    was_expired: false,
                });
            }
        }
    }

    /// Events of a certificate that nobody renews, once each.
    fn complain(&self, issued: &mut Issued, pod: &Pod, now: Timestamp) {
        let overdue = issued.renew.checked_add(OVERDUE).is_ok_and(|overdue| now > overdue);
        if overdue && !std::mem::replace(&mut issued.was_overdue, true) {
            let text = "PodCertificate refresh overdue";
            self.events.event(pod, Warning, "CertificateOverdueForRefresh", text);
        }
        if now > issued.expires && !std::mem::replace(&mut issued.was_expired, true) {
            self.events.event(pod, Warning, "CertificateExpired", "PodCertificate expired");
        }
    }

    /// An RSA key takes seconds of a core.
    async fn make(&self, kind: &str) -> Result<Made, Error> {
        let kind = kind.to_owned();
        // It is never closed.
        let _permit = self.making.acquire().await.ok();
        let made = tokio::task::spawn_blocking(move || generated(&kind)).await;
        made.map_err(|error| Error::Other(error.to_string()))?.map_err(Error::Other)
    }

    /// The name of a new request.
    async fn request(
        &self,
        objects: &dyn Objects,
        pod: &Pod,
        source: &PodCertificateProjection,
        stub: Vec<u8>,
    ) -> Result<String, Error> {
        let account =
            pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let (service_account_uid, node_uid) = objects.identities(namespace(pod), account).await?;
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: name(pod).into(),
            uid: uid(pod).into(),
            ..OwnerReference::default()
        };
        let request = PodCertificateRequest {
            metadata: ObjectMeta {
                namespace: Some(namespace(pod).into()),
                generate_name: Some("req-".into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: PodCertificateRequestSpec {
                signer_name: source.signer_name.clone(),
                pod_name: name(pod).into(),
                pod_uid: uid(pod).into(),
                service_account_name: account.into(),
                service_account_uid,
                node_name: self.node.clone(),
                node_uid,
                max_expiration_seconds: source.max_expiration_seconds,
                stub_pkc_s10_request: ByteString(stub),
                unverified_user_annotations: source.user_annotations.clone(),
            },
            status: None,
        };
        let request = objects.request_certificate(request).await?;
        Ok(request.metadata.name.unwrap_or_default())
    }
}

fn jitter() -> SignedDuration {
    SignedDuration::from_secs(rand::random_range(0..JITTER_SECONDS))
}

fn answer(request: &PodCertificateRequest) -> Answer {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    for condition in conditions {
        let ended = |kind| Answer::Ended(kind, condition.reason.clone(), condition.message.clone());
        match condition.type_.as_str() {
            "Denied" => return ended("Denied"),
            "Failed" => return ended("Failed"),
            "Issued" => return Answer::Issued,
            _ => {}
        }
    }
    Answer::None
}

fn generated(kind: &str) -> Result<Made, String> {
    let key = match kind {
        "RSA3072" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        "RSA4096" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
        "ECDSAP256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        "ECDSAP384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        "ECDSAP521" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        "ED25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        other => return Err(format!("unknown key type {other:?}")),
    };
    let key = key.map_err(|error| format!("while generating keypair: {error}"))?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    let request = parameters.serialize_request(&key);
    let request = request.map_err(|error| format!("while generating stub PKCS#10 request: {error}"))?;
    Ok((key.serialize_pem().replace("\r\n", "\n"), request.der().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Fake;
    use serde_json::{Value, json};

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "serviceAccountName": "robot"}}))
        .unwrap()
    }

    fn answered(objects: &Fake, status: Value) {
        let mut request = (*objects.certificate_requests().pop().unwrap()).clone();
        request.status = Some(serde_json::from_value(status).unwrap());
        objects.set_certificate_request(request);
    }

    fn condition(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "Because", "message": "so it is",
            "lastTransitionTime": "2026-01-02T03:04:05Z"}])
    }

    fn chain() -> String {
        let key = KeyPair::generate().unwrap();
        CertificateParams::default().self_signed(&key).unwrap().pem().replace("\r\n", "\n")
    }

    fn at(minutes: i64) -> String {
        Timestamp::now().checked_add(SignedDuration::from_mins(minutes)).unwrap().to_string()
    }

    #[tokio::test]
    async fn a_certificate_is_requested_waited_for_kept_and_renewed() {
        let (objects, pod) = (Fake::default(), pod());
        let events = Arc::new(Events::new(None));
        let certificates = Certificates::new("node-1", events.clone());
        let source: PodCertificateProjection =
            serde_json::from_value(json!({"signerName": "example.com/s", "keyType": "ECDSAP256",
                "maxExpirationSeconds": 3600, "userAnnotations": {"a": "b"}}))
            .unwrap();
        let get =
            async || certificates.get(&objects, Place { pod: &pod, volume: "v", index: 0 }, &source).await;
        for _ in 0..2 {
            assert_eq!(get().await.unwrap_err().to_string(), "credential bundle is not issued yet");
        }
        let requests = objects.certificate_requests();
        assert_eq!(requests.len(), 1);
        let spec = &requests[0].spec;
        assert_eq!(
            (&*spec.pod_name, &*spec.pod_uid, &*spec.service_account_uid, &*spec.node_uid, &*spec.node_name),
            ("p", "u", "uid-of-ns-robot", "uid-of-node", "node-1")
        );
        assert_eq!(spec.max_expiration_seconds, Some(3600));
        assert_eq!(spec.unverified_user_annotations.as_ref().unwrap()["a"], "b");

        let first = chain();
        answered(
            &objects,
            json!({"conditions": condition("Issued"), "certificateChain": format!("x\n{first}"),
            "notAfter": at(60), "beginRefreshAt": at(30)}),
        );
        let (key, bytes) = get().await.unwrap();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{key}");
        assert_eq!(String::from_utf8(bytes).unwrap(), first);
        assert_eq!(get().await.unwrap().0, key);
        assert_eq!(objects.certificate_requests().len(), 1);

        // Its time has come; until the next one is there the old one serves.
        for kept in certificates.kept.lock().values_mut() {
            kept.issued.as_mut().unwrap().renew = Timestamp::now();
        }
        assert_eq!(get().await.unwrap().0, key);
        assert_eq!(objects.certificate_requests().len(), 2);
        let second = chain();
        answered(
            &objects,
            json!({"conditions": condition("Issued"), "certificateChain": second,
            "notAfter": at(-1), "beginRefreshAt": at(-30)}),
        );
        let (renewed, bytes) = get().await.unwrap();
        assert_ne!(renewed, key);
        assert_eq!(String::from_utf8(bytes).unwrap(), second);

        // A third is requested, for this one is over; nobody answers.
        get().await.unwrap();
        get().await.unwrap();
        assert_eq!(objects.certificate_requests().len(), 3);
        let reasons: Vec<String> = events.kept().into_iter().map(|(reason, _)| reason).collect();
        assert_eq!(reasons, ["CertificateOverdueForRefresh", "CertificateExpired"]);
        certificates.forget("u");
        assert!(certificates.kept.lock().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        for (kind, was) in [("Denied", "was denied"), ("Failed", "failed")] {
            let (objects, pod) = (Fake::default(), pod());
            let events = Arc::new(Events::new(None));
            let certificates = Certificates::new("node-1", events.clone());
            let source =
                serde_json::from_value(json!({"signerName": "e.com/s", "keyType": "ED25519"})).unwrap();
            let get = async || {
                certificates.get(&objects, Place { pod: &pod, volume: "v", index: 0 }, &source).await
            };
            get().await.unwrap_err();
            answered(&objects, json!({"conditions": condition(kind)}));
            let text = format!(
                "PodCertificateRequest was permanently {}: reason=\"Because\" message=\"so it is\"",
                kind.to_lowercase()
            );
            for _ in 0..2 {
                assert_eq!(get().await.unwrap_err().to_string(), text);
            }
            assert_eq!(objects.certificate_requests().len(), 1);
            let message =
                format!("PodCertificateRequest ns/req-0 {was}, reason=\"Because\", message=\"so it is\"");
            assert_eq!(events.kept(), [(kind.to_owned(), message)]);
        }
    }

    #[tokio::test]
    async fn a_refused_request_keeps_its_key() {
        let (objects, pod) = (Fake::default(), pod());
        let certificates = Certificates::new("node-1", Arc::new(Events::new(None)));
        let source = serde_json::from_value(json!({"signerName": "e.com/s", "keyType": "RSA3072"})).unwrap();
        let get =
            async || certificates.get(&objects, Place { pod: &pod, volume: "v", index: 0 }, &source).await;
        let made = || certificates.kept.lock().values().next().unwrap().made.clone();
        objects.refuses_certificates.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(get().await.unwrap_err().to_string(), "forbidden");
        let first = made().unwrap();
        get().await.unwrap_err();
        assert_eq!(made(), Some(first.clone()));
        objects.refuses_certificates.store(false, std::sync::atomic::Ordering::Relaxed);
        get().await.unwrap_err();
        assert_eq!(made(), None);
        assert_eq!(objects.certificate_requests()[0].spec.stub_pkc_s10_request.0, first.1);
    }

    #[test]
    fn keys_of_all_kinds() {
        for kind in ["RSA3072", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"] {
            let (key, request) = generated(kind).unwrap();
            assert!(key.contains("PRIVATE KEY") && !request.is_empty(), "{kind}");
        }
        assert_eq!(generated("DSA").unwrap_err(), "unknown key type \"DSA\"");
    }
}
