//! Reports to the user: events, the `PodScheduled` condition; and the deletion of victims.

use client::{DeleteOptions, EventType, Patch};
use serde_json::json;

use super::Scheduler;
use crate::cluster::facts::devices::DeviceClaim;
use crate::cluster::{Pod, Symbol};
use crate::metrics;
use crate::plugins::Victims;

impl Scheduler {
    pub(super) fn report_scheduled(&self, pod: &Pod, node: &Symbol) {
        let note = format!("Successfully assigned {} to {node}", pod.key);
        self.handle.event(pod, EventType::Normal, "Scheduled", "Binding", &note);
    }

    /// Reports why the pod waits, and preempts the victims that make room for it, if any were chosen.
    pub(super) async fn unschedulable(
        &self,
        pod: &Pod,
        reason: &str,
        message: &str,
        victims: Option<Victims>,
    ) {
        self.handle.event(pod, EventType::Warning, "FailedScheduling", "Scheduling", message);
        let known = pod.condition.as_ref().is_some_and(|condition| condition.1 == message);
        if !known || victims.is_some() {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let mut condition = json!({
                "type": "PodScheduled",
                "status": "False",
                "reason": reason,
                "message": message,
                "lastProbeTime": null,
                "observedGeneration": pod.generation,
            });
            if pod.condition.is_none() {
                condition["lastTransitionTime"] = now.into();
            }
            let mut status = json!({"conditions": [condition]});
            if let Some(victims) = &victims {
                status["nominatedNodeName"] = victims.node.as_str().into();
            }
            self.patch_status(pod, status).await;
        }
        let Some(victims) = victims else { return };
        if self.preempt(pod, &victims).await.is_ok() {
            self.core.lock().preempted(pod, self.now());
        } else {
            self.clear_nomination(pod).await;
            self.core.lock().preemption_failed(pod, &victims, self.now());
        }
        self.wake.notify_one();
    }

    /// Shows the node that the pod is expected on while its binding takes a while.
    pub(super) async fn announce(&self, pod: &Pod, node: &Symbol) {
        if pod.nominated != *node {
            self.patch_status(pod, json!({"nominatedNodeName": node.as_str()})).await;
        }
    }

    /// Clears the nomination. The cache may see the nomination later than this, and then its end.
    pub(super) async fn clear_nomination(&self, pod: &Pod) {
        // Null takes the field away.
        self.patch_status(pod, json!({"nominatedNodeName": null})).await;
    }

