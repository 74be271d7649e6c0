//! Which images the kubelet pulled, and with whose credentials: an image that took a password is not for every
//! pod just because it is here already. What cannot be read says nothing, and then an image is pulled again.
//!
//! The files are upstream's (KEP-2535), so that a kubelet that takes over from another knows the same:
//! `image_manager/pulled/sha256-<hash of the image's id>` for each image, and `image_manager/pulling/sha256-<hash of its
//! name>` while it is being pulled: an image whose pull was interrupted is not one that was here before.

use super::policy::Policy;
use crate::credentials::{Credential, SecretName};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tracing::warn;

const API_VERSIONS: [&str; 2] = ["kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
/// Secrets noted for an image beyond those that pulled it.
const MAX_SECRETS: usize = 100;
const PREFIX: &str = "sha256-";
const UNFINISHED: &str = ".tmp";

pub struct Records {
    pulled: PathBuf,
    pulling: PathBuf,
    policy: Policy,
    /// Pulls under way by image name.
    intents: Mutex<HashMap<String, usize>>,
    /// Records are read, changed and written.
    changing: Mutex<()>,
}

trait Kind: Serialize + DeserializeOwned {
    const KIND: &'static str;
}

/// One of upstream's objects.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<T> {
    kind: String,
    api_version: String,
    #[serde(flatten)]
    content: T,
}

#[derive(Deserialize, Serialize)]
struct Intent {
    image: String,
}

impl Kind for Intent {
    const KIND: &'static str = "ImagePullIntent";
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    last_updated_time: Option<jiff::Timestamp>,
    image_ref: String,
    /// By image name without tag and digest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    credential_mapping: BTreeMap<String, Credentials>,
}

impl Kind for Record {
    const KIND: &'static str = "ImagePulledRecord";
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Credentials {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_secrets: Vec<Secret>,
    /// Written by credential providers, which this kubelet does not support; kept as read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_service_accounts: Vec<serde_json::Value>,
    /// Pulled without credentials: any pod may use it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
}

#[derive(Clone, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Secret {
    #[serde(flatten)]
    name: SecretName,
    credential_hash: String,
}

impl From<&Credential> for Secret {
    fn from(credential: &Credential) -> Self {
        Secret { name: credential.source.clone(), credential_hash: credential.hash.clone() }
    }
}

/// With what an image was pulled.
#[derive(Clone, Copy)]
pub enum Pulled<'a> {
    With(&'a Credential),
    Freely,
    /// Nobody knows: whoever wants to use it has to show that they may.
    Unknown,
}

