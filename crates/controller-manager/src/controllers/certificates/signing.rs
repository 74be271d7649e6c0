//! `certificatesigningrequest-signing-controller`: signs approved requests, for each of the built-in signers that has an
//! authority.
//!
//! Absent: subjects with several values of one kind, such as several organizations. Such a request is refused with an
//! error, rather than signed for a part of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Informer, Key};
use controllers::{Context, Error, Next, Reconcile, time};
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::requests::{
    REQUEST, Request, Subject, add_condition, change, check_client, check_kubelet_client,
    check_kubelet_serving, has_plain_subject, pem,
};
use crate::Options;

/// Clocks differ: certificates begin a little before they are made.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Below this the backdating is not taken from the end.
const SHORT: Duration = Duration::from_secs(8 * 3600);
const SHORTEST: Duration = Duration::from_secs(10 * 60);

struct Controller {
    requests: Informer<Request>,
    signers: Vec<Signer>,
    lifetime: Duration,
}

/// A signer with the files of its authority.
struct Signer {
    name: &'static str,
    certificate: PathBuf,
    key: PathBuf,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let signers = signers(&options);
    if signers.is_empty() {
        tracing::info!("No csr cert/key was specified, nothing will be signed");
        context.shutdown.cancelled().await;
        return Ok(());
    }
    let account = "certificate-controller";
    let mut builder = context.builder("csrsigning", account, account).await?;
    let requests = builder.reconciles();
    let lifetime = *options.cluster_signing_duration;
    builder.run(5, Controller { requests, signers, lifetime }).await
}

fn signers(options: &Options) -> Vec<Signer> {
    let signing = &options.cluster_signing;
    let all = [
        ("kubernetes.io/kubelet-serving", &signing.kubelet_serving_cert, &signing.kubelet_serving_key),
        (
            "kubernetes.io/kube-apiserver-client-kubelet",
            &signing.kubelet_client_cert,
            &signing.kubelet_client_key,
        ),
        (
            "kubernetes.io/kube-apiserver-client",
            &signing.kube_apiserver_client_cert,
            &signing.kube_apiserver_client_key,
        ),
        ("kubernetes.io/legacy-unknown", &signing.legacy_unknown_cert, &signing.legacy_unknown_key),
    ];
    let named = |path: &Path| !path.as_os_str().is_empty();
    let signer = |(name, certificate, key): (&'static str, &PathBuf, &PathBuf)| {
        let (certificate, key) =
            if named(certificate) { (certificate, key) } else { (&signing.cert, &signing.key) };
        (named(certificate) && named(key)).then(|| Signer {
            name,
            certificate: certificate.clone(),
            key: key.clone(),
        })
    };
    all.into_iter().filter_map(signer).collect()
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(request) = self.requests.get_key(key) else { return Ok(Next::Done) };
        let ready = request.is_approved() && !request.has("Failed") && request.status.certificate.is_empty();
        let signer = self.signers.iter().find(|signer| signer.name == request.spec.signer_name);
        let Some(signer) = signer.filter(|_| ready) else { return Ok(Next::Done) };
        let parsed = request.subject();
        let subject =
            parsed.map_err(|error| Error::Other(format!("unable to parse csr {:?}: {error}", key.name)))?;
        let usages = &request.spec.usages;
        let checked = match signer.name {
            "kubernetes.io/kubelet-serving" => check_kubelet_serving(&subject, usages),
            "kubernetes.io/kube-apiserver-client-kubelet" => check_kubelet_client(&subject, usages),
            "kubernetes.io/kube-apiserver-client" => check_client(usages),
            _ => Ok(()),
        };
        if let Err(why) = checked {
            let condition = json!({
                "type": "Failed",
                "status": "True",
                "reason": "SignerValidationFailure",
                "message": why,
                "lastUpdateTime": time::text(jiff::Timestamp::now()),
            });
            change(client, key, &request, "status", |whole| add_condition(whole, condition)).await?;
            return Ok(Next::Done);
        }
        let authority = Authority::read(signer).await?;
        let pem = authority
            .sign(&request, lifetime(request.spec.expiration_seconds, self.lifetime), SystemTime::now())
            .map_err(|error| Error::Other(format!("error auto signing csr: {error}")))?;
        let certificate = STANDARD.encode(pem);
        change(client, key, &request, "status", |whole| {
            whole["status"]["certificate"] = certificate.into();
        })
        .await?;
        Ok(Next::Done)
    }
}

