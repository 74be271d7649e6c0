use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{Action, Input, Plan, plan};
use controllers::views::{Condition, Deployment, ReplicaSet};

fn now() -> jiff::Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(replicas: i32, change: Value) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "template": template("new"),
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        },
    });
    json_patch::merge(&mut object, &change);
    serde_json::from_value(object).unwrap()
}

/// A replica set of `image`, asked for `replicas` of which `available` are.
fn set(image: &str, revision: i32, replicas: i32, available: i32, size: i32) -> ReplicaSet {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = image.into();
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("web-{image}"),
            "uid": image,
            "creationTimestamp": format!("2026-01-01T00:0{revision}:00Z"),
            "annotations": {
                "deployment.kubernetes.io/revision": revision.to_string(),
                "deployment.kubernetes.io/desired-replicas": size.to_string(),
                "deployment.kubernetes.io/max-replicas": (size + size.div_ceil_by(4)).to_string(),
            },
        },
        "spec": {"replicas": replicas, "template": template},
        "status": {"replicas": replicas, "availableReplicas": available, "readyReplicas": available},
    }))
    .unwrap()
}

trait DivCeil {
    fn div_ceil_by(self, by: i32) -> i32;
}

impl DivCeil for i32 {
    fn div_ceil_by(self, by: i32) -> i32 {
        (self + by - 1) / by
    }
}

fn shared(sets: &[ReplicaSet]) -> Vec<Arc<ReplicaSet>> {
    sets.iter().cloned().map(Arc::new).collect()
}

fn planned(deployment: &Deployment, sets: &[ReplicaSet]) -> Plan {
    plan(&Input { deployment, sets: &shared(sets), has_running_pods: &|_| false, now: now() })
}

/// Names and new sizes of what a plan resizes.
fn sizes(plan: &Plan) -> Vec<(String, i32)> {
    let size = |action: &Action| match action {
        Action::Update { name, from, to, .. } if from != to => Some((name.clone(), *to)),
        Action::Create { replicas, .. } => Some(("new".to_owned(), *replicas)),
        _ => None,
    };
    plan.actions.iter().filter_map(size).collect()
}

fn check(deployment: &Deployment, sets: &[ReplicaSet], expect: &[(&str, i32)]) {
    let expect: Vec<_> = expect.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
    assert_eq!(sizes(&planned(deployment, sets)), expect);
}

#[test]
fn first_rollout() {
    let deployment = deployment(3, json!({}));
    let plan = planned(&deployment, &[]);
    assert_eq!(sizes(&plan), [("new".to_owned(), 3)]);
    assert_eq!(plan.revision.as_deref(), Some("1"));
    let progressing = Condition::find(&plan.status.conditions, "Progressing").unwrap();
    assert_eq!(progressing.reason, "NewReplicaSetCreated");
    assert_eq!(plan.status.unavailable_replicas, 3);
}

#[test]
fn rolling_steps() {
    let four = deployment(4, json!({}));
    // One above, then as many old ones go as leaves three available.
    check(&four, &[set("old", 1, 4, 4, 4)], &[("new", 1)]);
    check(&four, &[set("old", 1, 4, 4, 4), set("new", 2, 1, 0, 4)], &[("web-old", 3)]);
    check(&four, &[set("old", 1, 3, 3, 4), set("new", 2, 1, 0, 4)], &[("web-new", 2)]);
    check(&four, &[set("old", 1, 3, 3, 4), set("new", 2, 2, 1, 4)], &[("web-old", 2)]);
    check(&four, &[set("old", 1, 0, 0, 4), set("new", 2, 4, 4, 4)], &[]);
    // Pods of the old set that never worked go first.
    check(&four, &[set("old", 1, 4, 2, 4), set("new", 2, 1, 0, 4)], &[("web-old", 3)]);
    check(&four, &[set("old", 1, 4, 0, 4), set("new", 2, 1, 1, 4)], &[("web-old", 2)]);
}

/// A set that was just made smaller still reports the pods that are about to go.
#[test]
fn pods_that_go_are_not_counted_on() {
    let limits = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}});
    let three = deployment(3, limits);
    let reports = |mut set: ReplicaSet, available| {
        set.status.available_replicas = available;
        set
    };
    let old = reports(set("old", 1, 3, 3, 3), 6);
    check(&three, &[old, set("new", 2, 0, 0, 3)], &[("web-old", 2)]);
    let new = reports(set("new", 2, 1, 1, 3), 3);
    check(&three, &[set("old", 1, 2, 2, 3), new], &[("web-old", 1)]);
}

#[test]
fn nothing_unavailable_and_no_surge_still_moves() {
    let limits = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}});
    check(&deployment(1, limits), &[set("old", 1, 1, 1, 1), set("new", 2, 0, 0, 1)], &[("web-old", 0)]);
}

#[test]
fn resizing_in_the_middle_is_proportional() {
    let ten = deployment(10, json!({}));
    let sets = [set("old", 1, 3, 3, 4), set("new", 2, 2, 2, 4)];
    // From 5 to at most 13.
    check(&ten, &sets, &[("web-old", 8), ("web-new", 5)]);
    check(&deployment(10, json!({})), &[set("new", 1, 4, 4, 4)], &[("web-new", 10)]);
    check(&deployment(0, json!({})), &sets, &[("web-old", 0), ("web-new", 0)]);
}

