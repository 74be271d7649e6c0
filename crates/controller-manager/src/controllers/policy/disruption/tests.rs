use std::sync::Arc;

use controllers::views::{Pod, PodDisruptionBudget};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::{Expected, expected, failed, needs_scale, plan};
use super::stale::left;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    serde_json::from_value(
        json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status}),
    )
    .unwrap()
}

fn pod(name: &str, ready: &str, leaving: bool) -> Arc<Pod> {
    let mut pod =
        json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    if leaving {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[test]
fn how_many_have_to_be_healthy() {
    let check = |spec: Value, scale: i32, healthy: i32, by_scale: bool| {
        let budget = budget(spec.clone(), json!({}));
        assert_eq!(expected(&budget, scale), Expected { pods: scale, healthy }, "{spec}");
        assert_eq!(needs_scale(&budget), by_scale);
    };
    check(json!({"minAvailable": 2}), 5, 2, false);
    check(json!({"minAvailable": "50%"}), 5, 3, true);
    check(json!({"maxUnavailable": 1}), 5, 4, true);
    check(json!({"maxUnavailable": "30%"}), 5, 3, true);
    check(json!({"maxUnavailable": 9}), 5, 0, true);
    check(json!({}), 5, 0, false);
}

#[test]
fn what_may_be_disrupted() {
    let budget_ = budget(
        json!({"minAvailable": 1}),
        json!({"disruptedPods": {
            "granted": "2026-01-01T00:09:00Z", "overdue": "2026-01-01T00:05:00Z", "gone": "2026-01-01T00:09:00Z",
        }}),
    );
    let pods = [
        pod("a", "True", false),
        pod("b", "False", false),
        pod("leaving", "True", true),
        pod("granted", "True", false),
        pod("overdue", "True", false),
    ];
    let plan_ = plan(&budget_, &pods, Expected { pods: 5, healthy: 1 }, now());
    let status = &plan_.status;
    assert_eq!((status.current_healthy, status.disruptions_allowed, status.expected_pods), (2, 1, 5));
    assert_eq!(status.disrupted_pods.keys().collect::<Vec<_>>(), ["granted"]);
    assert_eq!(plan_.overdue[0].metadata.name, "overdue");
    assert_eq!(plan_.again.unwrap().as_secs(), 60);
    assert_eq!(
        (status.conditions[0].reason.as_str(), status.conditions[0].status.as_str()),
        ("SufficientPods", "True")
    );
    let again = plan(
        &PodDisruptionBudget { status: status.clone(), ..budget_ },
        &pods,
        Expected { pods: 5, healthy: 1 },
        now(),
    );
    assert_eq!(again.status, *status, "a second look changes nothing");
    // Without any pods nothing is allowed: the first ones may come before the next look.
    let none = plan(&budget(json!({}), json!({})), &[], Expected { pods: 0, healthy: 0 }, now());
    assert_eq!(
        (none.status.disruptions_allowed, none.status.conditions[0].reason.as_str()),
        (0, "InsufficientPods")
    );
}

#[test]
fn selectors_are_shown_as_upstream_shows_them() {
    let spec = json!({"selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]}});
    let expect = "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:c,Operator:In,Values:[d e],},},}";
    assert_eq!(controllers::selector::printed(budget(spec, json!({})).spec.selector.source()), expect);
}

#[test]
fn a_failure_allows_nothing() {
    let status = failed(&budget(json!({}), json!({"disruptionsAllowed": 2})), "why", now());
    assert_eq!((status.disruptions_allowed, status.conditions[0].message.as_str()), (0, "why"));
}

#[test]
fn announcements_that_did_not_come_true() {
    let check = |reason: &str, since: &str, extra: Value, expect: Option<u64>| {
        let mut pod = json!({"metadata": {}, "status": {"conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": since},
        ]}});
        json_patch::merge(&mut pod, &extra);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(left(&pod, now()).map(|left| left.as_secs()), expect);
    };
    check("EvictionByEvictionAPI", "2026-01-01T00:09:30Z", json!({}), Some(90));
    check("EvictionByEvictionAPI", "2026-01-01T00:01:00Z", json!({}), Some(0));
    check("TerminationByKubelet", "2026-01-01T00:01:00Z", json!({}), None);
    check("PreemptionByScheduler", "2026-01-01T00:01:00Z", json!({"status": {"phase": "Failed"}}), None);
    check(
        "EvictionByEvictionAPI",
        "2026-01-01T00:01:00Z",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:09:30Z"}}),
        None,
    );
}
