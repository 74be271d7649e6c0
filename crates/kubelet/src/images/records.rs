//! Which images the kubelet pulled, and with whose credentials: an image that took a password is not for every
//! pod just because it is here already. Images without a record were here before the kubelet and are for all.
//!
//! A record is a file `image_manager/pulled/sha256-<hash of the image's id>` in upstream's form. Credentials are
//! known by their hash alone; where secrets stand is not noted, nor are pulls that a crash interrupts.

use cri::v1::AuthConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

pub struct Records {
    folder: PathBuf,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    kind: String,
    api_version: String,
    last_updated_time: String,
    image_ref: String,
    /// By image name without tag and digest.
    credential_mapping: BTreeMap<String, Credentials>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Credentials {
    /// Pulled without credentials: any pod may use it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_secrets: Vec<Secret>,
}

#[derive(Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Secret {
    uid: String,
    namespace: String,
    name: String,
    credential_hash: String,
}

impl Records {
    /// `root` is the kubelet's own folder.
    pub fn new(root: &std::path::Path) -> Self {
        Self { folder: root.join("image_manager").join("pulled") }
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("sha256-{}", hash(id.as_bytes())))
    }

    fn read(&self, id: &str) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.file(id)).ok()?).ok()
    }

    /// Whether a pod with these credentials may use an image that is here.
    pub fn allows(&self, id: &str, image: &str, credentials: &[AuthConfig]) -> bool {
        let Some(record) = self.read(id) else { return true };
        let Some(known) = record.credential_mapping.get(repository(image)) else { return false };
        known.node_pods_accessible
            || credentials.iter().any(|it| {
                let hash = credential_hash(it);
                known.kubernetes_secrets.iter().any(|secret| secret.credential_hash == hash)
            })
    }

    /// Notes a pull; `None` is one that took no credentials.
    pub fn note(&self, id: &str, image: &str, credential: Option<&AuthConfig>) -> io::Result<()> {
        let mut record = self.read(id).unwrap_or_default();
        record.kind = "ImagePulledRecord".into();
        record.api_version = "kubelet.config.k8s.io/v1beta1".into();
        record.last_updated_time = jiff::Timestamp::now().to_string();
        record.image_ref = id.into();
        let entry = record.credential_mapping.entry(repository(image).into()).or_default();
        match credential {
            None => {
                entry.node_pods_accessible = true;
                entry.kubernetes_secrets.clear();
            }
            Some(_) if entry.node_pods_accessible => {}
            Some(credential) => {
                let secret = Secret { credential_hash: credential_hash(credential), ..Default::default() };
                if !entry.kubernetes_secrets.contains(&secret) {
                    entry.kubernetes_secrets.push(secret);
                }
            }
        }
        std::fs::create_dir_all(&self.folder)?;
        let file = self.file(id);
        let new = file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&record)?)?;
        std::fs::rename(new, file)
    }

    /// The image is gone, and with it who may use it.
    pub fn forget(&self, id: &str) {
        let _ = std::fs::remove_file(self.file(id));
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn credential_hash(auth: &AuthConfig) -> String {
    let parts = [&auth.username, &auth.password, &auth.auth, &auth.identity_token, &auth.registry_token];
    hash(parts.map(String::as_str).join("\0").as_bytes())
}

/// `host/path` of an image's name.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    match name[slash..].find(':') {
        Some(colon) => &name[..slash + colon],
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_for_those_who_could_pull_it() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path());
        let auth = |name: &str| AuthConfig { username: name.into(), ..Default::default() };
        let allowed = |who: &[AuthConfig]| records.allows("sha256:a", "h:5/p/web:v2", who);
        assert!(allowed(&[]), "it was here before the kubelet");
        records.note("sha256:a", "h:5/p/web:v1", Some(&auth("one"))).unwrap();
        assert!(!allowed(&[]) && !allowed(&[auth("two")]) && allowed(&[auth("two"), auth("one")]));
        records.note("sha256:a", "h:5/p/web:v1", None).unwrap();
        assert!(allowed(&[]));
        records.forget("sha256:a");
        assert!(allowed(&[]));
    }
}
