use std::collections::BTreeMap;
use std::sync::Arc;

use controllers::views::{DeviceTaintRule, Pod, ResourceClaim, ResourceSlice};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::plan::*;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn slice(name: &str, generation: i64, devices: Value) -> Arc<ResourceSlice> {
    read(json!({"metadata": {"name": name}, "spec": {
        "driver": "d", "pool": {"name": "p", "generation": generation}, "devices": devices,
    }}))
}

fn taint(effect: &str, added: &str) -> Value {
    json!({"key": "broken", "value": "yes", "effect": effect, "timeAdded": added})
}

fn rule(uid: &str, selector: Value, effect: &str) -> Arc<DeviceTaintRule> {
    let spec = json!({"deviceSelector": selector, "taint": taint(effect, "2026-01-01T00:01:00Z")});
    read(json!({"metadata": {"name": uid, "uid": uid, "generation": 1}, "spec": spec}))
}

#[test]
fn only_the_newest_slices_of_a_pool_count() {
    let tainted = json!([{"name": "a", "taints": [taint("NoExecute", "2026-01-01T00:00:00Z")]}]);
    let clean =
        json!([{"name": "a"}, {"name": "b", "taints": [taint("NoSchedule", "2026-01-01T00:00:00Z")]}]);
    let names = |slices: &[Arc<ResourceSlice>]| {
        pool_taints(slices).keys().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let (old, new) = (slice("1", 1, tainted.clone()), slice("2", 2, clean));
    assert_eq!(names(std::slice::from_ref(&old)), ["a"]);
    assert!(names(&[old.clone(), new.clone()]).is_empty());
    assert_eq!(names(&[old, new.clone(), slice("3", 2, tainted)]), ["a"]);
    let taints = pool_taints(&[slice(
        "1",
        1,
        json!([{"name": "a", "taints": [taint("NoExecute", "2026-01-01T00:00:00Z")]}]),
    )]);
    assert_eq!(changed(&BTreeMap::new(), &taints).len(), 1);
    assert!(changed(&taints, &taints).is_empty());
}

#[test]
fn when_pods_go() {
    let pool = Arc::new(pool_taints(&[slice(
        "s",
        1,
        json!([{"name": "bad", "taints": [taint("NoExecute", "2026-01-01T00:00:00Z")]}, {"name": "good"}]),
    )]));
    let check = |device: &str, tolerations: Value, rules: &[Arc<DeviceTaintRule>], expect: &str| {
        let claim: Arc<ResourceClaim> = read(json!({
            "metadata": {"name": "c", "namespace": "n"},
            "status": {
                "allocation": {"devices": {"results": [{"driver": "d", "pool": "p", "device": device, "tolerations": tolerations}]}},
                "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
            },
        }));
        let pod: Pod = read(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"nodeName": "x", "resourceClaims": [{"name": "e", "resourceClaimName": "c"}]},
        }));
        let of_pool = |_: &Pool| Some(pool.clone());
        let taints = Taints { of_pool: &of_pool, rules };
        let eviction = taints.of_pod(&pod, |_| Some(claim.clone()));
        let text = eviction.map(|eviction| {
            let rules: Vec<_> = eviction.rules.iter().map(|rule| rule.to_string()).collect();
            format!("{} {}", eviction.at, rules.join(","))
        });
        assert_eq!(text.unwrap_or_default().trim_end(), expect, "{device} {tolerations}");
        let unbound = Pod { spec: Default::default(), ..pod };
        assert_eq!(taints.of_pod(&unbound, |_| Some(claim.clone())), None);
    };
    let tolerates = |seconds: Value| json!({"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    check("good", json!([]), &[], "");
    check("bad", json!([]), &[], "2026-01-01T00:00:00Z");
    check("bad", json!([tolerates(json!(30)), tolerates(json!(20))]), &[], "2026-01-01T00:00:20Z");
    check("bad", json!([tolerates(json!(30)), tolerates(json!(null))]), &[], "");
    check(
        "bad",
        json!([{"key": "broken", "operator": "Exists", "effect": "NoSchedule"}]),
        &[],
        "2026-01-01T00:00:00Z",
    );
    let all = rule("r", json!({}), "NoExecute");
    check("good", json!([]), std::slice::from_ref(&all), "2026-01-01T00:01:00Z r");
    check("bad", json!([]), &[all], "2026-01-01T00:00:00Z r");
    check("good", json!([]), &[rule("r", json!(null), "NoExecute")], "");
    check("good", json!([]), &[rule("r", json!({"driver": "d", "device": "bad"}), "NoExecute")], "");
}

#[test]
fn what_rules_say() {
    let check = |effect: &str, counts: Counts, expect: (&str, &str, &str)| {
        let condition = condition(&rule("r", json!({}), effect), &counts);
        let found = (condition.status.as_str(), condition.reason.as_str(), condition.message.as_str());
        assert_eq!(found, expect);
        assert_eq!(condition.observed_generation, 1);
    };
    let none = Counts::default();
    check("NoExecute", none, ("False", "NotStarted", ""));
    let one = Counts { pods: 1, namespaces: 1, ..none };
    check("NoExecute", one, ("True", "PodsPendingEviction", "1 pod needs to be evicted in 1 namespace."));
    let some = Counts { pods: 3, namespaces: 2, evicted: 1, ..none };
    let text =
        "3 pods need to be evicted in 2 different namespaces. 1 pod evicted since starting the controller.";
    check("NoExecute", some, ("True", "PodsPendingEviction", text));
    let done = Counts { evicted: 2, ..none };
    check("NoExecute", done, ("False", "Completed", "2 pods evicted since starting the controller."));
    check("NoSchedule", none, ("False", "OtherEffect", "Eviction only happens for the NoExecute effect."));
    let would = Counts { published: 2, allocated: 1, pods: 1, namespaces: 1, evicted: 0 };
    let text = "2 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.";
    check("None", would, ("False", "NoEffect", text));
}
