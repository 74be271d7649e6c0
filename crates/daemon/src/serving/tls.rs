//! The server's side of TLS: the certificate in use can change under it, and a client certificate is asked for.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio_util::sync::CancellationToken;

use super::certificate::{self, Error, KeyPair};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(10);

/// A server's certificate, current at each handshake. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    current: Arc<Current>,
    files: Option<KeyPair>,
    min_tls13: bool,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl TlsConfig {
    /// From files. Run [`TlsConfig::watch`] to follow their changes.
    pub fn from_files(pair: KeyPair) -> Result<TlsConfig, Error> {
        let certified = certificate::read(&pair)?;
        Ok(TlsConfig {
            current: Arc::new(Current(ArcSwap::from_pointee(certified))),
            files: Some(pair),
            min_tls13: false,
        })
    }

    /// Self-signed for these names; kept as `<directory>/<name>.crt` and `.key` unless `directory` is empty.
    pub fn self_signed(
        directory: &Path,
        name: &str,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<TlsConfig, Error> {
        let (certified, files) = certificate::self_signed(directory, name, names, addresses)?;
        Ok(TlsConfig {
            current: Arc::new(Current(ArcSwap::from_pointee(certified))),
            files,
            min_tls13: false,
        })
    }

    /// By the flags `--tls-cert-file`, `--tls-private-key-file`, `--cert-dir`: files when both are named, else self-signed.
    pub fn from_flags(
        flags: &crate::flags::SecureServing,
        name: &str,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<TlsConfig, Error> {
        let given =
            !flags.tls_cert_file.as_os_str().is_empty() && !flags.tls_private_key_file.as_os_str().is_empty();
        let mut config = if given {
            let pair =
                KeyPair { certificate: flags.tls_cert_file.clone(), key: flags.tls_private_key_file.clone() };
            TlsConfig::from_files(pair)?
        } else {
            TlsConfig::self_signed(&flags.cert_dir, name, names, addresses)?
        };
        config.min_tls13 = flags.tls_min_version == "VersionTLS13";
        Ok(config)
    }

    /// Only TLS 1.3.
    pub fn require_tls13(mut self) -> TlsConfig {
        self.min_tls13 = true;
        self
    }

    /// Puts another certificate in use, e.g. a kubelet's rotated one.
    pub fn replace(&self, pair: &KeyPair) -> Result<(), Error> {
        self.current.0.store(Arc::new(certificate::read(pair)?));
        Ok(())
    }

    /// The certificate in use, leaf first.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.current.0.load().cert.clone()
    }

    /// Follows the files until `shutdown`. A pair that cannot be read leaves the old one in use.
    pub async fn watch(self, shutdown: CancellationToken) {
        let Some(pair) = self.files.clone() else { return };
        let stamp = || (modified(&pair.certificate), modified(&pair.key));
        let mut seen = stamp();
        while shutdown.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            let now = stamp();
            if now == seen {
                continue;
            }
            match self.replace(&pair) {
                Ok(()) => {
                    seen = now;
                    tracing::info!(path = %pair.certificate.display(), "Reloaded the serving certificate");
                }
                Err(error) => {
                    tracing::error!(%error, "Cannot reload the serving certificate, the old one stays")
                }
            }
        }
    }

    pub(super) fn acceptor(&self, http2: bool) -> tokio_rustls::TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] =
            if self.min_tls13 { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("the provider has suites for both versions")
            .with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = match http2 {
            true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            false => vec![b"http/1.1".to_vec()],
        };
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}

pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Takes any client certificate whose key the client proves to have; see the module's doc.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
