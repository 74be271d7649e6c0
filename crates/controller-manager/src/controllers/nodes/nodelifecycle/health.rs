//! When a node was last heard of. Only changes count, seen by our own clock: what the node's clock says may be wrong.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use controllers::views::{Condition, Lease, Node};

pub(super) struct Health {
    pub(super) uid: String,
    heartbeat: Option<Time>,
    renewed: Option<MicroTime>,
    heard: Instant,
    /// Was silent for too long when last looked at.
    pub(super) silent: bool,
    /// Its silence has been reported.
    reported: bool,
    /// Its pods are still to be marked as not ready.
    pub(super) owes_marks: bool,
}

impl Health {
    /// Only a monitor such as this one makes readiness unknown: one before us may have ended between that and marking
    /// the node's pods.
    pub(super) fn new(node: &Node, lease: Option<&Lease>, now: Instant) -> Health {
        let ready = Condition::find(&node.status.conditions, "Ready");
        Health {
            uid: node.metadata.uid.to_string(),
            heartbeat: heartbeat(node),
            renewed: renewal(lease),
            heard: now,
            silent: false,
            reported: false,
            owes_marks: ready.is_some_and(|condition| condition.status == "Unknown"),
        }
    }

    pub(super) fn observe(&mut self, node: &Node, lease: Option<&Lease>, now: Instant) {
        if self.is_news(node, lease) {
            self.heard = now;
            (self.reported, self.owes_marks) = (false, false);
        }
        self.heartbeat = heartbeat(node);
        self.renewed = renewal(lease).or(self.renewed.take());
    }

    /// Whether this shows that the node has been alive since the last observation.
    pub(super) fn is_news(&self, node: &Node, lease: Option<&Lease>) -> bool {
        let renewed = renewal(lease);
        heartbeat(node) != self.heartbeat || (renewed.is_some() && renewed != self.renewed)
    }

    /// The silence up to now is not the node's.
    pub(super) fn excuse(&mut self, now: Instant) {
        (self.heard, self.silent) = (now, false);
    }

    pub(super) fn is_silent(&mut self, grace: Duration, now: Instant) -> bool {
        self.silent = now.duration_since(self.heard) > grace;
        self.silent
    }

    /// Whether it is by its silence alone that a node is not ready, seen for the first time. What a kubelet says of its
    /// node itself, it says of its pods, too.
    pub(super) fn falls_silent(&mut self, node: &Node) -> bool {
        let falls = node.is_ready() && !self.reported;
        self.reported |= falls;
        self.owes_marks |= falls;
        falls
    }
}

/// Our own verdict changes the transition time, which is no sign of life.
fn heartbeat(node: &Node) -> Option<Time> {
    Condition::find(&node.status.conditions, "Ready")?.last_heartbeat_time.clone()
}

fn renewal(lease: Option<&Lease>) -> Option<MicroTime> {
    lease?.spec.renew_time.clone()
}

/// The conditions of a silent node that have to change.
pub(super) fn unknown(node: &Node, now: jiff::Timestamp) -> Vec<Condition> {
    let mut wanted = Vec::new();
    for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let base = match Condition::find(&node.status.conditions, type_) {
            Some(present) if present.status == "Unknown" => continue,
            Some(present) => Condition {
                reason: "NodeStatusUnknown".to_owned(),
                message: "Kubelet stopped posting node status.".to_owned(),
                ..present.clone()
            },
            None => Condition {
                type_: type_.to_owned(),
                reason: "NodeStatusNeverUpdated".to_owned(),
                message: "Kubelet never posted node status.".to_owned(),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                ..Default::default()
            },
        };
        wanted.push(Condition {
            status: "Unknown".to_owned(),
            last_transition_time: Some(Time(now)),
            ..base
        });
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(heartbeat: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}]}}))
        .unwrap()
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({"spec": {"renewTime": renewed}})).unwrap()
    }

    #[test]
    fn leases_and_heartbeats_are_signs_of_life() {
        let grace = Duration::from_secs(50);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = node("2026-01-01T00:00:00Z");
        let mut health = Health::new(&first, None, start);
        health.observe(&first, None, start);
        health.observe(&first, None, at(40));
        assert!(!health.is_silent(grace, at(40)));
        assert!(health.is_silent(grace, at(51)));
        health.observe(&first, Some(&lease("2026-01-01T00:00:00.000000Z")), at(60));
        assert!(!health.is_silent(grace, at(100)));
        health.observe(&first, Some(&lease("2026-01-01T00:00:00.000000Z")), at(111));
        assert!(health.is_silent(grace, at(111)));
        health.observe(&node("2026-01-01T00:01:00Z"), None, at(120));
        assert!(!health.is_silent(grace, at(121)));
    }

    #[test]
    fn a_node_is_not_blamed_for_a_silence_that_was_ours() {
        let (grace, start) = (Duration::from_secs(50), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = node("2026-01-01T00:00:00Z");
        let mut health = Health::new(&first, None, start);
        assert!(health.is_silent(grace, at(60)) && health.silent);
        assert!(!health.is_news(&first, None) && health.is_news(&node("2026-01-01T00:01:00Z"), None));
        health.excuse(at(60));
        assert!(!health.silent && !health.is_silent(grace, at(100)));
        assert!(health.is_silent(grace, at(111)));
    }

    #[test]
    fn all_conditions_become_unknown_once() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let mut node = node("2026-01-01T00:00:00Z");
        let wanted = unknown(&node, now);
        let reasons: Vec<_> = wanted.iter().map(|condition| condition.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "NodeStatusUnknown",
                "NodeStatusNeverUpdated",
                "NodeStatusNeverUpdated",
                "NodeStatusNeverUpdated"
            ]
        );
        node.status.conditions = wanted;
        assert!(unknown(&node, now).is_empty());
    }

    #[test]
    fn pods_are_marked_for_a_silence_and_for_nothing_else() {
        let (grace, start) = (Duration::from_secs(50), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (ready, mut not_ready) = (node("2026-01-01T00:00:00Z"), node("2026-01-01T00:00:01Z"));
        not_ready.status.conditions[0].status = "False".to_owned();
        let mut health = Health::new(&ready, None, start);
        health.observe(&ready, None, start);
        assert!(!health.is_silent(grace, at(10)));
        assert!(health.is_silent(grace, at(60)));
        assert!(health.falls_silent(&ready) && health.owes_marks);
        assert!(!health.falls_silent(&ready), "reported once");
        // It is heard of again: not ready, by its own account, before it falls silent once more.
        health.observe(&not_ready, None, at(70));
        assert!(!health.is_silent(grace, at(70)) && !health.owes_marks);
        assert!(health.is_silent(grace, at(130)));
        assert!(!health.falls_silent(&not_ready) && !health.owes_marks);
    }

    #[test]
    fn a_new_leader_marks_the_pods_that_the_one_before_left() {
        let start = Instant::now();
        let mut gone = node("2026-01-01T00:00:00Z");
        gone.status.conditions[0].status = "Unknown".to_owned();
        let mut health = Health::new(&gone, None, start);
        health.observe(&gone, None, start);
        assert!(health.owes_marks);
        health.observe(&gone, Some(&lease("2026-01-01T00:00:00.000000Z")), start);
        assert!(!health.owes_marks, "it is back");
        assert!(!Health::new(&node("2026-01-01T00:00:00Z"), None, start).owes_marks);
    }
}
