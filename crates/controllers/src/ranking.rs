//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use crate::views::{Pod, annotation::DELETION_COST};

/// The `count` pods to delete. `crowd(pod)` is how many related pods share the pod's node.
pub fn choose(
    mut pods: Vec<Arc<Pod>>,
    count: usize,
    crowd: impl Fn(&Pod) -> usize,
    now: jiff::Timestamp,
) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        pods.sort_by(|left, right| before(left, right, &crowd, now));
        pods.truncate(count);
    }
    pods
}

/// `Less` where `left` is to go before `right`.
fn before(left: &Pod, right: &Pod, crowd: &impl Fn(&Pod) -> usize, now: jiff::Timestamp) -> Ordering {
    let phase = |pod: &Pod| match pod.status.phase.as_str() {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let assigned = |pod: &Pod| !pod.spec.node_name.is_empty();
    assigned(left)
        .cmp(&assigned(right))
        .then_with(|| phase(left).cmp(&phase(right)))
        .then_with(|| left.is_ready().cmp(&right.is_ready()))
        .then_with(|| cost(left).cmp(&cost(right)))
        .then_with(|| Reverse(crowd(left)).cmp(&Reverse(crowd(right))))
        .then_with(|| match (left.ready_since(), right.ready_since()) {
            (Some(left), Some(right)) => by_age(left, right, now),
            _ => Ordering::Equal,
        })
        .then_with(|| right.restarts().cmp(&left.restarts()))
        .then_with(|| by_age(left.metadata.created(), right.metadata.created(), now))
        .then_with(|| left.metadata.uid.cmp(&right.metadata.uid))
}

fn cost(pod: &Pod) -> i32 {
    pod.metadata.annotation(DELETION_COST).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Orders the younger first, comparing ages by their powers of two: among pods of about the same
/// age the choice is left to the uid, so that a scale-down does not always take the newest.
fn by_age(left: jiff::Timestamp, right: jiff::Timestamp, now: jiff::Timestamp) -> Ordering {
    let rank = |time: jiff::Timestamp| {
        let age = now.as_second() - time.as_second();
        if age <= 0 { -1 } else { i64::from(age.ilog2()) }
    };
    rank(left).cmp(&rank(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::{ContainerStatus, Meta, PodCondition, PodSpec, PodStatus};
    use client::Text;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn time(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn pod(name: &str) -> Pod {
        let condition = PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(time(1000))),
            ..PodCondition::default()
        };
        Pod {
            metadata: Meta {
                name: name.into(),
                uid: name.into(),
                creation_timestamp: Some(Time(time(1000))),
                ..Default::default()
            },
            spec: PodSpec { node_name: "n".into(), ..Default::default() },
            status: PodStatus { phase: "Running".into(), conditions: vec![condition], ..Default::default() },
        }
    }

    #[test]
    fn the_least_useful_goes_first() {
        let check = |what: &str, change: fn(&mut Pod)| {
            let keep = pod("a");
            let mut gone = pod("b");
            change(&mut gone);
            let chosen = choose(vec![Arc::new(keep), Arc::new(gone)], 1, |_| 0, time(5000));
            assert_eq!(chosen[0].metadata.name, "b", "{what}");
        };
        check("unassigned", |pod| pod.spec.node_name = Text::default());
        check("pending", |pod| pod.status.phase = "Pending".into());
        check("not ready", |pod| pod.status.conditions.clear());
        check("cheap", |pod| {
            pod.metadata.annotations.insert(DELETION_COST.into(), "-1".into());
        });
        check("newly ready", |pod| {
            pod.status.conditions[0].last_transition_time = Some(Time(time(4990)));
        });
        check("restarting", |pod| {
            pod.status.container_statuses.push(ContainerStatus { restart_count: 3, ..Default::default() });
        });
        check("young", |pod| pod.metadata.creation_timestamp = Some(Time(time(4990))));
    }

    #[test]
    fn crowded_nodes_first() {
        let (left, mut right) = (pod("a"), pod("b"));
        right.spec.node_name = "m".into();
        let crowd = |pod: &Pod| if pod.spec.node_name == "m" { 5 } else { 1 };
        let chosen = choose(vec![Arc::new(left), Arc::new(right)], 1, crowd, time(5000));
        assert_eq!(chosen[0].metadata.name, "b");
    }
}
