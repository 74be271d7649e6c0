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

use super::certificate::{self, Error};
use super::tls::modified;

const POLL: Duration = Duration::from_secs(10);

/// Who a certificate says its bearer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// Seconds since the epoch.
    pub not_after: i64,
    pub serial: String,
}

/// The bundle of `--client-ca-file` (or `--requestheader-client-ca-file`). Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    path: PathBuf,
    bundle: Arc<ArcSwap<Bundle>>,
    generation: Arc<AtomicU64>,
}

struct Bundle {
    verifier: Arc<dyn ClientCertVerifier>,
    pem: String,
}

impl Authority {
    pub fn from_file(path: &Path) -> Result<Authority, Error> {
        let bundle = Arc::new(ArcSwap::from_pointee(load(path)?));
        Ok(Authority { path: path.into(), bundle, generation: Arc::default() })
    }

    /// Changes when the bundle does: an answer of [`Authority::verify`] holds for one generation.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The bundle's text.
    pub fn pem(&self) -> String {
        self.bundle.load().pem.clone()
    }

    /// The subject of the leaf, when its chain leads to this bundle, it may authenticate a client and it is valid now.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<Subject, rustls::Error> {
        let (leaf, intermediates) =
            chain.split_first().ok_or_else(|| rustls::Error::General("no certificate".into()))?;
        self.bundle.load().verifier.verify_client_cert(leaf, intermediates, UnixTime::now())?;
        subject(leaf).ok_or_else(|| rustls::Error::General("the certificate cannot be read".into()))
    }

    /// Follows the file until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        let mut seen = modified(&self.path);
        while shutdown.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            let now = modified(&self.path);
            if now == seen {
                continue;
            }
            match load(&self.path) {
                Ok(bundle) => {
                    seen = now;
                    self.bundle.store(Arc::new(bundle));
                    self.generation.fetch_add(1, Ordering::AcqRel);
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
pub fn subject(certificate: &CertificateDer<'_>) -> Option<Subject> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let text =
        |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().map(str::to_owned).ok();
    Some(Subject {
        common_name: parsed.subject().iter_common_name().last().and_then(text).unwrap_or_default(),
        organizations: parsed.subject().iter_organization().filter_map(text).collect(),
        not_after: parsed.validity().not_after.timestamp(),
        serial: parsed.tbs_certificate.raw_serial_as_string(),
    })
}

fn load(path: &Path) -> Result<Bundle, Error> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificate::certificates(path)?);
    if added == 0 {
        return Err(Error::Content {
            path: path.into(),
            message: "data does not contain any valid certificates".into(),
        });
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::Content { path: path.into(), message: error.to_string() })?;
    let pem = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(Bundle { verifier, pem })
}
