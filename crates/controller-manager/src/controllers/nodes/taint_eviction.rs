//! `taint-eviction-controller`: pods leave nodes whose `NoExecute` taints they do not tolerate, or no longer.
//!
//! The start of a toleration is read from the taint and the pod, so that a restart does not extend it. A taint without
//! `timeAdded` (`kubectl taint` sets none) counts from when it was first seen with the pod.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Patch, Text};
use controllers::taints::tolerates;
use controllers::views::{Node, Object, Pod, Taint, Toleration};
use controllers::{Context, Error, Next, Pods, Reconcile, time};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde_json::json;

use crate::{Options, metrics};

struct Controller {
    events: EventRecorder,
    nodes: Informer<Node>,
    pods: Pods,
    /// Pods that are to go at some time.
    scheduled: Mutex<FxHashMap<Key, Sightings>>,
}

/// When the taints of a pod's node were first seen with it, for those that do not say when they were added.
#[derive(Clone, Debug, Default)]
struct Sightings {
    pod: Text,
    seen: Vec<(Taint, jiff::Timestamp)>,
}

impl Sightings {
    /// Notes what is new, and forgets what is no longer there.
    fn note(&mut self, pod: &Text, taints: &[Taint], now: jiff::Timestamp) {
        if self.pod != *pod {
            *self = Sightings { pod: pod.clone(), seen: Vec::new() };
        }
        self.seen.retain(|(taint, _)| taints.contains(taint));
        for taint in no_execute(taints).filter(|taint| taint.time_added.is_none()) {
            if !self.seen.iter().any(|(known, _)| known == taint) {
                self.seen.push((taint.clone(), now));
            }
        }
    }

    fn first(&self, taint: &Taint) -> Option<jiff::Timestamp> {
        self.seen.iter().find(|(known, _)| known == taint).map(|(_, first)| *first)
    }
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let mut builder =
        context.builder("noexec_taint_pod", "node-controller", "taint-eviction-controller").await?;
    let controller = Controller {
        events: builder.events.clone(),
        nodes: builder.reads(),
        pods: builder.pods(),
        scheduled: Mutex::default(),
    };
    let (queue, pods) = (builder.queue.clone(), controller.pods.clone());
    controller.nodes.on_event(move |event| {
        let driving = |node: &Node| no_execute(&node.spec.taints).cloned().collect::<Vec<_>>();
        let new = driving(event.object());
        if new != event.old().map(|old| driving(old)).unwrap_or_default() {
            for pod in pods.on_node(&event.object().metadata.name) {
                queue.add(pod.metadata.cache_key());
            }
        }
    });
    let queue = builder.queue.clone();
    controller.pods.cache().on_keyed_event(move |key, event| {
        let pod = event.object();
        let same = event.old().is_some_and(|old| {
            old.spec.node_name == pod.spec.node_name && old.spec.tolerations == pod.spec.tolerations
        });
        if !pod.spec.node_name.is_empty() && !same && !matches!(event, Event::Deleted(_)) {
            queue.add(key.clone());
        }
    });
    builder.run(8, controller).await
}

fn no_execute(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    taints.iter().filter(|taint| taint.effect == "NoExecute")
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Stay,
    Go,
    /// After so many seconds.
    Later(u64),
}

fn judge(
    taints: &[Taint],
    tolerations: &[Toleration],
    sightings: &Sightings,
    assigned: jiff::Timestamp,
    now: jiff::Timestamp,
) -> Verdict {
    let mut deadline: Option<i64> = None;
    for taint in no_execute(taints) {
        // The first that matches counts, whatever others would say.
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Verdict::Go;
        };
        let Some(limit) = toleration.toleration_seconds else { continue };
        let added = taint.time_added.as_ref().map(|added| added.0).or_else(|| sightings.first(taint));
        let start = added.unwrap_or(now).max(assigned);
        let end = start.as_second().saturating_add(limit.max(0));
        deadline = Some(deadline.map_or(end, |known| known.min(end)));
    }
    match deadline.map(|deadline| deadline - now.as_second()) {
        None => Verdict::Stay,
        Some(left) => match u64::try_from(left) {
            Ok(left) if left > 0 => Verdict::Later(left),
            _ => Verdict::Go,
        },
    }
}

/// When a pod that goes was to go.
fn due(nodes: &Informer<Node>, pod: &Pod, sightings: &Sightings) -> Option<jiff::Timestamp> {
    let node = nodes.get(None, &pod.spec.node_name)?;
    let times = no_execute(&node.spec.taints).filter_map(|taint| {
        let added = taint.time_added.as_ref().map(|added| added.0).or_else(|| sightings.first(taint))?;
        let toleration = pod.spec.tolerations.iter().find(|toleration| tolerates(toleration, taint));
        let limit = match toleration {
            None => 0,
            Some(toleration) => toleration.toleration_seconds?.max(0),
        };
        let start = added.max(assigned(pod)).as_second();
        jiff::Timestamp::from_second(start.saturating_add(limit)).ok()
    });
    times.min()
}