/// What is asked for, within limits.
fn lifetime(asked: Option<i64>, longest: Duration) -> Duration {
    let asked = asked.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    asked.map_or(longest, |asked| if asked > longest { longest } else { asked.max(SHORTEST) })
}

#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    #[error("the request cannot be read")]
    Text,
    #[error("subjects with several values of one kind are not supported")]
    Subject,
    #[error("the authority's certificate cannot be read")]
    Authority,
    #[error("refusing to sign a certificate that expired in the past")]
    Expired,
    #[error("unrecognized usage: {0:?}")]
    Usage(String),
}

struct Authority {
    certificate: String,
    key: String,
}

impl Authority {
    /// The files as they are now: an authority may be renewed.
    async fn read(signer: &Signer) -> Result<Authority, Error> {
        let read = async |path: &Path| {
            let text = tokio::fs::read_to_string(path).await;
            text.map_err(|error| Error::Other(format!("error reading {}: {error}", path.display())))
        };
        Ok(Authority { certificate: read(&signer.certificate).await?, key: read(&signer.key).await? })
    }

    fn sign(&self, request: &Request, lifetime: Duration, now: SystemTime) -> Result<String, SignError> {
        let der = pem(&request.spec.request, REQUEST).ok_or(SignError::Text)?;
        let subject = request.subject().map_err(|_| SignError::Text)?;
        if !has_plain_subject(&der) {
            return Err(SignError::Subject);
        }
        let mut signing = CertificateSigningRequestParams::from_der(&der.into())?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let ends = self.ends()?;
        if now >= ends {
            return Err(SignError::Expired);
        }
        let lifetime = if lifetime < SHORT { lifetime } else { lifetime - BACKDATE };
        let parameters = &mut signing.params;
        parameters.not_before = (now - BACKDATE).into();
        parameters.not_after = (now + lifetime).min(ends).into();
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        let mut serial = rand::random::<[u8; 16]>();
        // A positive number.
        serial[0] &= 0x7f;
        parameters.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
        (parameters.key_usages, parameters.extended_key_usages) = (Vec::new(), Vec::new());
        for usage in &request.spec.usages {
            match usage_of(usage).ok_or_else(|| SignError::Usage(usage.clone()))? {
                Usage::Key(usage) => parameters.key_usages.push(usage),
                Usage::Extended(usage) => parameters.extended_key_usages.push(usage),
            }
        }
        let certificate = signing.signed_by(&issuer)?;
        // What was checked is what is given out.
        match Subject::of_certificate(certificate.der()) {
            Ok(given) if given == subject => Ok(certificate.pem()),
            _ => Err(SignError::Subject),
        }
    }

