//! The certificate by which aggregated servers know this one: `--proxy-client-cert-file` and `--proxy-client-key-file`, read again
//! when the files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at, at most.
const CHECK: Duration = Duration::from_secs(5);

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// What is known of the files. Another one after a change has another number.
#[derive(Clone)]
pub struct Version {
    pub number: u64,
    pub identity: Option<Arc<Identity>>,
}

pub struct Certificate {
    files: Option<(PathBuf, PathBuf)>,
    state: Mutex<State>,
}

struct State {
    checked: Instant,
    stamp: [Option<SystemTime>; 2],
    version: Version,
}

impl Certificate {
    /// Without files this server shows no certificate.
    pub fn new(files: Option<(PathBuf, PathBuf)>) -> Result<Certificate, String> {
        let identity = files.as_ref().map(read).transpose()?.map(Arc::new);
        let stamp = files.as_ref().map(stamp).unwrap_or_default();
        let version = Version { number: 0, identity };
        Ok(Certificate { files, state: Mutex::new(State { checked: Instant::now(), stamp, version }) })
    }

    pub fn current(&self) -> Version {
        let mut state = self.state.lock();
        let Some(files) = &self.files else { return state.version.clone() };
        if state.checked.elapsed() < CHECK {
            return state.version.clone();
        }
        state.checked = Instant::now();
        let stamp = stamp(files);
        if stamp != state.stamp {
            match read(files) {
                Ok(identity) => {
                    let number = state.version.number + 1;
                    (state.stamp, state.version) =
                        (stamp, Version { number, identity: Some(Arc::new(identity)) });
                }
                // A pair half written: the next check tries again.
                Err(error) => {
                    tracing::warn!(%error, "The changed proxy client certificate cannot be used yet")
                }
            }
        }
        state.version.clone()
    }
}

fn stamp((certificate, key): &(PathBuf, PathBuf)) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|data| data.modified()).ok())
}

fn read((certificate, key): &(PathBuf, PathBuf)) -> Result<Identity, String> {
    let named = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = |path: &Path| std::fs::read(path).map_err(|error| named(path, &error));
    let chain = CertificateDer::pem_slice_iter(&text(certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| named(certificate, &error))?;
    let der = PrivateKeyDer::from_pem_slice(&text(key)?).map_err(|error| named(key, &error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let signer = provider.key_provider.load_private_key(der.clone_key());
    let certified =
        rustls::sign::CertifiedKey::new(chain.clone(), signer.map_err(|error| named(key, &error))?);
    certified.keys_match().map_err(|error| named(certificate, &error))?;
    Ok(Identity { chain, key: der })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &(PathBuf, PathBuf)) {
        let made = rcgen::generate_simple_self_signed(vec!["front".to_owned()]).unwrap();
        std::fs::write(&files.0, made.cert.pem()).unwrap();
        std::fs::write(&files.1, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn changed_files_are_another_version_once_they_belong_together() {
        let directory = tempfile::tempdir().unwrap();
        let files = (directory.path().join("crt"), directory.path().join("key"));
        assert!(Certificate::new(Some(files.clone())).is_err());
        write(&files);
        let certificate = Certificate::new(Some(files.clone())).unwrap();
        let now = |certificate: &Certificate| {
            let mut state = certificate.state.lock();
            state.checked -= CHECK;
            state.stamp = Default::default();
            drop(state);
            certificate.current()
        };
        assert!(certificate.current().identity.is_some());
        let former = std::fs::read(&files.1).unwrap();
        write(&files);
        let key = std::fs::read(&files.1).unwrap();
        std::fs::write(&files.1, former).unwrap();
        assert_eq!(now(&certificate).number, 0);
        std::fs::write(&files.1, key).unwrap();
        assert_eq!(now(&certificate).number, 1);
    }
}
