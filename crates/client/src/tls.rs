//! TLS towards the API server, rebuilt when a certificate, key or authority changes on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::{Config, Error, Material, Result};

const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The files a configuration reads, with their modification times: equal stamps mean equal contents.
pub(crate) type Stamp = Vec<(PathBuf, Option<SystemTime>)>;

pub(crate) fn stamp(config: &Config) -> Stamp {
    let certificate = config.credentials.certificate.as_ref();
    [config.certificate_authority.as_ref(), certificate.map(|pair| &pair.0), certificate.map(|pair| &pair.1)]
        .into_iter()
        .flatten()
        .filter_map(|material| match material {
            Material::File(path) => {
                let modified = std::fs::metadata(path).and_then(|data| data.modified()).ok();
                Some((path.clone(), modified))
            }
            Material::Inline(_) | Material::Shared(_) => None,
        })
        .collect()
}

/// Certificates of a PEM bundle.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Config(format!("certificates: {error}")))
}

pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// Builds the TLS configuration. `protocols` are offered by ALPN.
pub(crate) fn build(config: &Config, protocols: &[&[u8]]) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if config.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        let roots = match &config.certificate_authority {
            Some(authority) => {
                let roots = roots(&authority.read()?)?;
                if roots.is_empty() {
                    return Err(Error::Config(format!("{authority:?} holds no certificate")));
                }
                roots
            }
            None => {
                let mut store = RootCertStore::empty();
                let bundle = Material::File(SYSTEM_BUNDLE.into()).read()?;
                store.add_parsable_certificates(certificates(&bundle)?);
                store
            }
        };
        builder.with_root_certificates(roots)
    };
    let mut tls = match &config.credentials.certificate {
        Some((certificate, key)) => {
            let chain = certificates(&certificate.read()?)?;
            if chain.is_empty() {
                return Err(Error::Config(format!("{certificate:?} holds no certificate")));
            }
            let key = PrivateKeyDer::from_pem_slice(&key.read()?)
                .map_err(|error| Error::Config(format!("private key {key:?}: {error}")))?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(tls)
}

/// The name to verify and send as SNI.
pub(crate) fn server_name(config: &Config) -> Result<ServerName<'static>> {
    let host = config.server.host().unwrap_or_default().trim_matches(['[', ']']);
    let name = config.server_name.as_deref().unwrap_or(host).to_string();
    ServerName::try_from(name.clone())
        .map_err(|error| Error::Config(format!("server name {name:?}: {error}")))
}

/// `insecure-skip-tls-verify`: the handshake's signatures are still checked, the identity is not.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