#[test]
fn recreating_waits_for_old_pods() {
    let change = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let deployment = deployment(3, change);
    check(&deployment, &[set("old", 1, 3, 3, 3)], &[("web-old", 0)]);
    let sets = [set("old", 1, 0, 0, 3)];
    let waiting = plan(&Input {
        deployment: &deployment,
        sets: &shared(&sets),
        has_running_pods: &|_| true,
        now: now(),
    });
    assert!(waiting.actions.is_empty());
    check(&deployment, &sets, &[("new", 3)]);
}

#[test]
fn recreating_waits_for_what_old_sets_report() {
    let change = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let mut old = set("old", 1, 0, 0, 3);
    old.status.replicas = 1;
    check(&deployment(3, change), &[old], &[]);
}

#[test]
fn rollbacks() {
    let to = |revision: &str| {
        let annotations = json!({"deprecated.deployment.rollback.to": revision, "note": "new"});
        deployment(3, json!({"metadata": {"annotations": annotations}}))
    };
    let mut old = set("old", 1, 0, 0, 3);
    old.metadata.annotations.insert("note".into(), "old".into());
    let sets = [old, set("new", 2, 3, 3, 3)];
    let check = |revision: &str, sets: &[ReplicaSet], image: Option<&str>, note: &str, message: &str| {
        let plan = planned(&to(revision), sets);
        let Some(Action::Rollback(rollback)) = plan.actions.last() else { panic!("{:?}", plan.actions) };
        let found =
            rollback.template.as_ref().map(|template| template["spec"]["containers"][0]["image"].clone());
        assert_eq!(found, image.map(Value::from));
        assert_eq!(rollback.annotations, [("note".to_owned(), note.to_owned())].into());
        assert_eq!(rollback.event.2, message);
        assert!(
            rollback.template.iter().all(|template| template["metadata"]["labels"] == json!({"app": "web"}))
        );
    };
    check("0", &sets, Some("old"), "old", "Rolled back deployment \"web\" to revision 1");
    check("1", &sets, Some("old"), "old", "Rolled back deployment \"web\" to revision 1");
    check("7", &sets, None, "new", "Unable to find the revision to rollback to.");
    check("0", &sets[1..], None, "new", "Unable to find last revision.");
    let same = "The rollback revision contains the same template as current deployment \"web\"";
    check("2", &sets, None, "new", same);
    let nothing = planned(&to("x"), &sets).actions;
    assert!(!nothing.iter().any(|action| matches!(action, Action::Rollback(_))), "{nothing:?}");
}

#[test]
fn names_of_sets_are_cut_before_the_hash() {
    let mut long = deployment(1, json!({}));
    long.metadata.name = "w".repeat(253);
    let plan = planned(&long, &[]);
    let [Action::Create { name, hash, .. }] = &plan.actions[..] else { panic!("{:?}", plan.actions) };
    assert!(name.len() == 253 && name.ends_with(&format!("w-{hash}")));
}

#[test]
fn paused_does_not_roll_but_resizes() {
    let paused = deployment(5, json!({"spec": {"paused": true}}));
    let plan = planned(&paused, &[set("old", 1, 4, 4, 4)]);
    assert_eq!(sizes(&plan), [("web-old".to_owned(), 5)]);
    assert_eq!(Condition::find(&plan.status.conditions, "Progressing").unwrap().reason, "DeploymentPaused");
}

#[test]
fn a_set_made_by_another_hash_is_taken_over() {
    let deployment = deployment(3, json!({}));
    let plan = planned(&deployment, &[set("new", 7, 3, 3, 3)]);
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    assert_eq!(plan.revision.as_deref(), Some("7"));
}

#[test]
fn progress_conditions() {
    let reason = |deployment: &Deployment, sets: &[ReplicaSet]| {
        let plan = planned(deployment, sets);
        let condition = Condition::find(&plan.status.conditions, "Progressing").unwrap().clone();
        (condition.reason, condition.status)
    };
    let started = |at: &str, reason: &str| {
        deployment(
            3,
            json!({"status": {"replicas": 3, "updatedReplicas": 3, "observedGeneration": 1, "conditions": [
                {"type": "Progressing", "status": "True", "reason": reason, "lastUpdateTime": at}]}}),
        )
    };
    let stuck = [set("new", 1, 3, 0, 3)];
    let own = |reason: &str, status: &str| (reason.to_owned(), status.to_owned());
    let old = started("2026-01-01T00:10:00Z", "ReplicaSetUpdated");
    assert_eq!(reason(&old, &stuck), own("ProgressDeadlineExceeded", "False"));
    let recent = started("2026-01-01T00:59:00Z", "ReplicaSetUpdated");
    assert_eq!(reason(&recent, &stuck), own("ReplicaSetUpdated", "True"));
    assert_eq!(planned(&recent, &stuck).again, Some(541));
    assert_eq!(reason(&recent, &[set("new", 1, 3, 3, 3)]), own("NewReplicaSetAvailable", "True"));
    assert_eq!(reason(&recent, &[set("new", 1, 3, 2, 3)]), own("ReplicaSetUpdated", "True"));
}

#[test]
fn history_is_limited() {
    let change = json!({
        "spec": {"revisionHistoryLimit": 1},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1},
    });
    let sets = [set("a", 1, 0, 0, 1), set("b", 2, 0, 0, 1), set("new", 3, 1, 1, 1)];
    let plan = planned(&deployment(1, change), &sets);
    assert_eq!(plan.actions, [Action::Delete { name: "web-a".into() }]);
}
