//! `taint-eviction-controller`: pods leave nodes whose `NoExecute` taints they do not tolerate, or no longer.
//!
//! When a toleration began is read from the taint and the pod, so that a restart does not start it anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Patch, WorkQueue};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Error, NODE_INDEX};
use crate::support::taints::tolerates;
use crate::support::time;
use crate::views::{Node, Object, Pod, Taint, Toleration};

struct Controller {
    client: Client,
    events: EventRecorder,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    queue: WorkQueue<Key>,
    /// Pods that are to go at some time.
    scheduled: Mutex<HashSet<Key>>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("node-controller").await?;
    let events = context.events(&client, "taint-eviction-controller");
    let queue = context.queue("noexec_taint_pod");
    let nodes: Informer<Node> = context.informers.all();
    let pods = context.pods();
    pods.synced().await;
    let (touch, on_node) = (queue.clone(), pods.clone());
    nodes.on_event(move |event| {
        let driving = |node: &Node| no_execute(&node.spec.taints).cloned().collect::<Vec<_>>();
        let new = driving(event.object());
        if new != event.old().map(|old| driving(old)).unwrap_or_default() {
            for pod in on_node.by_index(NODE_INDEX, &event.object().metadata.name) {
                touch.add(Key::new(&pod.metadata.namespace, &pod.metadata.name));
            }
        }
    });
    nodes.synced().await;
    let touch = queue.clone();
    pods.on_keyed_event(move |key, event| {
        let pod = event.object();
        let same = event.old().is_some_and(|old| {
            old.spec.node_name == pod.spec.node_name && old.spec.tolerations == pod.spec.tolerations
        });
        if !pod.spec.node_name.is_empty() && !same && !matches!(event, Event::Deleted(_)) {
            touch.add(key.clone());
        }
    });
    let controller = Arc::new(Controller {
        client,
        events,
        nodes,
        pods,
        queue: queue.clone(),
        scheduled: Mutex::default(),
    });
    context
        .work(queue, 8, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    Ok(())
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
    since: jiff::Timestamp,
    now: jiff::Timestamp,
) -> Verdict {
    let mut deadline: Option<i64> = None;
    for taint in no_execute(taints) {
        let matching: Vec<_> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Verdict::Go;
        }
        // The shortest of the tolerations counts; one without a limit limits nothing.
        let Some(limit) = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let start = taint.time_added.as_ref().map_or(since, |added| added.0.max(since));
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

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let verdict = self.pods.get_key(key).filter(|pod| !pod.metadata.is_deleting()).and_then(|pod| {
            let node = self.nodes.get(None, &pod.spec.node_name)?;
            let now = jiff::Timestamp::now();
            Some((judge(&node.spec.taints, &pod.spec.tolerations, pod.metadata.created(), now), pod))
        });
        let (verdict, pod) = match verdict {
            Some(found) => found,
            None => {
                self.scheduled.lock().remove(key);
                return Ok(());
            }
        };
        match verdict {
            Verdict::Stay => {
                if self.scheduled.lock().remove(key) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.events.event(&pod.reference(), EventType::Normal, "TaintManagerEviction", &message);
                }
                Ok(())
            }
            Verdict::Later(seconds) => {
                self.scheduled.lock().insert(key.clone());
                self.queue.add_after(key.clone(), Duration::from_secs(seconds));
                Ok(())
            }
            Verdict::Go => {
                self.evict(&pod, key).await?;
                self.scheduled.lock().remove(key);
                Ok(())
            }
        }
    }

    async fn evict(&self, pod: &Pod, key: &Key) -> Result<(), Error> {
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
        match self
            .client
            .patch::<Pod>(key.namespace(), &meta.name, Some("status"), Patch::Strategic(patch))
            .await
        {
            Err(error) if error.is_not_found() => return Ok(()),
            result => drop(result?),
        }
        let options = DeleteOptions::default().uid(meta.uid.clone());
        match self.client.delete::<Pod>(key.namespace(), &meta.name, &options).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result?),
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
            assert_eq!(judge(taints, tolerations, at(100), at(200)), expect);
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
    }
}
