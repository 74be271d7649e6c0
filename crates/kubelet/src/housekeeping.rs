//! Ends and removes what is left of pods nobody wants any more: sandboxes, volumes, folders, cgroups, logs.

use crate::node::shares;
use crate::pods;
use crate::run::Kubelet;
use crate::runtime::{self, DELETION_GRACE, TERMINATION_GRACE};
use crate::worker::{self, terminate};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const PERIOD: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Orphans that are ended at a time: each takes its grace, which is time and no work.
const AT_ONCE: usize = 64;
/// Every how many rounds the disk is looked at.
const DISK_ROUNDS: u32 = 15;

#[derive(Default)]
pub struct Housekeeping {
    orphans: Mutex<HashSet<String>>,
}

impl Housekeeping {
    pub fn note_orphans(&self, uids: Vec<String>) {
        *self.orphans.lock() = uids.into_iter().collect();
    }

    /// Begins once every source has listed its pods: before, everything looks like an orphan.
    pub async fn run(&self, kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = kubelet.pods.all_known() => {}
        }
        let mut round = 0;
        // Pods that the runtime fails to remove are retried with back-off.
        let mut failed: HashMap<String, (Duration, Instant)> = HashMap::new();
        let mut ending: JoinSet<(String, Result<(), worker::Error>)> = JoinSet::new();
        let mut under_way: HashSet<String> = HashSet::new();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(ended) = ending.join_next() => {
                    let Ok((uid, outcome)) = ended else { continue };
                    under_way.remove(&uid);
                    match outcome {
                        Ok(()) => drop(failed.remove(&uid)),
                        Err(error) => {
                            warn!(uid, %error, "Failed to end an orphaned pod, will retry");
                            let pause = failed.get(&uid).map_or(PERIOD, |(pause, _)| (*pause * 2).min(LONGEST_PAUSE));
                            failed.insert(uid, (pause, Instant::now()));
                        }
                    }
                }
                _ = ticks.tick() => {
                    let orphans: HashSet<String> = self.orphans.lock().drain().collect();
                    failed.retain(|uid, _| orphans.contains(uid) || under_way.contains(uid));
                    let waits = |uid: &String| {
                        failed.get(uid).is_some_and(|(pause, since)| since.elapsed() < *pause)
                    };
                    let due = orphans.into_iter().filter(|uid| {
                        !kubelet.supervisor.knows(uid) && !under_way.contains(uid) && !waits(uid)
                    });
                    // The rest is found again by the next listing.
                    let due: Vec<String> = due.take(AT_ONCE.saturating_sub(ending.len())).collect();
                    for uid in due {
                        info!(uid, "Ending a pod that nobody wants any more");
                        under_way.insert(uid.clone());
                        let kubelet = kubelet.clone();
                        ending.spawn(async move {
                            let outcome = end(&kubelet, &uid).await;
                            (uid, outcome)
                        });
                    }
                    if round % DISK_ROUNDS == 0 {
                        kubelet.allocations.retain(|uid| kubelet.supervisor.knows(uid));
                        shares::weigh_burstable(&kubelet);
                        disk(&kubelet, &under_way).await;
                    }
                    round += 1;
                }
            }
        }
    }
}

async fn end(kubelet: &Arc<Kubelet>, uid: &str) -> Result<(), worker::Error> {
    let observed = runtime::read_pod(&*kubelet.runtime, uid).await?;
    let annotation =
        |key: &str| observed.containers.iter().find_map(|it| it.annotations.get(key)?.parse::<i64>().ok());
    // Everything known about the orphan comes from the runtime.
    let pod = Pod {
        metadata: ObjectMeta {
            name: Some(observed.name.clone()),
            namespace: Some(observed.namespace.clone()),
            uid: Some(uid.to_owned()),
            ..Default::default()
        },
        spec: Some(PodSpec {
            termination_grace_period_seconds: annotation(TERMINATION_GRACE),
            ..Default::default()
        }),
        ..Default::default()
    };
    let grace = terminate::grace(&pod, annotation(DELETION_GRACE));
    terminate::kill_pod(kubelet, &pod, &observed, grace).await?;
    if let Err(error) = kubelet.volumes.unmount(uid).await {
        warn!(uid, %error, "Failed to unmount an orphaned pod's volumes");
    }
    terminate::remove_remains(kubelet, &pod, &observed).await
}

/// Folders and cgroups without a pod.
async fn disk(kubelet: &Arc<Kubelet>, ending: &HashSet<String>) {
    let in_use = |uid: &str| {
        kubelet.supervisor.knows(uid) || kubelet.pods.by_uid(uid).is_some() || ending.contains(uid)
    };
    let with_sandbox: HashSet<String> = match kubelet.runtime.list_pod_sandboxes(None).await {
        Ok(all) => all.into_iter().filter_map(|it| it.labels.get(runtime::POD_UID).cloned()).collect(),
        Err(_) => return,
    };
    for entry in std::fs::read_dir(kubelet.paths.pods_dir()).into_iter().flatten().flatten() {
        let Some(uid) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if in_use(&uid) || with_sandbox.contains(&uid) {
            continue;
        }
        match kubelet.volumes.unmount(&uid).await {
            Err(error) => warn!(uid, %error, "Failed to unmount an orphaned pod's volumes"),
            // The pod may have come meanwhile.
            Ok(()) if in_use(&uid) => {}
            Ok(()) => terminate::remove_folder(kubelet, &uid).await,
        }
    }
    let static_hashes: HashSet<String> = kubelet
        .pods
        .all()
        .iter()
        .filter_map(|pod| pods::annotation(pod, pods::CONFIG_HASH).map(str::to_owned))
        .collect();
    for (uid, group) in kubelet.cgroups.pods() {
        if !in_use(&uid) && !with_sandbox.contains(&uid) && !static_hashes.contains(&uid) {
            let _ = kubelet.cgroups.remove_orphan(&group);
        }
    }
    for entry in std::fs::read_dir(&kubelet.paths.pod_logs_root).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let Some(uid) = file.to_str().and_then(|name| name.rsplit('_').next()) else { continue };
        if !in_use(uid) && !with_sandbox.contains(uid) {
            let _ = tokio::fs::remove_dir_all(entry.path()).await;
        }
    }
    for entry in std::fs::read_dir(&kubelet.paths.container_links).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() && !path.exists() {
            let _ = std::fs::remove_file(path);
        }
    }
}
