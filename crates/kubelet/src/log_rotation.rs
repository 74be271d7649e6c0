//! `containerLogMaxSize` and `containerLogMaxFiles`: a running container's log that has grown too long is put aside as
//! `<log>.<time>`, the runtime begins a new file, those put aside earlier are compressed, and the oldest are removed.

use crate::run::Kubelet;
use cri::v1;
use flate2::Compression;
use flate2::write::GzEncoder;
use machinery::quantity::Quantity;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const PERIOD: Duration = Duration::from_secs(10);
const GZIP: &str = ".gz";
/// What an interrupted compression leaves.
const UNFINISHED: &str = ".tmp";

/// Runs until `shutdown`. A negative `containerLogMaxSize` keeps everything.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let config = &kubelet.config;
    let limit = config.container_log_max_size.parse::<Quantity>().ok().map_or(-1, |size| size.milli() / 1000);
    let Ok(limit) = u64::try_from(limit) else { return };
    let files = usize::try_from(config.container_log_max_files).unwrap_or_default().max(2);
    while shutdown.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        let running = v1::ContainerFilter {
            state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() }),
            ..Default::default()
        };
        let containers = match kubelet.runtime.list_containers(Some(running)).await {
            Ok(containers) => containers,
            Err(error) => {
                warn!(%error, "Failed to list containers, their logs are not rotated");
                continue;
            }
        };
        for container in containers {
            if let Err(error) = look_at(&kubelet, &container.id, limit, files).await {
                warn!(container = container.id, error, "Failed to rotate a container's log");
            }
        }
    }
}

async fn look_at(kubelet: &Kubelet, id: &str, limit: u64, files: usize) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let status = match kubelet.runtime.container_status(id, false).await {
        Ok(status) => status.status.unwrap_or_default(),
        // the container is gone by now
        Err(_) => return Ok(()),
    };
    if status.log_path.is_empty() {
        return Ok(());
    }
    let log = PathBuf::from(status.log_path);
    let reopen =
        || async { kubelet.runtime.reopen_container_log(id).await.map_err(|error| error.to_string()) };
    match std::fs::metadata(&log) {
        // renamed before the kubelet restarted, and the runtime was not asked to reopen it
        Err(error) if error.kind() == io::ErrorKind::NotFound => return reopen().await,
        Err(error) => return Err(text(error)),
        Ok(metadata) if metadata.len() <= limit => return Ok(()),
        Ok(_) => {}
    }
    let older = log.clone();
    tokio::task::spawn_blocking(move || tidy(&older, files))
        .await
        .map_err(|error| error.to_string())?
        .map_err(text)?;
    let aside = aside(&log, jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string().as_str());
    std::fs::rename(&log, &aside).map_err(text)?;
    if let Err(error) = reopen().await {
        // the runtime goes on in the file it has
        std::fs::rename(&aside, &log).map_err(text)?;
        return Err(error);
    }
    Ok(())
}

/// Removes a log and those that were put aside of it.
pub async fn remove(log: &Path) {
    let log = log.to_owned();
    let removed = tokio::task::spawn_blocking(move || {
        for path in put_aside(&log).unwrap_or_default() {
            let _ = std::fs::remove_file(path);
        }
        let _ = std::fs::remove_file(log);
    });
    if let Err(error) = removed.await {
        warn!(%error, "Failed to remove a container's logs");
    }
}

fn aside(log: &Path, stamp: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".");
    name.push(stamp);
    name.into()
}

/// Makes room for one more log put aside next to the running one, `files` in all, and compresses the others.
fn tidy(log: &Path, files: usize) -> io::Result<()> {
    let mut old = put_aside(log)?;
    old.retain(|path| {
        let unfinished = path.as_os_str().as_encoded_bytes().ends_with(UNFINISHED.as_bytes());
        !unfinished || std::fs::remove_file(path).is_err()
    });
    let excess = (old.len() + 2).saturating_sub(files);
    for path in old.drain(..excess.min(old.len())) {
        std::fs::remove_file(path)?;
    }
    for path in old.iter().filter(|path| path.extension().is_none_or(|end| end != &GZIP[1..])) {
        compress(path)?;
    }
    Ok(())
}

/// Oldest first: the names hold the time.
fn put_aside(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if own.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn compress(path: &Path) -> io::Result<()> {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let unfinished = with(UNFINISHED);
    let mut from = std::fs::File::open(path)?;
    let mut to = GzEncoder::new(std::fs::File::create(&unfinished)?, Compression::default());
    io::copy(&mut from, &mut to)?;
    to.finish()?.sync_all()?;
    std::fs::rename(unfinished, with(GZIP))?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_oldest_go_and_the_others_are_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("0.log", "now"),
            ("0.log.20260101-000000.gz", "oldest"),
            ("0.log.20260102-000000", "older"),
            ("0.log.20260103-000000", "old"),
            ("0.log.20260103-000000.tmp", "half"),
            ("1.log.20260101-000000", "another's"),
        ] {
            std::fs::write(at(name), text).unwrap();
        }
        tidy(&at("0.log"), 4).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["0.log", "0.log.20260102-000000.gz", "0.log.20260103-000000.gz", "1.log.20260101-000000"]
        );
        let mut text = String::new();
        let file = std::fs::File::open(at("0.log.20260103-000000.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
        assert_eq!(aside(&at("0.log"), "20260104-000000"), at("0.log.20260104-000000"));
    }

    #[tokio::test]
    async fn a_log_goes_with_what_was_put_aside_of_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1.log", "1.log.20260101-000000", "1.log.20260102-000000.gz", "10.log", "2.log"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        remove(&folder.path().join("1.log")).await;
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["10.log", "2.log"]);
        remove(Path::new("")).await;
    }
}