/// Since when a pod is on its node.
fn assigned(pod: &Pod) -> jiff::Timestamp {
    let scheduled = pod.condition("PodScheduled").filter(|condition| condition.status == "True");
    let since = scheduled.and_then(|condition| condition.last_transition_time.as_ref());
    since.map_or_else(|| pod.metadata.created(), |since| since.0)
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let mut sightings = self.scheduled.lock().get(key).cloned().unwrap_or_default();
        let verdict =
            self.pods.cache.get_key(key).filter(|pod| !pod.metadata.is_deleting()).and_then(|pod| {
                let node = self.nodes.get(None, &pod.spec.node_name)?;
                let (taints, now) = (&node.spec.taints, jiff::Timestamp::now());
                sightings.note(&pod.metadata.uid, taints, now);
                Some((judge(taints, &pod.spec.tolerations, &sightings, assigned(&pod), now), pod))
            });
        let (verdict, pod) = match verdict {
            Some(found) => found,
            None => {
                self.scheduled.lock().remove(key);
                return Ok(Next::Done);
            }
        };
        match verdict {
            Verdict::Stay => {
                if self.scheduled.lock().remove(key).is_some() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.events.event(&pod.reference(), EventType::Normal, "TaintManagerEviction", &message);
                }
                Ok(Next::Done)
            }
            Verdict::Later(seconds) => {
                self.scheduled.lock().insert(key.clone(), sightings);
                Ok(Next::After(Duration::from_secs(seconds)))
            }
            Verdict::Go => {
                self.evict(client, &pod, key, due(&self.nodes, &pod, &sightings)).await?;
                self.scheduled.lock().remove(key);
                Ok(Next::Done)
            }
        }
    }
}

impl Controller {
    async fn evict(
        &self,
        client: &Client,
        pod: &Pod,
        key: &Key,
        due: Option<jiff::Timestamp>,
    ) -> Result<(), Error> {
        let message = format!("Marking for deletion Pod {key}");
        self.events.event(&pod.reference(), EventType::Normal, "TaintManagerEviction", &message);
        let meta = &pod.metadata;
        let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": time::text(jiff::Timestamp::now()),
        }]}});
        match client.patch::<Pod>(key.namespace(), &meta.name, Some("status"), Patch::Strategic(patch)).await
        {
            Err(error) if error.is_not_found() => return Ok(()),
            result => drop(result?),
        }
        let options = DeleteOptions::default().uid(meta.uid.clone());
        match client.delete::<Pod>(key.namespace(), &meta.name, &options).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => {
                result?;
                let now = jiff::Timestamp::now();
                metrics::pod_evicted(now.duration_since(due.unwrap_or(now)).as_secs_f64().max(0.0));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn verdicts() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let taint = |key: &str, added| Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            time_added: Some(Time(at(added))),
            ..Default::default()
        };
        let toleration = |key: &str, seconds| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            toleration_seconds: seconds,
            ..Default::default()
        };
        let check = |taints: &[Taint], tolerations: &[Toleration], expect| {
            assert_eq!(judge(taints, tolerations, &Sightings::default(), at(100), at(200)), expect);
        };
        check(&[], &[], Verdict::Stay);
        check(&[taint("a", 150)], &[], Verdict::Go);
        check(&[taint("a", 150)], &[toleration("a", None)], Verdict::Stay);
        check(&[taint("a", 150)], &[toleration("a", Some(300))], Verdict::Later(250));
        check(&[taint("a", 50)], &[toleration("a", Some(110))], Verdict::Later(10));
        check(&[taint("a", 150)], &[toleration("a", Some(0))], Verdict::Go);
        check(&[taint("a", 150), taint("b", 150)], &[toleration("a", None)], Verdict::Go);
        check(
            &[taint("a", 150), taint("b", 180)],
            &[toleration("a", Some(300)), toleration("b", Some(60))],
            Verdict::Later(40),
        );
        // The first toleration that matches counts, not the shortest.
        let forever = toleration("", None);
        check(&[taint("a", 150)], &[forever.clone(), toleration("a", Some(10))], Verdict::Stay);
        check(&[taint("a", 150)], &[toleration("a", Some(100)), forever], Verdict::Later(50));
    }

    #[test]
    fn a_taint_without_a_time_counts_from_when_it_was_first_seen() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let taint = |value: &str| Taint {
            key: "k".into(),
            value: value.into(),
            effect: "NoExecute".into(),
            ..Default::default()
        };
        let toleration =
            Toleration { operator: "Exists".into(), toleration_seconds: Some(60), ..Default::default() };
        let mut sightings = Sightings::default();
        let mut judged = |pod: &str, taints: &[Taint], now| {
            sightings.note(&pod.into(), taints, at(now));
            judge(taints, std::slice::from_ref(&toleration), &sightings, at(0), at(now))
        };
        // The pod is a thousand seconds old.
        assert_eq!(judged("p", &[taint("v")], 1000), Verdict::Later(60));
        assert_eq!(judged("p", &[taint("v")], 1050), Verdict::Later(10));
        assert_eq!(judged("p", &[taint("v"), taint("w")], 1055), Verdict::Later(5));
        assert_eq!(judged("p", &[taint("w")], 1061), Verdict::Later(54));
        assert_eq!(judged("p", &[taint("v")], 1062), Verdict::Later(60));
        assert_eq!(judged("p", &[taint("v")], 1122), Verdict::Go);
        assert_eq!(judged("another of that name", &[taint("v")], 1122), Verdict::Later(60));
    }

    #[test]
    fn a_toleration_begins_when_the_pod_comes_to_the_node() {
        let pod = |conditions| -> Pod {
            let metadata = json!({"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": conditions}}))
                .unwrap()
        };
        let check = |conditions, expect: &str| assert_eq!(assigned(&pod(conditions)).to_string(), expect);
        let scheduled = |status| json!([{"type": "PodScheduled", "status": status, "lastTransitionTime": "2026-01-01T00:05:00Z"}]);
        check(scheduled("True"), "2026-01-01T00:05:00Z");
        check(scheduled("False"), "2026-01-01T00:00:00Z");
        check(json!([]), "2026-01-01T00:00:00Z");
    }
}