impl Records {
    /// `root` is the kubelet's own folder.
    pub fn new(root: &Path, policy: Policy) -> Self {
        let folder = root.join("image_manager");
        Self {
            pulled: folder.join("pulled"),
            pulling: folder.join("pulling"),
            policy,
            intents: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// Whether a pod with these credentials may use an image that is here.
    pub fn allows(&self, id: &str, image: &str, credentials: &[Credential]) -> bool {
        let _changing = self.changing.lock();
        match self.check(id, image, credentials) {
            Ok(allowed) => allowed,
            Err(error) => {
                warn!(image, %error, "Unable to read the records of image pulls, the image is pulled again");
                false
            }
        }
    }

    fn check(&self, id: &str, image: &str, credentials: &[Credential]) -> io::Result<bool> {
        let record = self.record(id)?;
        let ours = record.is_some() || self.is_intended(image)?;
        if !self.policy.asks_for_credentials(image, ours) {
            return Ok(true);
        }
        let Some(known) = record.as_ref().and_then(|record| record.credential_mapping.get(repository(image)))
        else {
            return Ok(false);
        };
        if known.node_pods_accessible {
            return Ok(true);
        }
        for credential in credentials {
            let shown = Secret::from(credential);
            for secret in &known.kubernetes_secrets {
                let same_hash =
                    !secret.credential_hash.is_empty() && secret.credential_hash == shown.credential_hash;
                // The owner of a secret that pulled the image has changed its password since.
                let same_name = secret.name == shown.name;
                let room = known.kubernetes_secrets.len() < MAX_SECRETS;
                if !(same_hash || same_name && room) {
                    continue;
                }
                if room
                    && !(same_hash && same_name)
                    && let Err(error) = self.write_pulled(id, image, Pulled::With(credential))
                {
                    warn!(image, %error, "Cannot note who may use an image");
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that an image is about to be pulled.
    pub fn begin(&self, image: &str) -> io::Result<Pulling<'_>> {
        let mut intents = self.intents.lock();
        write(&self.pulling, image, Intent { image: image.to_owned() })?;
        *intents.entry(image.to_owned()).or_default() += 1;
        Ok(Pulling { records: self, image: image.to_owned() })
    }

    /// Records the images that an earlier kubelet was pulling when it ended, and that are present: their credentials are unknown.
    pub fn recover(&self, images: &[cri::v1::Image]) {
        let _changing = self.changing.lock();
        let names: HashSet<String> =
            list::<Intent>(&self.pulling).into_iter().map(|intent| intent.image).collect();
        for image in images {
            for name in image.repo_digests.iter().chain(&image.repo_tags).filter(|name| names.contains(*name))
            {
                let noted = self.write_pulled(&image.id, name, Pulled::Unknown);
                match noted.and_then(|()| remove(&self.pulling, name)) {
                    Ok(()) => {}
                    Err(error) => warn!(image = name, %error, "Cannot note who may use an image"),
                }
            }
        }
    }

    /// The image is gone, and with it who may use it.
    pub fn forget(&self, id: &str) {
        let _changing = self.changing.lock();
        if let Err(error) = remove(&self.pulled, id) {
            warn!(image = id, %error, "Cannot remove the record of an image");
        }
    }

    /// Forgets images that are not among `present`, which was listed at `listed`.
    pub fn prune(&self, present: &HashSet<&str>, listed: jiff::Timestamp) {
        let _changing = self.changing.lock();
        for record in list::<Record>(&self.pulled) {
            let before = record.last_updated_time.is_none_or(|time| time < listed);
            if before
                && !present.contains(record.image_ref.as_str())
                && let Err(error) = remove(&self.pulled, &record.image_ref)
            {
                warn!(image = record.image_ref, %error, "Cannot remove the record of an image");
            }
        }
    }

    fn record(&self, id: &str) -> io::Result<Option<Record>> {
        match read::<Record>(&path(&self.pulled, id))? {
            Some(record) if record.image_ref != id => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the record is of another image"))
            }
            record => Ok(record),
        }
    }

    fn is_intended(&self, image: &str) -> io::Result<bool> {
        Ok(self.intents.lock().contains_key(image)
            || read::<Intent>(&path(&self.pulling, image))?.is_some_and(|intent| intent.image == image))
    }

    fn write_pulled(&self, id: &str, image: &str, how: Pulled<'_>) -> io::Result<()> {
        let known = self.record(id).unwrap_or_else(|error| {
            warn!(image, %error, "Unable to read the record of an image, it is made anew");
            None
        });
        let exists = known.is_some();
        let mut record = known.unwrap_or_default();
        match how {
            Pulled::Unknown if exists => return Ok(()),
            Pulled::Unknown => {}
            Pulled::Freely => {
                let entry = Credentials { node_pods_accessible: true, ..Default::default() };
                record.credential_mapping.insert(repository(image).into(), entry);
            }
            Pulled::With(credential) => {
                let entry = record.credential_mapping.entry(repository(image).into()).or_default();
                if entry.node_pods_accessible {
                    return Ok(());
                }
                entry.kubernetes_secrets.retain(|secret| secret.name != credential.source);
                entry.kubernetes_secrets.push(credential.into());
                entry.kubernetes_secrets.sort_by(|one, other| one.name.cmp(&other.name));
            }
        }
        record.last_updated_time = Some(seconds(jiff::Timestamp::now()));
        record.image_ref = id.into();
        write(&self.pulled, id, record)
    }
}

/// A pull under way. Where it is neither finished nor failed, it stands on disk until the next start.
pub struct Pulling<'a> {
    records: &'a Records,
    image: String,
}

impl Pulling<'_> {
    /// The image is here. Where that cannot be noted, it stays one whose pull is under way, which is for nobody.
    pub fn finished(self, id: &str, how: Pulled<'_>) -> io::Result<()> {
        let changing = self.records.changing.lock();
        self.records.write_pulled(id, &self.image, how)?;
        drop(changing);
        self.ended()
    }

    pub fn failed(self) -> io::Result<()> {
        self.ended()
    }

    fn ended(&self) -> io::Result<()> {
        let intents = self.records.intents.lock();
        match intents.get(&self.image) {
            Some(count) if *count > 1 => Ok(()),
            _ => remove(&self.records.pulling, &self.image),
        }
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        let mut intents = self.records.intents.lock();
        if let Some(count) = intents.get_mut(&self.image) {
            *count -= 1;
            if *count == 0 {
                intents.remove(&self.image);
            }
        }
    }
}

fn path(folder: &Path, key: &str) -> PathBuf {
    let hash: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("{PREFIX}{hash}"))
}

/// `None` where there is no such file; one that is something else is an error.
fn read<T: Kind>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let object: Object<T> = serde_json::from_slice(&bytes)?;
    if object.kind != T::KIND || !API_VERSIONS.contains(&object.api_version.as_str()) {
        let found = format!("{} of {}, not {}", object.kind, object.api_version, T::KIND);
        return Err(io::Error::new(io::ErrorKind::InvalidData, found));
    }
    Ok(Some(object.content))
}

fn list<T: Kind>(folder: &Path) -> Vec<T> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let bytes = name.as_encoded_bytes();
        if !bytes.starts_with(PREFIX.as_bytes()) || bytes.ends_with(UNFINISHED.as_bytes()) {
            continue;
        }
        match read(&entry.path()) {
            Ok(object) => found.extend(object),
            Err(error) => {
                warn!(file = %entry.path().display(), %error, "Cannot read a record of image pulls")
            }
        }
    }
    found
}

/// Files and folders are for root alone: they say what passwords are by their hash.
fn write<T: Kind>(folder: &Path, key: &str, content: T) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    let object = Object { kind: T::KIND.into(), api_version: API_VERSIONS[0].into(), content };
    let mut bytes = serde_json::to_vec(&object)?;
    bytes.push(b'\n');
    let path = path(folder, key);
    let unfinished = path.with_extension(&UNFINISHED[1..]);
    let _ = std::fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&bytes)?;
    // A torn file would be one that nobody can read.
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}

fn remove(folder: &Path, key: &str) -> io::Result<()> {
    match std::fs::remove_file(path(folder, key)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn seconds(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// An image's name without tag and digest.
pub(super) fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    match name[slash..].find(':') {
        Some(colon) => &name[..slash + colon],
        None => name,
    }
}

#[cfg(test)]
mod tests;
