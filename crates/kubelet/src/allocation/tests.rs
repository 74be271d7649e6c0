//! Tables over allocations, and their restart.

use super::*;
use crate::allocation::resize::turn;
use crate::runtime::Container as Instance;
use serde_json::json;

fn pod(cpu: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"uid": "u", "generation": 2},
        "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}, {"name": "b"}]}
    }))
    .unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_second(100).unwrap()
}

#[tokio::test]
async fn what_was_allocated_outlives_the_kubelet() {
    let folder = tempfile::tempdir().unwrap();
    let first = Allocations::open(folder.path()).unwrap();
    first.admit(&pod("100m"));
    first.begin(&pod("100m"));
    first.save().await.unwrap();
    drop(first);
    let next = Allocations::open(folder.path()).unwrap();
    next.admit(&pod("2"));
    assert!(next.differs(&pod("2")) && !next.differs(&pod("0.1")), "the same amount");
    assert_eq!(next.apply(&pod("2")).into_owned(), pod("100m"));
    next.retain(|_| false);
    assert!(!next.differs(&pod("2")));
}

#[test]
fn a_resize_is_under_way_until_running_containers_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let all = Allocations::open(folder.path()).unwrap();
    let runtime = |state| RuntimePod {
        containers: vec![Instance { name: "a".into(), state, ..Default::default() }],
        ..Default::default()
    };
    all.admit(&pod("1"));
    all.begin(&pod("1"));
    let progress = |all: &Allocations, state| {
        (all.progress(&pod("2"), &runtime(state), now()), all.conditions("u").len())
    };
    assert_eq!(progress(&all, Run::Running), (None, 0));
    all.allocate(&pod("2"));
    assert_eq!(progress(&all, Run::Running), (None, 1));
    assert_eq!(all.taken(&pod("500m")).into_owned(), pod("2"));
    assert_eq!(progress(&all, Run::Exited), (Some(2), 0), "it starts with it");
    all.set_actuated("u", "a", PodResources::of(&pod("4")).size("a"));
    assert_eq!(progress(&all, Run::Running), (None, 1));
    assert_eq!(all.taken(&pod("2")).into_owned(), pod("4"), "it still has that much");
    all.set_actuated("u", "a", PodResources::of(&pod("2")).size("a"));
    assert_eq!(progress(&all, Run::Running), (Some(2), 0));
}

#[test]
fn containers_without_limits_have_the_pods() {
    let pod: Pod = serde_json::from_value(json!({"spec": {
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"memory": "1Mi"}},
        "containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1m"}}}]
    }}))
    .unwrap();
    let size = Size { memory_limit: 1 << 30, memory_request: 0, cpu_limit: 1000, cpu_request: 1 };
    assert_eq!(PodResources::of(&pod).size("a"), size);
    let effective = PodResources::effective(&pod);
    assert_eq!((effective.size("a"), effective.pod_size().memory_request), (size, 1 << 20));
    let shown = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1m"}});
    assert_eq!(json!(effective.container_resources["a"]), shown);
}

#[test]
fn conditions_say_since_when_and_why() {
    let mut conditions = Conditions::default();
    let at = |second| Timestamp::from_second(second).unwrap();
    assert!(conditions.hold_back("Deferred", "m", 1, at(1)));
    assert!(!conditions.hold_back("Deferred", "n", 1, at(2)), "no news, though the figures differ");
    assert!(conditions.hold_back("Deferred", "n", 2, at(3)));
    assert_eq!(conditions.pending_since(), Some(at(1)));
    conditions.begin(2, at(4));
    conditions.go_on(3, at(5));
    assert_eq!(conditions.fail("why", 3, at(6)), Some(2), "the generation it began with");
    assert_eq!(conditions.fail("why", 3, at(7)), None);
    let pod: Pod = serde_json::from_value(json!({"status": {"conditions": conditions.list()}})).unwrap();
    assert_eq!(Conditions::reported(&pod, at(7)), {
        let mut same = conditions.clone();
        same.hold_back("Deferred", "n", 2, at(7));
        same
    });
    let shown = json!(conditions.list());
    assert_eq!(
        shown[1],
        json!({"type": "PodResizeInProgress", "status": "True", "reason": "Error", "message": "why",
            "lastProbeTime": "1970-01-01T00:00:07Z", "lastTransitionTime": "1970-01-01T00:00:06Z", "observedGeneration": 2})
    );
    assert_eq!(conditions.complete(), Some(2));
}

#[test]
fn who_is_given_room_first() {
    let of = |priority: i32, class: &str, cpu: &str| -> Pod {
        let mut pod = pod(cpu);
        pod.spec.as_mut().unwrap().priority = Some(priority);
        pod.status = serde_json::from_value(json!({"qosClass": class})).unwrap();
        pod
    };
    let allocated = pod("1");
    let since = |second| Some(Timestamp::from_second(second).unwrap());
    let turns = [
        turn(&of(0, "Burstable", "500m"), &allocated, since(9)),
        turn(&of(9, "Burstable", "2"), &allocated, since(9)),
        turn(&of(0, "Guaranteed", "2"), &allocated, since(9)),
        turn(&of(0, "Burstable", "2"), &allocated, since(1)),
        turn(&of(0, "Burstable", "2"), &allocated, since(2)),
        turn(&of(0, "Burstable", "2"), &allocated, None),
    ];
    assert!(turns.is_sorted(), "{turns:?}");
}