    /// The end of the authority itself, which no certificate outlives.
    fn ends(&self) -> Result<SystemTime, SignError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(self.certificate.as_bytes())
            .map_err(|_| SignError::Authority)?;
        let (_, parsed) = X509Certificate::from_der(&block.contents).map_err(|_| SignError::Authority)?;
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

enum Usage {
    Key(KeyUsagePurpose),
    Extended(ExtendedKeyUsagePurpose),
}

fn usage_of(usage: &str) -> Option<Usage> {
    use ExtendedKeyUsagePurpose as Extended;
    Some(match usage {
        "signing" | "digital signature" => Usage::Key(KeyUsagePurpose::DigitalSignature),
        "content commitment" => Usage::Key(KeyUsagePurpose::ContentCommitment),
        "key encipherment" => Usage::Key(KeyUsagePurpose::KeyEncipherment),
        "key agreement" => Usage::Key(KeyUsagePurpose::KeyAgreement),
        "data encipherment" => Usage::Key(KeyUsagePurpose::DataEncipherment),
        "cert sign" => Usage::Key(KeyUsagePurpose::KeyCertSign),
        "crl sign" => Usage::Key(KeyUsagePurpose::CrlSign),
        "encipher only" => Usage::Key(KeyUsagePurpose::EncipherOnly),
        "decipher only" => Usage::Key(KeyUsagePurpose::DecipherOnly),
        "any" => Usage::Extended(Extended::Any),
        "server auth" => Usage::Extended(Extended::ServerAuth),
        "client auth" => Usage::Extended(Extended::ClientAuth),
        "code signing" => Usage::Extended(Extended::CodeSigning),
        "email protection" | "s/mime" => Usage::Extended(Extended::EmailProtection),
        "timestamping" => Usage::Extended(Extended::TimeStamping),
        "ocsp signing" => Usage::Extended(Extended::OcspSigning),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        let year = Duration::from_secs(365 * 86400);
        let seconds = |asked| lifetime(asked, year).as_secs();
        assert_eq!([seconds(None), seconds(Some(60)), seconds(Some(7200))], [year.as_secs(), 600, 7200]);
        assert_eq!(seconds(Some(i64::MAX)), year.as_secs());
    }

    #[test]
    fn a_certificate_is_what_was_asked_for_and_ends_with_its_authority() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.not_after = (now + Duration::from_secs(86400)).into();
        let key = KeyPair::generate().unwrap();
        let certificate = authority.self_signed(&key).unwrap().pem();
        let authority = Authority { certificate, key: key.serialize_pem() };
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let pem = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let mut request = Request::default();
        request.spec.request = STANDARD.encode(pem);
        request.spec.usages =
            ["client auth".to_owned(), "digital signature".to_owned()].into_iter().collect();
        let validity = |lifetime: u64| {
            let pem = authority.sign(&request, Duration::from_secs(lifetime), now).unwrap();
            let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            let (_, parsed) = X509Certificate::from_der(&block.contents).unwrap();
            assert!(parsed.subject().to_string().contains("CN=system:node:a"));
            assert!(parsed.extended_key_usage().unwrap().unwrap().value.client_auth && !parsed.is_ca());
            let validity = parsed.validity();
            (validity.not_before.timestamp() - 1_800_000_000, validity.not_after.timestamp() - 1_800_000_000)
        };
        assert_eq!(validity(7200), (-300, 7200));
        assert_eq!(validity(36_000), (-300, 35_700));
        assert_eq!(validity(1_000_000), (-300, 86_400));
        let signed = |name: &[(rcgen::DnType, rcgen::DnValue)]| {
            // A part of a subject for each of them, of whatever kind.
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in name {
                parameters.distinguished_name.push(kind.clone(), value.clone());
            }
            let pem = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
            let mut request = request.clone();
            request.spec.request = STANDARD.encode(pem);
            authority.sign(&request, SHORT, now).map_err(|error| error.to_string())
        };
        let masters = rcgen::string::TeletexString::try_from("system:masters").unwrap();
        let hidden = [
            (rcgen::DnType::CommonName, rcgen::DnValue::from("system:node:a")),
            (rcgen::DnType::OrganizationName, rcgen::DnValue::TeletexString(masters)),
        ];
        assert!(signed(&hidden[..1]).is_ok());
        assert_eq!(signed(&hidden).unwrap_err(), "the request cannot be read");
        request.spec.usages = ["frying".to_owned()].into_iter().collect();
        let refused = authority.sign(&request, SHORT, now).unwrap_err().to_string();
        assert_eq!(refused, "unrecognized usage: \"frying\"");
    }
}
