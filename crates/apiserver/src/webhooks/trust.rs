//! Whom the server of a webhook or of an aggregated API is believed to be: the authorities of its configuration say so, or else the system's. A certificate that
//! is itself one of these needs no other: many webhooks have one that signs itself.

use std::sync::{Arc, LazyLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use crate::aggregator::Identity;

/// Where systems have the authorities that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Trusts these authorities, in PEM, or else the system's.
pub fn tls(authority: &[u8]) -> Result<Arc<ClientConfig>, String> {
    Ok(Arc::new(config(verifier(authority)?, None)?))
}

/// Believes whom these authorities, in PEM, vouch for, or else the system's.
pub(crate) fn verifier(authority: &[u8]) -> Result<Arc<dyn ServerCertVerifier>, String> {
    static SYSTEMS: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
        let file = SYSTEM.iter().find_map(|path| std::fs::read(path).ok());
        certificates(&file.unwrap_or_default())
    });
    let known = if authority.is_empty() { SYSTEMS.clone() } else { certificates(authority) };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(known.iter().cloned());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    // without authorities nobody is trusted
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok();
    Ok(Arc::new(Verifier { chains, known, algorithms }))
}

/// A client that believes whom `verifier` does and shows this certificate.
pub(crate) fn config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&Identity>,
) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match identity {
        Some(Identity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(|error| error.to_string())
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).flatten().collect()
}

/// As Go words a handshake that fails.
pub(crate) fn words(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(why)) => {
            let why = match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "certificate signed by unknown authority".to_owned()
                }
                // an authority that nobody knows
                CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                    "certificate signed by unknown authority".to_owned()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "certificate has expired or is not yet valid".to_owned()
                }
                other => other.to_string(),
            };
            format!("tls: failed to verify certificate: x509: {why}")
        }
        Some(other) => format!("remote error: tls: {other}"),
        None => error.to_string(),
    }
}

#[derive(Debug)]
struct Verifier {
    chains: Option<Arc<WebPkiServerVerifier>>,
    known: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.known.iter().any(|known| known == end) {
            let Some(chains) = &self.chains else {
                return Err(CertificateError::UnknownIssuer.into());
            };
            return chains.verify_server_cert(end, between, name, staple, now);
        }
        let (_, certificate) =
            X509Certificate::from_der(end).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let valid =
            ASN1Time::from_timestamp(seconds).is_ok_and(|now| certificate.validity().is_valid_at(now));
        if !valid {
            return Err(CertificateError::Expired.into());
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
