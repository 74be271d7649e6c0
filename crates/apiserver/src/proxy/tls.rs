//! The client's side of TLS towards kubelets and pods. The kubelet's authority and our certificate are read again when
//! their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::options::Options;

type Stamp = Vec<Option<SystemTime>>;

pub struct Client {
    authority: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
    kubelet: Mutex<(Stamp, Arc<ClientConfig>)>,
    any: Arc<ClientConfig>,
}

impl Client {
    pub fn new(options: &Options) -> Result<Client, String> {
        let authority = options.kubelet_certificate_authority.clone();
        let certificate = options.kubelet_client_certificate.clone().zip(options.kubelet_client_key.clone());
        let kubelet = build(authority.as_deref(), certificate.as_ref())?;
        let any = build(None, None)?;
        let client = Client { authority, certificate, kubelet: Mutex::new((Vec::new(), kubelet)), any };
        client.kubelet.lock().0 = client.stamp();
        Ok(client)
    }

    /// For a kubelet, or for whoever answers.
    pub fn config(&self, kubelet: bool) -> Result<Arc<ClientConfig>, String> {
        if !kubelet {
            return Ok(self.any.clone());
        }
        let stamp = self.stamp();
        let mut current = self.kubelet.lock();
        if current.0 != stamp {
            *current = (stamp, build(self.authority.as_deref(), self.certificate.as_ref())?);
        }
        Ok(current.1.clone())
    }

    fn stamp(&self) -> Stamp {
        let files = self
            .authority
            .iter()
            .chain(self.certificate.iter().flat_map(|(certificate, key)| [certificate, key]));
        files.map(|path| std::fs::metadata(path).and_then(|data| data.modified()).ok()).collect()
    }
}

/// Believes any server.
pub(crate) fn anyone() -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anyone(Arc::new(aws_lc_rs::default_provider())))
}

/// For servers whose certificate is not looked at.
pub(crate) fn trusting_anyone() -> Result<Arc<ClientConfig>, String> {
    build(None, None)
}

fn build(
    authority: Option<&Path>,
    certificate: Option<&(PathBuf, PathBuf)>,
) -> Result<Arc<ClientConfig>, String> {
    let text = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let certificates = |path: &Path| {
        CertificateDer::pem_slice_iter(&text(path)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
    };
    let config = match certificate {
        Some((certificate, key)) => {
            let der = PrivateKeyDer::from_pem_slice(&text(key)?)
                .map_err(|error| format!("{}: {error}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, der)
                .map_err(|error| error.to_string())?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Believes any server, where upstream does: kubelets without `--kubelet-certificate-authority`, pods and services.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
