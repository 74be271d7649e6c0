//! The files in which resources of pods are remembered. Name, form and checksum are upstream's, so that a kubelet that
//! takes over from another knows what each pod was given.

use super::ByUid;
use super::resources::PodResources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "could not restore state from checkpoint: {problem}, please drain this node and delete pod resource information checkpoint file {path:?} before restarting Kubelet"
    )]
    Unreadable { path: PathBuf, problem: String },
    #[error("failed to write the checkpoint {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

pub struct Checkpoint {
    path: PathBuf,
    /// Checksum of what the file has. Locked while the file is written.
    written: Arc<tokio::sync::Mutex<Option<u32>>>,
}

#[derive(Deserialize, Serialize)]
struct File {
    data: String,
    checksum: u64,
}

#[derive(Default, Deserialize, Serialize)]
struct Data {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<String, PodResources>,
}

/// FNV-1a over the string as upstream prints it.
fn checksum(data: &str) -> u32 {
    let bytes = b"(string)".iter().chain(data.as_bytes());
    bytes.fold(0x811c_9dc5, |value: u32, byte| (value ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl Checkpoint {
    pub fn new(root: &Path, name: &str) -> Self {
        Self { path: root.join(name), written: Arc::default() }
    }

    /// What the last kubelet wrote; nothing where there is no file. A file that is not to be trusted is an error: to go
    /// on without it would give room away that pods have.
    pub fn read(&self) -> Result<ByUid, Error> {
        let unreadable = |problem: String| Error::Unreadable { path: self.path.clone(), problem };
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ByUid::new()),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if file.checksum != u64::from(checksum(&file.data)) {
            return Err(unreadable("checkpoint is corrupted".into()));
        }
        let data: Data = serde_json::from_str(&file.data)
            .map_err(|error| unreadable(format!("failed to get pod resource information: {error}")))?;
        Ok(data.entries)
    }

    /// Writes what `entries` returns, unless the file has it.
    pub async fn save(&self, entries: impl FnOnce() -> ByUid) -> Result<(), Error> {
        let mut written = self.written.clone().lock_owned().await;
        let path = self.path.clone();
        let failed = move |source: io::Error| Error::Write { path, source };
        let data = serde_json::to_string(&Data { entries: entries() });
        let data = data.map_err(|error| failed.clone()(error.into()))?;
        let sum = checksum(&data);
        if *written == Some(sum) {
            return Ok(());
        }
        let path = self.path.clone();
        // It goes on when nobody waits for it any more, and keeps the next one waiting.
        let work = move || {
            *written = None;
            let file = serde_json::to_vec(&File { data, checksum: sum.into() })?;
            replace(&path, &file)?;
            *written = Some(sum);
            Ok(())
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
    }
}

/// Writes a file so that there is the old one or the new one, whole, whenever the machine stops.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = folder.join(format!(".{name}"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let entry = json!({
            "ContainerResources": {"c": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}},
            "PodLevelResources": null, "EmptyDirVolumeLimits": {"v": "1Mi"}
        });
        let entries: ByUid = serde_json::from_value(json!({"u": entry})).unwrap();
        let checkpoint = Checkpoint::new(folder.path(), "state");
        assert!(checkpoint.read().unwrap().is_empty(), "there is no file yet");
        checkpoint.save(|| entries.clone()).await.unwrap();
        assert_eq!(Checkpoint::new(folder.path(), "state").read().unwrap(), entries);
        let path = folder.path().join("state");
        std::fs::remove_file(&path).unwrap();
        checkpoint.save(|| entries.clone()).await.unwrap();
        assert!(!path.exists(), "nothing changed, nothing is written");
        checkpoint.save(ByUid::new).await.unwrap();
        assert!(Checkpoint::new(folder.path(), "state").read().unwrap().is_empty());

        let data = r#"{"entries":{"u":{"ContainerResources":null,"PodLevelResources":null}}}"#;
        let read = |checksum: u32| {
            std::fs::write(&path, json!({"data": data, "checksum": checksum}).to_string()).unwrap();
            Checkpoint::new(folder.path(), "state").read()
        };
        assert!(read(checksum(data)).unwrap()["u"].container_resources.is_empty());
        let error = read(checksum(data) + 1).unwrap_err().to_string();
        assert!(error.starts_with("could not restore state from checkpoint: "), "{error}");
    }
}