    /// Deletes victims up to the first that cannot be; one that is gone needs no deletion.
    async fn preempt(&self, pod: &Pod, victims: &Victims) -> Result<(), client::Error> {
        metrics::VICTIMS.observe(victims.pods.len() as f64);
        for victim in victims.pods.iter().filter(|victim| !victim.deleting) {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", pod.needs.scheduler),
                "lastProbeTime": null,
                "lastTransitionTime": now,
                "observedGeneration": victim.generation,
            });
            self.patch_status(victim, json!({"conditions": [condition]})).await;
            let options = DeleteOptions::default().uid(&*victim.uid);
            let deleted = self.client.delete::<Pod>(victim.key.namespace(), &victim.key.name, &options).await;
            match deleted {
                Ok(()) => {
                    let note = format!("Preempted by pod {} on node {}", pod.uid, victims.node);
                    self.handle.event_by(
                        victim,
                        EventType::Normal,
                        "Preempted",
                        "Preempting",
                        &note,
                        &pod.needs.scheduler,
                    );
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::error!(pod = %pod.key, victim = %victim.key, %error, "Could not preempt pod");
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes back the allocation of a claim, unless it has changed.
    pub(super) async fn deallocate(&self, pod: &Pod, claim: &DeviceClaim) {
        let patch = json!({
            "metadata": {"uid": &*claim.uid, "resourceVersion": claim.version.to_string()},
            "status": {"allocation": null, "reservedFor": null, "devices": null},
        });
        let (resource, key) = (client::ResourceRef::of::<DeviceClaim>(), &claim.key);
        let patch = Patch::Merge(patch);
        let patched = self
            .client
            .at(&resource)
            .patch::<serde::de::IgnoredAny>(key.namespace(), &key.name, Some("status"), patch)
            .await;
        if let Err(error) = patched {
            tracing::error!(pod = %pod.key, resourceclaim = %key, %error, "Could not deallocate ResourceClaim");
        }
    }

    async fn patch_status(&self, pod: &Pod, mut status: serde_json::Value) {
        // The pod may have been replaced by one of the same name.
        let mut patch = json!({"metadata": {"uid": &*pod.uid}});
        patch["status"] = status.take();
        let patched = self
            .client
            .at(&client::ResourceRef::of::<Pod>())
            .patch::<serde::de::IgnoredAny>(
                pod.key.namespace(),
                &pod.key.name,
                Some("status"),
                Patch::Strategic(patch),
            )
            .await;
        match patched {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::error!(pod = %pod.key, %error, "Error updating pod"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use client::{Client, Config, Informers};
    use serde::Deserialize as _;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::cluster::Node;
    use crate::config::Configuration;
    use crate::core::Attempt;
    use crate::core::queue::Backoff;

    /// Answers every DELETE with this status, every PATCH with an empty object, and knows nothing else. Returns the patches.
    async fn serve(listener: TcpListener, deletion: &str) -> Vec<String> {
        let mut patches = Vec::new();
        loop {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let (mut first, mut length) = (String::new(), 0);
            stream.read_line(&mut first).await.unwrap();
            let mut line = first.clone();
            while !line.trim().is_empty() {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            if first.starts_with("PATCH") {
                patches.push(String::from_utf8(body).unwrap());
            }
            let status = match first.split(' ').next().unwrap() {
                "DELETE" => deletion,
                "PATCH" => "200 OK",
                _ => "404 Not Found",
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            // The client may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
            if first.starts_with("PATCH") && patches.last().is_some_and(|patch| patch.contains("the end")) {
                return patches;
            }
        }
    }

    fn pod(name: &str, spec: serde_json::Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec});
        pod["spec"]["schedulerName"] = "default-scheduler".into();
        pod["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]);
        Arc::new(Pod::deserialize(pod).unwrap())
    }

    async fn check(deletion: &str, waits: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client =
            Client::new(Config::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap()).unwrap();
        let informers = Informers::new(client.clone());
        let profiles = Configuration::default().profiles().unwrap();
        let scheduler =
            Scheduler::new(client, &informers, profiles, Backoff::default(), "host", &Default::default());
        let high = pod("high", json!({"priority": 10}));
        let victims = {
            let mut core = scheduler.core.lock();
            let node =
                json!({"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "1", "pods": "9"}}});
            core.set_node(&Arc::new(Node::deserialize(node).unwrap()), None, Duration::ZERO);
            core.set_pod(&pod("low", json!({"nodeName": "a"})), None, Duration::ZERO);
            core.set_pod(&high, None, Duration::ZERO);
            match core.attempt(Duration::ZERO) {
                Some(Attempt::Unschedulable { victims, .. }) => victims,
                _ => panic!("the pod cannot fit"),
            }
        };
        assert!(victims.is_some());
        let reports = async {
            scheduler.unschedulable(&high, "Unschedulable", "no place", victims).await;
            scheduler.patch_status(&high, json!({"message": "the end"})).await;
        };
        let (patches, ()) = tokio::join!(serve(listener, deletion), reports);
        let cleared = patches.iter().any(|patch| patch.contains(r#""nominatedNodeName":null"#));
        assert_eq!(cleared, !waits, "{deletion}: {patches:?}");
        let core = scheduler.core.lock();
        assert_eq!(core.table.nominated(0).len(), usize::from(waits), "{deletion}");
        let sizes = core.queue.sizes();
        assert_eq!((sizes.unschedulable, sizes.backoff), if waits { (1, 0) } else { (0, 1) }, "{deletion}");
    }

    #[tokio::test]
    async fn a_preemptor_waits_only_for_victims_that_end() {
        check("200 OK", true).await;
        check("404 Not Found", true).await;
        check("403 Forbidden", false).await;
    }
}
