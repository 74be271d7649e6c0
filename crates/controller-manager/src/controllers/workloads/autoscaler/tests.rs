use std::sync::Arc;

use controllers::views::Pod;
use jiff::{SignedDuration, Timestamp};
use machinery::quantity::Quantity;
use serde_json::{Value, json};

use super::behavior::{Bounds, Memory};
use super::calculate::{
    Input, Proposal, Sample, Samples, Tolerances, by_average, by_share, by_utilization, by_value, thousandths,
};
use super::view::{Autoscaler, Status};

const TOLERANCES: Tolerances = Tolerances { down: 0.1, up: 0.1 };

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn pod(name: &str, phase: &str, ready: bool, request: &str) -> Arc<Pod> {
    let ready = json!({
        "type": "Ready", "status": if ready { "True" } else { "False" },
        "lastTransitionTime": "2026-01-01T10:01:00Z",
    });
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": request}}}]},
        "status": {"phase": phase, "startTime": "2026-01-01T10:00:00Z", "conditions": [ready]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn running(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|index| pod(&format!("p{index}"), "Running", true, "1")).collect()
}

fn samples(values: &[i64]) -> Samples {
    let sample = |value| Sample { value, time: now(), window: SignedDuration::from_mins(1) };
    values.iter().enumerate().map(|(index, value)| (format!("p{index}"), sample(*value))).collect()
}

fn input(pods: &[Arc<Pod>], current: i32) -> Input<'_> {
    Input {
        pods,
        current,
        tolerances: TOLERANCES,
        initialization: SignedDuration::from_mins(5),
        readiness_delay: SignedDuration::from_secs(30),
        now: now(),
    }
}

/// The cases of upstream's tests of its calculator.
#[test]
fn utilizations() {
    let check = |pods: &[Arc<Pod>], values: &[i64], target, expect: i32, utilization, usage| {
        let current = i32::try_from(pods.len()).unwrap();
        let proposal = by_utilization(&input(pods, current), samples(values), "cpu", "", target).unwrap();
        assert_eq!(proposal, Proposal { replicas: expect, utilization: Some(utilization), usage });
    };
    check(&running(3), &[300, 500, 700], 30, 5, 50, 500);
    check(&running(5), &[100, 300, 500, 250, 250], 50, 3, 28, 280);
    // Within the tolerance.
    check(&running(3), &[1010, 1030, 1020], 100, 3, 102, 1020);
    // One is not seen: it may use as much as it requests, or nothing.
    check(&running(4), &[400, 200, 300], 100, 2, 30, 300);
    check(&running(3), &[300, 950], 30, 5, 62, 625);
    // One has not started: it uses nothing yet.
    let mut pods = running(2);
    pods.insert(0, pod("p2", "Pending", false, "1"));
    check(&pods, &[500, 700], 30, 4, 60, 600);
    // Failed pods do not count.
    let mut pods = running(2);
    pods.push(pod("p2", "Failed", false, "1"));
    check(&pods, &[500, 700], 30, 4, 60, 600);
}

#[test]
fn what_cannot_be_calculated() {
    let fails = |pods: &[Arc<Pod>], values: &[i64], container: &str| {
        by_utilization(&input(pods, 1), samples(values), "cpu", container, 50).unwrap_err()
    };
    assert_eq!(fails(&[], &[1], ""), "no pods returned by selector while calculating replica count");
    assert_eq!(
        fails(&running(1), &[], ""),
        "did not receive metrics for targeted pods (pods might be unready)"
    );
    assert_eq!(fails(&running(1), &[1], "d"), "container d not found in Pod p0");
    let pods = [Arc::new(Pod { spec: Default::default(), ..(*running(1)[0]).clone() })];
    assert_eq!(fails(&pods, &[1], ""), "no metrics returned matched known pods");
}

#[test]
fn pods_may_request_as_a_whole() {
    let mut pod = (*running(1)[0]).clone();
    pod.spec.resources = serde_json::from_value(json!({"requests": {"cpu": "500m"}})).unwrap();
    let proposal = by_utilization(&input(&[Arc::new(pod)], 1), samples(&[500]), "cpu", "", 50).unwrap();
    assert_eq!((proposal.replicas, proposal.utilization), (2, Some(100)));
}

