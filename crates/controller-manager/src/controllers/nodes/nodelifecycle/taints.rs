//! The taints that stand for conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use controllers::views::{Condition, Node, Taint};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its value, and the taint that goes with it.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// The node's taints with those of effect `NoSchedule` as its conditions ask, where that is a change.
pub(super) fn no_schedule(node: &Node, now: jiff::Timestamp) -> Option<Vec<Taint>> {
    let holds = |(condition, status, _): &&(&str, &str, &str)| {
        Condition::find(&node.status.conditions, condition).is_some_and(|present| present.status == *status)
    };
    let mut wanted: Vec<&str> = BY_CONDITION.iter().filter(holds).map(|(_, _, taint)| *taint).collect();
    if node.spec.unschedulable {
        wanted.push(UNSCHEDULABLE);
    }
    let ours = |key: &str| key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, taint)| *taint == key);
    replace(&node.spec.taints, "NoSchedule", &ours, &wanted, now)
}

/// The node's taints with those of effect `NoExecute` as its readiness asks, where that is a change.
pub(super) fn no_execute(node: &Node, ready: &str, now: jiff::Timestamp) -> Option<Vec<Taint>> {
    let wanted: &[&str] = match ready {
        "False" => &[NOT_READY],
        "Unknown" => &[UNREACHABLE],
        "True" => &[],
        // A node that has not reported yet is left as it is.
        _ => return None,
    };
    replace(&node.spec.taints, "NoExecute", &|key| key == NOT_READY || key == UNREACHABLE, wanted, now)
}

/// Whether a node gets a first taint that drives pods away, not only another one of them.
pub(super) fn adds_no_execute(present: &[Taint], wanted: &[Taint]) -> bool {
    let driving = |taints: &[Taint]| {
        taints
            .iter()
            .any(|taint| taint.effect == "NoExecute" && (taint.key == NOT_READY || taint.key == UNREACHABLE))
    };
    !driving(present) && driving(wanted)
}

fn replace(
    present: &[Taint],
    effect: &str,
    ours: &dyn Fn(&str) -> bool,
    wanted: &[&str],
    now: jiff::Timestamp,
) -> Option<Vec<Taint>> {
    let mine = |taint: &&Taint| taint.effect == effect && ours(&taint.key);
    let same = present.iter().filter(mine).count() == wanted.len()
        && present.iter().filter(mine).all(|taint| wanted.contains(&taint.key.as_str()));
    if same {
        return None;
    }
    let mut taints: Vec<Taint> = present
        .iter()
        .filter(|taint| !mine(taint) || wanted.contains(&taint.key.as_str()))
        .cloned()
        .collect();
    for key in wanted {
        if !present.iter().any(|taint| mine(&taint) && taint.key == *key) {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                ..Default::default()
            });
        }
    }
    Some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(conditions: Value, taints: Value) -> Node {
        serde_json::from_value(json!({"spec": {"taints": taints}, "status": {"conditions": conditions}}))
            .unwrap()
    }

    #[test]
    fn taints_follow_conditions() {
        let now = jiff::Timestamp::now();
        let keys = |taints: Option<Vec<Taint>>| {
            taints.map(|taints| taints.into_iter().map(|taint| taint.key).collect::<Vec<_>>().join(","))
        };
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let silent =
            json!([{"type": "Ready", "status": "Unknown"}, {"type": "MemoryPressure", "status": "Unknown"}]);
        let own = json!([{"key": "mine", "effect": "NoSchedule"}]);
        let tainted =
            json!([{"key": "mine", "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoSchedule"}]);
        assert_eq!(keys(no_schedule(&node(ready.clone(), own.clone()), now)), None);
        assert_eq!(keys(no_schedule(&node(ready.clone(), tainted.clone()), now)).unwrap(), "mine");
        assert_eq!(
            keys(no_schedule(&node(silent.clone(), tainted), now)).unwrap(),
            format!("mine,{UNREACHABLE}")
        );
        let node = node(silent, own);
        let driven = no_execute(&node, "Unknown", now).unwrap();
        assert!(adds_no_execute(&node.spec.taints, &driven));
        assert_eq!(no_execute(&node, "True", now), None);
    }
}
