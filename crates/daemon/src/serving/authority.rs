//! A bundle of certificate authorities that vouches for client certificates, followed on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio_util::sync::CancellationToken;
use x509_parser::asn1_rs::Tag;
use x509_parser::x509::AttributeTypeAndValue;

use super::certificate::{self, Error};
use super::identity::Identity;
use super::tls::modified;

const POLL: Duration = Duration::from_secs(10);

/// The attribute of a subject that is a user's UID.
const UID: &str = "1.3.6.1.4.1.57683.2";

static AUTHORITIES: AtomicU64 = AtomicU64::new(0);

/// A certificate is not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("no certificate")]
    Missing,
    #[error("{0}")]
    Chain(rustls::Error),
    #[error("the certificate cannot be read")]
    Certificate,
    /// A name that is there is never passed over: without it the certificate would be somebody else's.
    #[error("the certificate's subject has an attribute {0} that is no text")]
    Attribute(String),
    #[error("x509: certificate has expired or is not yet valid")]
    Expired,
    #[error("expected 1 UID, but found multiple: [{}]", .0.join(" "))]
    Uids(Vec<String>),
    #[error("UID cannot be an empty string")]
    EmptyUid,
}

/// Who a certificate says its bearer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub uids: Vec<String>,
    /// Seconds since the epoch.
    pub not_after: i64,
    pub serial: String,
}

impl Subject {
    /// The user, where it names one. One without a common name is nobody's, whatever groups it names.
    pub fn identity(&self) -> Result<Option<Identity>, Refusal> {
        if self.common_name.is_empty() {
            return Ok(None);
        }
        let uid = match self.uids.as_slice() {
            [] => String::new(),
            [uid] if uid.is_empty() => return Err(Refusal::EmptyUid),
            [uid] => uid.clone(),
            uids => return Err(Refusal::Uids(uids.to_vec())),
        };
        let (name, groups) = (self.common_name.clone(), self.organizations.clone());
        Ok(Some(Identity { name, uid, groups, ..Identity::default() }))
    }
}

/// The bundle of `--client-ca-file` (or `--requestheader-client-ca-file`). Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    path: PathBuf,
    bundle: Arc<ArcSwap<Bundle>>,
    generation: Arc<AtomicU64>,
    /// Number of this authority, unique in the process; clones share it.
    number: u64,
}

struct Bundle {
    verifier: Arc<dyn ClientCertVerifier>,
    pem: String,
}

impl Authority {
    pub fn from_file(path: &Path) -> Result<Authority, Error> {
        let bundle = Arc::new(ArcSwap::from_pointee(load(path)?));
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        Ok(Authority { path: path.into(), bundle, generation: Arc::default(), number })
    }

    /// Changes when the bundle does: an answer of [`Authority::verify`] holds for one generation.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The bundle's text.
    pub fn pem(&self) -> String {
        self.bundle.load().pem.clone()
    }

    /// The subject of the leaf, when its chain leads to this bundle, it may authenticate a client and it is valid now.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<Subject, Refusal> {
        let (leaf, intermediates) = chain.split_first().ok_or(Refusal::Missing)?;
        let verifier = &self.bundle.load().verifier;
        verifier.verify_client_cert(leaf, intermediates, UnixTime::now()).map_err(Refusal::Chain)?;
        subject(leaf)
    }

    /// Reads the file again; where it cannot be read, the old bundle stays.
    pub(super) fn reload(&self) -> Result<(), Error> {
        self.bundle.store(Arc::new(load(&self.path)?));
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Follows the file until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        let mut seen = modified(&self.path);
        while shutdown.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            let now = modified(&self.path);
            if now == seen {
                continue;
            }
            match self.reload() {
                Ok(()) => {
                    seen = now;
                    tracing::info!(path = %self.path.display(), "Reloaded the client certificate authorities");
                }
                Err(error) => {
                    tracing::error!(%error, "Cannot reload the client certificate authorities, the old ones stay")
                }
            }
        }
    }
}

/// Reads the names out of a certificate without asking who signed it.
pub fn subject(certificate: &CertificateDer<'_>) -> Result<Subject, Refusal> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| Refusal::Certificate)?;
    let subject = parsed.subject();
    let uids = subject.iter_attributes().filter(|attribute| attribute.attr_type().to_id_string() == UID);
    Ok(Subject {
        common_name: subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect::<Result<_, _>>()?,
        uids: uids.map(text).collect::<Result<_, _>>()?,
        not_after: parsed.validity().not_after.timestamp(),
        serial: parsed.tbs_certificate.raw_serial_as_string(),
    })
}

/// An attribute's text, in whichever of ASN.1's string types it is written.
fn text(attribute: &AttributeTypeAndValue<'_>) -> Result<String, Refusal> {
    let bytes = attribute.as_slice();
    let text = match attribute.attr_value().tag() {
        Tag::NumericString | Tag::PrintableString | Tag::Ia5String if !bytes.is_ascii() => None,
        Tag::Utf8String | Tag::NumericString | Tag::PrintableString | Tag::Ia5String => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        Tag::T61String => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString if bytes.len().is_multiple_of(2) => {
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    };
    text.ok_or_else(|| Refusal::Attribute(attribute.attr_type().to_id_string()))
}

fn load(path: &Path) -> Result<Bundle, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificate::certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| Error::Content { path: path.into(), message: error.to_string() })?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::Content { path: path.into(), message: error.to_string() })?;
    let pem = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(Bundle { verifier, pem })
}
