//! What the user sees: events, the `PodScheduled` condition, victims' ends.

use client::{DeleteOptions, EventType, Patch, Report};
use serde_json::json;

use super::Scheduler;
use crate::cluster::{Pod, Symbol};
use crate::metrics;
use crate::plugins::Victims;

/// The longest note an event may have.
const NOTE: usize = 1024;

impl Scheduler {
    fn event(&self, pod: &Pod, kind: EventType, reason: &str, action: &str, note: &str, by: Symbol) {
        let Some(recorder) = self.recorders.get(&by) else { return };
        let mut note = note.to_string();
        if note.len() > NOTE {
            note.truncate(note.floor_char_boundary(NOTE - 4));
            note.push_str(" ...");
        }
        recorder.report(Report {
            regarding: pod.reference(),
            related: None,
            kind,
            reason: reason.into(),
            action: action.into(),
            message: note,
            annotations: Vec::new(),
        });
    }

    pub(super) fn tell_scheduled(&self, pod: &Pod, node: Symbol) {
        let note = format!("Successfully assigned {} to {node}", pod.key);
        self.event(pod, EventType::Normal, "Scheduled", "Binding", &note, pod.scheduler);
    }

    /// Tells why the pod waits, and makes place for it where that was found.
    pub(super) async fn unschedulable(
        &self,
        pod: &Pod,
        reason: &str,
        message: &str,
        victims: Option<Victims>,
    ) {
        self.event(pod, EventType::Warning, "FailedScheduling", "Scheduling", message, pod.scheduler);
        let told = pod.condition.as_ref().is_some_and(|condition| condition.1 == message);
        if !told || victims.is_some() {
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
        if let Some(victims) = victims
            && self.preempt(pod, &victims).await.is_err()
        {
            // Null takes the field away. The cache may tell of the nomination later than this, and then of its end.
            self.patch_status(pod, json!({"nominatedNodeName": null})).await;
            self.core.lock().preemption_failed(pod, self.now());
            self.wake.notify_one();
        }
    }

    /// Deletes victims up to the first that cannot be; one that is gone needs no deletion.
    async fn preempt(&self, pod: &Pod, victims: &Victims) -> Result<(), client::Error> {
        metrics::PREEMPTIONS.with(&[]).inc();
        metrics::VICTIMS.observe(victims.pods.len() as f64);
        for victim in victims.pods.iter().filter(|victim| !victim.deleting) {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", pod.scheduler),
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
                    self.event(victim, EventType::Normal, "Preempted", "Preempting", &note, pod.scheduler);
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
