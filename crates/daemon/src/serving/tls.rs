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
    /// Cipher suites of TLS 1.2; `None` means all of the provider's.
    suites: Option<Vec<rustls::CipherSuite>>,
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
            suites: None,
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
            suites: None,
        })
    }

    /// By the flags `--tls-cert-file`, `--tls-private-key-file`, `--cert-dir`: files where they are named, else self-signed.
    pub fn from_flags(
        flags: &crate::flags::SecureServing,
        name: &str,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<TlsConfig, Error> {
        let config = match KeyPair::named(&flags.tls_cert_file, &flags.tls_private_key_file)? {
            Some(pair) => TlsConfig::from_files(pair)?,
            None => TlsConfig::self_signed(&flags.cert_dir, name, names, addresses)?,
        };
        config.restrict(&flags.tls_min_version, &flags.tls_cipher_suites)
    }

    /// Applies `--tls-min-version` and `--tls-cipher-suites`; empty means the provider's choice. As with upstream, the suites of
    /// TLS 1.3 are always on. Suites of Go's that the provider leaves out as too weak are said to be, and left out.
    pub fn restrict(mut self, min_version: &str, suites: &[String]) -> Result<TlsConfig, Error> {
        self.min_tls13 = match min_version {
            // versions before 1.2 are not spoken, which only makes this server stricter
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            other => return Err(Error::Flag(format!("unknown tls version {other:?}"))),
        };
        let mut chosen = Vec::new();
        for name in suites.iter().filter(|name| !name.is_empty()) {
            let plain =
                name.strip_suffix("_POLY1305").map_or(name.clone(), |rest| format!("{rest}_POLY1305_SHA256"));
            let known = aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|suite| suite_name(suite) == plain);
            match known {
                Some(suite) => chosen.push(suite.suite()),
                None if WEAK.contains(&name.as_str()) => {
                    tracing::warn!("--tls-cipher-suites: {name} is too weak and is not offered");
                }
                None => {
                    return Err(Error::Flag(format!("Cipher suite {name} not supported or doesn't exist")));
                }
            }
        }
        if !suites.is_empty() {
            self.suites = Some(chosen);
        }
        Ok(self)
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
        let mut provider = aws_lc_rs::default_provider();
        if let Some(suites) = &self.suites {
            provider.cipher_suites.retain(|own| own.tls13().is_some() || suites.contains(&own.suite()));
        }
        let provider = Arc::new(provider);
        let versions: &[&rustls::SupportedProtocolVersion] =
            if self.min_tls13 || provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
                &[&rustls::version::TLS13]
            } else {
                rustls::ALL_VERSIONS
            };
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

/// Go's names of suites that are not offered here: with CBC, RC4, 3DES, or without forward secrecy.
const WEAK: [&str; 17] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_FALLBACK_SCSV",
];

/// As Go names it: `TLS_AES_128_GCM_SHA256`.
fn suite_name(suite: &rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
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
