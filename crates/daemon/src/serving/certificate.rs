//! A server's certificate and key: from files, or made when none is given.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Content { path: PathBuf, message: String },
    #[error("cannot make a self-signed certificate: {0}")]
    Make(String),
    #[error("{0}")]
    Flag(String),
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
}

/// Files with a server's certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl KeyPair {
    /// The pair that the flags name, if any. A certificate without a key, or a key alone, is an error.
    pub fn named(certificate: &Path, key: &Path) -> Result<Option<KeyPair>, Error> {
        match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(KeyPair { certificate: certificate.into(), key: key.into() })),
            _ => Err(Error::Flag("missing filename for serving cert".into())),
        }
    }
}

pub(super) fn read(pair: &KeyPair) -> Result<CertifiedKey, Error> {
    let chain = certificates(&pair.certificate)?;
    let text = std::fs::read(&pair.key).map_err(|source| Error::Read { path: pair.key.clone(), source })?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| Error::Content { path: pair.key.clone(), message: error.to_string() })?;
    let key = any_supported_type(&key)
        .map_err(|error| Error::Content { path: pair.key.clone(), message: error.to_string() })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(Error::Content {
            path: pair.certificate.clone(),
            message: "tls: private key does not match public key".into(),
        }),
    }
}

/// All certificates of a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let content = |message: String| Error::Content { path: path.into(), message };
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(error.to_string()))?;
    match chain.is_empty() {
        true => Err(content("data does not contain any valid certificates".into())),
        false => Ok(chain),
    }
}

/// A certificate for `names` and `addresses` signed by itself, valid for a year. Kept in `directory` as
/// `<name>.crt` and `<name>.key` unless that is empty or cannot be written; an existing pair is used again, and never replaced by
/// another because it cannot be read.
pub(super) fn self_signed(
    directory: &Path,
    name: &str,
    names: &[String],
    addresses: &[IpAddr],
) -> Result<(CertifiedKey, Option<KeyPair>), Error> {
    let pair = KeyPair {
        certificate: directory.join(format!("{name}.crt")),
        key: directory.join(format!("{name}.key")),
    };
    let on_disk = !directory.as_os_str().is_empty();
    let there = |path: &Path| on_disk && path.exists();
    match (there(&pair.certificate), there(&pair.key)) {
        (true, true) => return Ok((read(&pair)?, Some(pair))),
        (false, false) => {}
        (one, _) => {
            let path = if one { pair.key } else { pair.certificate };
            return Err(Error::Content {
                path,
                message: "no such file or directory, certificate and key must be supplied as a pair".into(),
            });
        }
    }
    let make = |error: rcgen::Error| Error::Make(error.to_string());
    let texts: Vec<String> = names.iter().cloned().chain(addresses.iter().map(ToString::to_string)).collect();
    let mut parameters = rcgen::CertificateParams::new(texts).map_err(make)?;
    let now = std::time::SystemTime::now();
    parameters.not_before = (now - std::time::Duration::from_secs(3600)).into();
    parameters.not_after = (now + std::time::Duration::from_secs(365 * 86400)).into();
    let common_name = names.first().cloned().unwrap_or_else(|| name.to_owned());
    parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate().map_err(make)?;
    let certificate = parameters.self_signed(&key).map_err(make)?;
    let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| Error::Make(error.to_owned()))?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], any_supported_type(&der)?);
    if on_disk {
        let written = std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&pair.certificate, certificate.pem()))
            .and_then(|()| write_secret(&pair.key, &key.serialize_pem()));
        match written {
            Ok(()) => return Ok((certified, Some(pair))),
            Err(error) => {
                tracing::warn!(%error, directory = %directory.display(), "Cannot keep the self-signed certificate")
            }
        }
    }
    Ok((certified, None))
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
