//! Reports pods' statuses to the API server: one patch per change, and the final deletion of a terminating pod once
//! nothing of it is left on the node.

use crate::pods::{self, PodManager, phase_is_terminal};
use client::{Client, DeleteOptions, Patch, RateLimit, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

const WORKERS: usize = 4;

pub struct Manager {
    client: Option<Client>,
    pods: Arc<PodManager>,
    queue: WorkQueue<String>,
    statuses: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    pod: Arc<Pod>,
    status: Arc<PodStatus>,
    sent: Option<Sent>,
    finished: bool,
}

/// What was sent last.
#[derive(Clone)]
struct Sent {
    status: Value,
    answer: Option<Arc<PodStatus>>,
    /// Resource version of the answer: later writes by others are corrected, an older copy of the pod is not.
    version: u64,
}

impl Sent {
    /// The newest status that the API server is known to have. The copy that a watch has brought may be older than the last
    /// answer, and then lacks what a patch has to take back.
    fn newest<'a>(sent: Option<&'a Sent>, remote: &'a Pod) -> Option<&'a PodStatus> {
        match sent.filter(|sent| sent.version > version_of(remote)) {
            Some(sent) => sent.answer.as_deref(),
            None => remote.status.as_ref(),
        }
    }
}

impl Manager {
    pub fn new(client: Option<Client>, pods: Arc<PodManager>) -> Arc<Self> {
        let queue = WorkQueue::new(
            "pod_status",
            RateLimit { max: std::time::Duration::from_secs(30), ..RateLimit::default() },
        );
        Arc::new(Self { client, pods, queue, statuses: Mutex::default() })
    }

    pub fn set(&self, pod: &Arc<Pod>, status: PodStatus) {
        let uid = pods::uid(pod);
        let status = Arc::new(status);
        self.pods.set_status(uid, status.clone());
        let mut statuses = self.statuses.lock();
        match statuses.get_mut(uid) {
            Some(entry) => {
                let same = entry.status == status
                    && entry.pod.metadata.resource_version == pod.metadata.resource_version;
                entry.pod = pod.clone();
                entry.status = status;
                if same {
                    return;
                }
            }
            None => {
                statuses.insert(uid.into(), Entry { pod: pod.clone(), status, sent: None, finished: false });
            }
        }
        drop(statuses);
        self.queue.add(uid.to_owned());
    }

    /// Nothing of the pod is left on this node: where its deletion was asked for, it may go.
    pub fn finish(&self, pod: &Arc<Pod>) {
        let uid = pods::uid(pod);
        if let Some(entry) = self.statuses.lock().get_mut(uid) {
            entry.pod = pod.clone();
            entry.finished = true;
        }
        self.queue.add(uid.to_owned());
    }

    /// Whether nothing of the pod is left on this node.
    pub fn is_finished(&self, uid: &str) -> bool {
        self.statuses.lock().get(uid).is_some_and(|entry| entry.finished)
    }

    pub fn forget(&self, uid: &str) {
        self.statuses.lock().remove(uid);
    }

    /// The API server shows the pod otherwise than before.
    pub fn look_again(&self, uid: &str) {
        if self.statuses.lock().contains_key(uid) {
            self.queue.add(uid.to_owned());
        }
    }

    /// Reports a pod again, e.g. after its mirror was created.
    pub fn wake(&self, uid: &str) {
        if let Some(entry) = self.statuses.lock().get_mut(uid) {
            entry.sent = None;
        }
        self.queue.add(uid.to_owned());
    }

    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let manager = self.clone();
        let reconcile = move |uid: String| {
            let manager = manager.clone();
            async move { manager.sync(&uid).await }
        };
        run_workers(self.queue.clone(), WORKERS, shutdown, reconcile).await;
    }

    async fn sync(&self, uid: &str) -> client::Result<()> {
        let Some(client) = &self.client else { return Ok(()) };
        let Some((local, status, sent, finished)) = self
            .statuses
            .lock()
            .get(uid)
            .map(|entry| (entry.pod.clone(), entry.status.clone(), entry.sent.clone(), entry.finished))
        else {
            return Ok(());
        };
        let (namespace, name) = (pods::namespace(&local).to_owned(), pods::name(&local).to_owned());
        let (namespace, name) = (namespace.as_str(), name.as_str());
        // A static pod's status goes to its mirror.
        let remote = match pods::is_static(&local) {
            true => match self.pods.mirror(namespace, name) {
                Some(mirror) => mirror,
                None => return Ok(()),
            },
            false => self.pods.by_uid(uid).unwrap_or(local),
        };
        let remote_uid = pods::uid(&remote);
        let wanted = to_value(&status);
        let patch = difference(Sent::newest(sent.as_ref(), &remote), &wanted);
        let answered = sent.is_some_and(|sent| sent.status == wanted && version_of(&remote) <= sent.version);
        if !patch.is_empty() && !answered {
            let body = json!({"metadata": {"uid": remote_uid}, "status": patch});
            // Not with what stands in it: containers choose their termination messages.
            let fields = body["status"].as_object().map(|status| status.keys().cloned().collect::<Vec<_>>());
            debug!(pod = name, namespace, ?fields, "Patching the pod's status");
            match client.patch::<Pod>(Some(namespace), name, Some("status"), Patch::Strategic(body)).await {
                Ok(answer) => {
                    if let Some(entry) = self.statuses.lock().get_mut(uid) {
                        let version = version_of(&answer);
                        entry.sent =
                            Some(Sent { status: wanted, answer: answer.status.map(Arc::new), version });
                    }
                }
                Err(error) if error.is_not_found() => {
                    debug!(pod = name, namespace, "The pod is gone, its status is not needed");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let deleted = remote.metadata.deletion_timestamp.is_some();
        // A grace period of zero means that the node released the pod already; it waits for something else, a finalizer for one.
        let deleted = deleted && remote.metadata.deletion_grace_period_seconds != Some(0);
        if finished && deleted && !pods::is_static(&remote) && !pods::is_mirror(&remote) {
            let options = DeleteOptions::grace(0).uid(remote_uid);
            match client.delete::<Pod>(Some(namespace), name, &options).await {
                Ok(()) => {
                    info!(pod = name, namespace, "Pod is fully terminated and was removed from the API")
                }
                Err(error) if error.is_not_found() => {}
                // Includes conflicts. Where another pod took the name, the watch reports it and the retries end.
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn version_of(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn to_value(status: &PodStatus) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

/// Lists the API merges by a key: what left them has to be named.
const MERGED: &[(&str, &str)] = &[("podIPs", "ip"), ("hostIPs", "ip"), ("conditions", "type")];

/// Fields other parts of the system write.
const FOREIGN: &[&str] =
    &["nominatedNodeName", "resourceClaimStatuses", "resize", "extendedResourceClaimStatus"];

/// The strategic merge patch from what the API server has to what it should have.
fn difference(from: Option<&PodStatus>, to: &Value) -> Map<String, Value> {
    let from = from.map(to_value).unwrap_or_else(|| json!({}));
    let mut patch = Map::new();
    let empty = Map::new();
    let (from, to) = (from.as_object().unwrap_or(&empty), to.as_object().unwrap_or(&empty));
    for (field, value) in to {
        if FOREIGN.contains(&field.as_str()) || from.get(field) == Some(value) {
            continue;
        }
        match MERGED.iter().find(|(name, _)| name == field) {
            None => {
                patch.insert(field.clone(), value.clone());
            }
            Some((_, key)) => {
                let of_others = |item: &Value| {
                    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
                    field == "conditions" && !super::conditions::is_owned(kind)
                };
                let items = merged(from.get(field), value, key, of_others);
                // The first address is the pod's own. The order of conditions means nothing and is no reason for a patch.
                if field != "conditions" || !items.is_empty() {
                    let all = value.as_array().into_iter().flatten();
                    let order = all.map(|item| json!({*key: item.get(*key)})).collect();
                    patch.insert(format!("$setElementOrder/{field}"), Value::Array(order));
                }
                if !items.is_empty() {
                    patch.insert(field.clone(), Value::Array(items));
                }
            }
        }
    }
    for field in from.keys().filter(|field| !to.contains_key(*field) && !FOREIGN.contains(&field.as_str())) {
        patch.insert(field.clone(), Value::Null);
    }
    patch
}

fn merged(from: Option<&Value>, to: &Value, key: &str, keep: impl Fn(&Value) -> bool) -> Vec<Value> {
    let empty = Vec::new();
    let from = from.and_then(Value::as_array).unwrap_or(&empty);
    let to = to.as_array().unwrap_or(&empty);
    let same_key = |a: &Value, b: &Value| a.get(key) == b.get(key);
    let mut items = Vec::new();
    for item in to {
        match from.iter().find(|it| same_key(it, item)) {
            Some(before) if before == item => {}
            Some(before) => {
                let mut item = item.clone();
                if let (Some(fields), Some(before)) = (item.as_object_mut(), before.as_object()) {
                    for gone in before
                        .keys()
                        .filter(|field| !fields.contains_key(*field))
                        .cloned()
                        .collect::<Vec<_>>()
                    {
                        fields.insert(gone, Value::Null);
                    }
                }
                items.push(item);
            }
            None => items.push(item.clone()),
        }
    }
    for gone in from.iter().filter(|it| !keep(it) && !to.iter().any(|item| same_key(it, item))) {
        items.push(json!({key: gone.get(key), "$patch": "delete"}));
    }
    items
}

/// Whether the API server's copy says the pod is over.
pub fn is_over(pod: &Pod) -> bool {
    phase_is_terminal(pod.status.as_ref().and_then(|status| status.phase.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_order() {
        let message = api::tables::message("k8s.io.api.core.v1.Pod").unwrap();
        let check = |from: &[&str], to: &[&str]| {
            let status = |ips: &[&str]| {
                let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
                json!({"podIPs": ips, "hostIPs": ips})
            };
            let before: PodStatus = serde_json::from_value(status(from)).unwrap();
            let patch = json!({"status": difference(Some(&before), &status(to))});
            let before = json!({"status": status(from)});
            let patched =
                machinery::patch::strategic(&before.into(), &patch.clone().into(), message).unwrap();
            assert_eq!(patched["status"], api::Tree::from(status(to)), "{patch}");
        };
        check(&["10.0.0.1", "fd::1"], &["10.0.0.2", "fd::1"]);
        check(&["10.0.0.1", "fd::1"], &["fd::1", "10.0.0.1"]);
        check(&["10.0.0.1"], &["10.0.0.1", "fd::1"]);
        check(&["10.0.0.1", "fd::1"], &["fd::1"]);
    }

    #[test]
    fn what_was_sent_last_is_taken_back_though_no_watch_has_brought_it() {
        let pod = |version: &str, conditions: Value| -> Pod {
            let status = json!({"phase": "Running", "conditions": conditions});
            serde_json::from_value(json!({"metadata": {"resourceVersion": version}, "status": status}))
                .unwrap()
        };
        let resizing = json!([{"type": "PodResizeInProgress", "status": "True"}]);
        let (old, answer) = (pod("9", json!([])), pod("10", resizing.clone()));
        let wanted = json!({"phase": "Running", "conditions": []});
        let sent = Sent { status: json!({}), version: 10, answer: answer.status.clone().map(Arc::new) };
        let taken_back = |remote: &Pod| {
            let patch = difference(Sent::newest(Some(&sent), remote), &wanted);
            patch.get("conditions").is_some_and(|it| it[0]["$patch"] == "delete")
        };
        assert!(taken_back(&old) && taken_back(&answer) && taken_back(&pod("11", resizing)));
        assert!(!taken_back(&pod("11", json!([]))));
    }

    #[test]
    fn patches_name_only_what_changed() {
        let from: PodStatus = serde_json::from_value(json!({
            "phase": "Pending", "message": "m", "podIPs": [{"ip": "1.1.1.1"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "r"}, {"type": "Other", "status": "True"}]
        }))
        .unwrap();
        let to = json!({
            "phase": "Running", "podIPs": [{"ip": "2.2.2.2"}],
            "conditions": [{"type": "Ready", "status": "True"}]
        });
        assert_eq!(
            Value::Object(difference(Some(&from), &to)),
            json!({
                "phase": "Running", "message": null,
                "podIPs": [{"ip": "2.2.2.2"}, {"ip": "1.1.1.1", "$patch": "delete"}],
                "$setElementOrder/podIPs": [{"ip": "2.2.2.2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}],
                "$setElementOrder/conditions": [{"type": "Ready"}]
            })
        );
        assert!(difference(Some(&from), &to_value(&from)).is_empty());
    }
}