#[test]
fn averages_values_and_shares() {
    let proposal = by_average(&input(&running(3), 3), samples(&[20000, 10000, 30000]), "", 15000).unwrap();
    assert_eq!(proposal, Proposal { replicas: 4, utilization: None, usage: 20000 });
    assert_eq!(by_value(&input(&running(3), 3), 20000, 15000), Ok(4));
    assert_eq!(by_value(&input(&[], 0), 20000, 15000), Ok(2));
    assert_eq!(by_share(3, TOLERANCES, 8600, 2150), (4, 2867));
    assert_eq!(by_share(4, TOLERANCES, 8600, 2150), (4, 2150));
}

#[test]
fn amounts_too_large_to_count_are_the_largest_that_can_be() {
    let amount = |text: &str| thousandths(&Quantity::parse(text).unwrap());
    assert_eq!([amount("1500m"), amount("10P"), amount("-10P")], [1500, i64::MAX, i64::MIN]);
    // A target that is never reached asks for as few as possible.
    let pods = running(3);
    let few = by_average(&input(&pods, 3), samples(&[500, 500, 500]), "cpu", amount("10P")).unwrap();
    assert_eq!(few.replicas, 1);
    assert_eq!(by_share(3, TOLERANCES, 6000, amount("10P")).0, 1);
    assert_eq!(by_value(&input(&pods, 3), 6000, amount("10P")), Ok(1));
}

fn autoscaler(behavior: Value) -> Autoscaler {
    serde_json::from_value(json!({"spec": {"minReplicas": 2, "maxReplicas": 20, "behavior": behavior}}))
        .unwrap()
}

fn bounds(current: i32, now: Timestamp) -> Bounds {
    Bounds { current, least: 2, most: 20, window: SignedDuration::from_mins(5), now }
}

/// The number written, and the reasons of both conditions.
fn normalized(memory: &mut Memory, of: &Autoscaler, current: i32, desired: i32, at: i64) -> (i32, String) {
    let time = now().checked_add(SignedDuration::from_secs(at)).unwrap();
    let mut status = Status::default();
    memory.begin(current, time);
    let number = memory.normalize(of, &mut status, desired, bounds(current, time));
    let reasons: Vec<&str> = status.conditions.iter().map(|one| one.reason.as_str()).collect();
    (number, reasons.join(" "))
}

#[test]
fn numbers_fall_only_after_a_while() {
    let (of, mut memory) = (autoscaler(Value::Null), Memory::default());
    let mut check = |current, desired, at, expect: (i32, &str)| {
        assert_eq!(normalized(&mut memory, &of, current, desired, at), (expect.0, expect.1.to_owned()));
    };
    check(3, 30, 0, (6, "ReadyForNewScale ScaleUpLimit"));
    check(15, 30, 15, (20, "ReadyForNewScale TooManyReplicas"));
    check(20, 4, 30, (20, "ScaleDownStabilized TooManyReplicas"));
    check(20, 4, 316, (4, "ReadyForNewScale DesiredWithinRange"));
    check(4, 1, 700, (2, "ReadyForNewScale TooFewReplicas"));
}

#[test]
fn policies_bound_the_rate() {
    let policy = |kind: &str, value: i32| json!({"type": kind, "value": value, "periodSeconds": 60});
    let rules = |policies: Value| json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": policies});
    let of = autoscaler(json!({
        "scaleUp": rules(json!([policy("Pods", 4), policy("Percent", 100)])),
        "scaleDown": rules(json!([policy("Pods", 1)])),
    }));
    let mut memory = Memory::default();
    assert_eq!(normalized(&mut memory, &of, 3, 20, 0), (7, "ReadyForNewScale ScaleUpLimit".to_owned()));
    memory.scaled(&of, 3, 7, now());
    // Within the same minute no more than that is added.
    assert_eq!(normalized(&mut memory, &of, 7, 20, 30), (7, "ReadyForNewScale ScaleUpLimit".to_owned()));
    assert_eq!(normalized(&mut memory, &of, 7, 20, 61), (14, "ReadyForNewScale ScaleUpLimit".to_owned()));
    let mut memory = Memory::default();
    assert_eq!(normalized(&mut memory, &of, 9, 3, 0), (8, "ReadyForNewScale ScaleDownLimit".to_owned()));
    let off = autoscaler(json!({
        "scaleUp": rules(json!([policy("Pods", 4)])),
        "scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0},
    }));
    assert_eq!(normalized(&mut memory, &off, 9, 3, 1), (9, "ReadyForNewScale ScaleDownLimit".to_owned()));
}
