//! Devices: which of them a pod's claims get, where the pod goes for them, and what is said when it cannot.

use std::sync::Arc;

use scheduler::cluster::Pod;
use scheduler::cluster::facts::devices::{DeviceClaim, DeviceClass, Slice, TaintRule};
use scheduler::config::Configuration;
use scheduler::core::Attempt;
use scheduler::framework::Remedy;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Result, no, node, pod};

fn object<T: for<'de> Deserialize<'de>>(value: Value) -> Arc<T> {
    Arc::new(T::deserialize(value).unwrap())
}

/// A slice of a pool of one node, with these devices.
fn slice(node: &str, devices: Value) -> Value {
    json!({
        "metadata": {"name": format!("slice-{node}")},
        "spec": {"driver": "gpu.example.com", "nodeName": node, "devices": devices,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}},
    })
}

fn device(name: &str, model: &str) -> Value {
    json!({"name": name, "attributes": {"model": {"string": model}, "driverVersion": {"version": "1.2.3"}},
        "capacity": {"memory": {"value": "16Gi"}}})
}

fn claim(name: &str, requests: Value) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")},
        "spec": {"devices": {"requests": requests}}})
}

fn one(selector: &str) -> Value {
    json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 1,
        "selectors": [{"cel": {"expression": selector}}]}}])
}

fn using(name: &str, claims: &[&str]) -> Arc<Pod> {
    let claims: Vec<Value> =
        claims.iter().map(|claim| json!({"name": claim, "resourceClaimName": claim})).collect();
    pod(name, json!({"spec": {"resourceClaims": claims}}))
}

/// Nodes `a` and `b`, with slices of these devices, and the class `gpu`.
fn cluster(a: Value, b: Value) -> Fixture {
    cluster_with(json!({}), a, b)
}

fn cluster_with(configuration: Value, a: Value, b: Value) -> Fixture {
    let configuration: Configuration = serde_json::from_value(configuration).unwrap();
    let mut fixture = Fixture::with(&configuration, [node("a", "4", json!({})), node("b", "4", json!({}))]);
    for (name, devices) in [("a", a), ("b", b)] {
        fixture.core.set_device_slice(&object::<Slice>(slice(name, devices)), fixture.now);
    }
    let class = json!({"metadata": {"name": "gpu"}, "spec": {
        "selectors": [{"cel": {"expression": "device.driver == \"gpu.example.com\""}}],
        "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"of": "class"}}}]}});
    fixture.core.set_device_class(&object::<DeviceClass>(class), fixture.now);
    fixture
}

fn set(fixture: &mut Fixture, claim: Value) {
    fixture.core.set_device_claim(&object::<DeviceClaim>(claim), fixture.now);
}

fn nowhere(reason: &str) -> Result {
    let preemption = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    no(&format!("0/2 nodes are available: 2 {reason}. {preemption}"))
}

/// Where a pod goes that has a claim with these requests.
fn place(fixture: &mut Fixture, requests: Value) -> Result {
    set(fixture, claim("c", requests));
    fixture.schedule(&using("p", &["c"]))
}

#[test]
fn expressions_select_devices() {
    let check = |selector: &str, expect: Result| {
        let mut fixture = cluster(json!([device("x", "large")]), json!([device("x", "small")]));
        assert_eq!(place(&mut fixture, one(selector)), expect, "{selector}");
    };
    let domain = "device.attributes[\"gpu.example.com\"]";
    check(&format!("{domain}.model == \"small\""), Result::Node("b"));
    check(
        &format!("{domain}.model == \"large\" && {domain}.driverVersion.isGreaterThan(semver(\"1.2.0\"))"),
        Result::Node("a"),
    );
    let memory = "device.capacity[\"gpu.example.com\"].memory.compareTo(quantity(\"16Gi\")) >= 0";
    check(&format!("{memory} && {domain}.model == \"small\""), Result::Node("b"));
    check(
        "device.attributes[\"other.example.com\"].?model.orValue(\"none\") == \"some\"",
        nowhere("cannot allocate all claims"),
    );
    check("\"model\" in device.attributes[\"other.example.com\"]", nowhere("cannot allocate all claims"));
    check(&format!("{domain}.model == \"huge\""), nowhere("cannot allocate all claims"));
}

#[test]
fn a_device_is_of_one_claim() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    for name in ["c", "d"] {
        set(&mut fixture, claim(name, one("true")));
    }
    assert_eq!(fixture.schedule(&using("p", &["c"])), Result::Node("a"));
    assert_eq!(fixture.schedule(&using("q", &["d"])), nowhere("cannot allocate all claims"));
    // Two pods share a claim: the second one waits until it is known what the first got.
    let pending = "0/2 nodes are available: resource claim ns/c is in the process of being allocated. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let shared = fixture.schedule(&using("s", &["c"]));
    assert!(
        matches!(&shared, Result::Message(message) if message.contains("in the process of being allocated")),
        "{shared:?} {pending}"
    );

    // It is not bound in the end.
    assert!(fixture.bind_fails(false));
    fixture.wait(20_000);
    let mut placed = vec![fixture.next(), fixture.next(), fixture.next()];
    placed.retain(|result| *result == Result::Node("a"));
    assert_eq!(placed.len(), 1, "one of them has the device");
}

#[test]
fn an_allocated_claim_draws_its_pods_and_frees_its_devices() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([device("x", "large")]));
    let mut allocated = claim("c", one("true"));
    allocated["status"] = json!({"allocation": {
        "devices": {"results": [{"request": "r", "driver": "gpu.example.com", "pool": "b", "device": "x"}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]},
    }, "reservedFor": [{"resource": "pods", "name": "o", "uid": "uid-o"}]});
    set(&mut fixture, allocated);
    assert_eq!(fixture.schedule(&using("p", &["c"])), Result::Node("b"));
    for name in ["d", "e"] {
        set(&mut fixture, claim(name, one("true")));
    }
    assert_eq!(fixture.schedule(&using("q", &["d"])), Result::Node("a"));
    assert_eq!(fixture.schedule(&using("r", &["e"])), nowhere("cannot allocate all claims"));
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Nothing, "nothing has changed for it");
    set(&mut fixture, claim("c", one("true")));
    assert_eq!(fixture.next(), Result::Node("b"));
}

#[test]
fn claims_that_cannot_be_used() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    let template = json!({"spec": {"resourceClaims": [{"name": "c", "resourceClaimTemplateName": "t"}]}});
    let mut generated = template.clone();
    generated["status"] = json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "c"}]});
    set(&mut fixture, claim("c", one("true")));
    let mut leaving = claim("l", one("true"));
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    set(&mut fixture, leaving);
    for (pod, why) in [
        (using("p", &["none"]), "resourceclaim.resource.k8s.io \"none\" not found"),
        (using("l", &["l"]), "resourceclaim \"l\" is being deleted"),
        (pod("t", template), "pod \"ns/t\": ResourceClaim not created yet"),
        (pod("g", generated.clone()), "ResourceClaim ns/c was not created for Pod ns/g (Pod is not owner)"),
    ] {
        assert_eq!(fixture.schedule(&pod), Result::Nothing, "it is not tried");
        assert_eq!(fixture.core.queue.place_of(&pod.uid), Some("gated"));
        let rejected = fixture.core.explain(&pod).unwrap().rejected.unwrap();
        assert_eq!((rejected.plugin, &*rejected.reasons[0]), ("DynamicResources", why));
    }
    // What each waits for comes.
    set(&mut fixture, claim("none", one("true")));
    assert_eq!(fixture.next(), Result::Node("a"));
    let mut owned = claim("c", one("true"));
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "g", "uid": "uid-g", "controller": true}]);
    owned["status"] = json!({"reservedFor": []});
    set(&mut fixture, owned);
    assert_eq!(fixture.core.queue.place_of("uid-g"), Some("gated"), "its status is as it was");
    generated["metadata"] = json!({"labels": {"is": "new"}});
    assert_eq!(fixture.schedule(&pod("g", generated)), nowhere("cannot allocate all claims"));

    let class = json!([{"name": "r", "exactly": {"deviceClassName": "tpu", "count": 1}}]);
    set(&mut fixture, claim("d", class));
    let preemption = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let why = "request r: device class tpu does not exist";
    let expect = no(&format!("0/2 nodes are available: {why}. {preemption}"));
    assert_eq!(fixture.schedule(&using("q", &["d"])), expect);
}

#[test]
fn a_claim_that_keeps_its_only_pod_from_all_nodes_is_released() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    let mut stuck = claim("c", one("true"));
    stuck["status"] = json!({"allocation": {
        "devices": {"results": [{"request": "r", "driver": "gpu.example.com", "pool": "z", "device": "x"}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["z"]}]}]},
    }, "reservedFor": [{"resource": "pods", "name": "p", "uid": "uid-p"}]});
    set(&mut fixture, stuck.clone());
    let attempt = |fixture: &mut Fixture, name: &str| {
        fixture.add(&using(name, &["c"]));
        match fixture.core.attempt(fixture.now) {
            Some(Attempt::Unschedulable { message, remedy, .. }) => (message, remedy),
            _ => panic!("the pod fits nowhere"),
        }
    };
    let (message, remedy) = attempt(&mut fixture, "p");
    let Some(Remedy::Deallocate(claim)) = remedy else { panic!("{remedy:?}") };
    assert_eq!(&*claim.key.name, "c");
    let preemption = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let expect = format!(
        "0/2 nodes are available: 2 resourceclaim not available on the node. deallocation of ResourceClaim completed, {preemption}"
    );
    assert_eq!(message, expect);
    assert!(attempt(&mut fixture, "q").1.is_none(), "another pod uses it");
    stuck["status"] = json!({});
    set(&mut fixture, stuck);
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Node("a"));
}

#[test]
fn a_claim_has_so_many_users() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    let mut full = claim("c", one("true"));
    let users = (0..256).map(|user| json!({"resource": "pods", "name": "o", "uid": format!("uid-{user}")}));
    let results = json!([{"request": "r", "driver": "gpu.example.com", "pool": "a", "device": "x"}]);
    full["status"] =
        json!({"allocation": {"devices": {"results": results}}, "reservedFor": users.collect::<Vec<_>>()});
    set(&mut fixture, full.clone());
    let preemption = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let expect = no(&format!("0/2 nodes are available: resourceclaim in use. {preemption}"));
    assert_eq!(fixture.schedule(&using("p", &["c"])), expect);
    full["status"]["reservedFor"].as_array_mut().unwrap().pop();
    set(&mut fixture, full);
    fixture.wait(20_000);
    assert!(matches!(fixture.next(), Result::Node(_)));
}

#[test]
fn what_is_wrong_with_a_claim_ends_the_attempt() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([device("x", "large")]));
    let check = |fixture: &mut Fixture, requests: Value, why: &str| {
        set(fixture, claim("c", requests));
        let result = fixture.schedule(&using("p", &["c"]));
        let Result::Message(message) = result else { panic!("{result:?}") };
        let expect = format!("running \"DynamicResources\" filter plugin: {why}");
        assert!(message.starts_with(&expect), "{message}");
        fixture.core.remove_pod(&using("p", &["c"]), fixture.now);
    };
    let on = "claim ns/c: selector #0 on device gpu.example.com/a/x: CEL runtime error: no such key: missing";
    check(&mut fixture, one("device.attributes[\"gpu.example.com\"].missing == 1"), on);
    check(
        &mut fixture,
        one("device.nothing"),
        "claim ns/c: selector #0: CEL compile error: compilation failed: ",
    );
    let many = json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 33}}]);
    let limit = "claim ns/c, request r: adding 33 devices exceeds the claim limit of 32, with 0 already accounted for";
    check(&mut fixture, many, limit);
}

#[test]
fn what_is_written_of_a_claim_holds_until_it_is_seen() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    let at = |version: u64| {
        let mut claim = claim("c", one("true"));
        claim["metadata"]["resourceVersion"] = version.to_string().into();
        claim
    };
    set(&mut fixture, at(1));
    assert_eq!(fixture.schedule(&using("p", &["c"])), Result::Node("a"));
    let claim = object::<DeviceClaim>(at(1));
    fixture.core.table.facts.devices.is_written(&claim, "uid-p", 3);
    fixture.bind_fails(true);
    let is_pending = |fixture: &Fixture| fixture.core.table.facts.devices.is_pending(&claim);
    assert!(is_pending(&fixture), "the device is allocated, whether that is seen or not");
    set(&mut fixture, at(2));
    assert!(is_pending(&fixture));
    // It was allocated and released again in between.
    set(&mut fixture, at(5));
    assert!(!is_pending(&fixture));
}

#[test]
fn the_first_alternative_is_preferred() {
    let alternatives = json!([{"name": "r", "firstAvailable": [
        {"name": "big", "deviceClassName": "gpu", "count": 1, "selectors": [{"cel": {"expression": "device.attributes[\"gpu.example.com\"].model == \"large\""}}]},
        {"name": "few", "deviceClassName": "gpu", "count": 2},
    ]}]);
    let two = json!([device("x", "small"), device("y", "small")]);
    let mut fixture = cluster(two.clone(), json!([device("x", "large")]));
    assert_eq!(place(&mut fixture, alternatives.clone()), Result::Node("b"));
    let mut fixture = cluster(two, json!([device("x", "small")]));
    assert_eq!(place(&mut fixture, alternatives.clone()), Result::Node("a"));
    let mut fixture = cluster(json!([]), json!([device("x", "small")]));
    assert_eq!(place(&mut fixture, alternatives), nowhere("cannot allocate all claims"));
}

#[test]
fn several_devices_may_have_to_agree() {
    let numa = |name: &str, number: i64| json!({"name": name, "attributes": {"numa": {"int": number}}});
    let constrained = |constraint: Value| {
        let mut claim = claim("c", json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 2}}]));
        claim["spec"]["devices"]["constraints"] = json!([constraint]);
        claim
    };
    let place = |constraint: Value, devices: Value| {
        let mut fixture = cluster(devices, json!([]));
        set(&mut fixture, constrained(constraint));
        fixture.schedule(&using("p", &["c"]))
    };
    let same = || json!({"matchAttribute": "gpu.example.com/numa"});
    let other = || json!({"distinctAttribute": "gpu.example.com/numa"});
    let spread = json!([numa("x", 0), numa("y", 1), numa("z", 1)]);
    assert_eq!(place(same(), spread), Result::Node("a"), "not with the first one");
    let apart = json!([numa("x", 0), numa("y", 1)]);
    assert_eq!(place(same(), apart.clone()), nowhere("cannot allocate all claims"));
    assert_eq!(place(other(), apart), Result::Node("a"));
    assert_eq!(place(other(), json!([numa("x", 1), numa("y", 1)])), nowhere("cannot allocate all claims"));
}

#[test]
fn all_devices_administrators_and_taints() {
    let all = |admin: bool| json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "All", "adminAccess": admin}}]);
    let mut fixture = cluster(json!([device("x", "large"), device("y", "large")]), json!([]));
    assert_eq!(place(&mut fixture, all(false)), Result::Node("a"));
    set(&mut fixture, claim("d", one("true")));
    assert_eq!(fixture.schedule(&using("q", &["d"])), nowhere("cannot allocate all claims"));
    set(&mut fixture, claim("e", all(true)));
    assert_eq!(fixture.schedule(&using("r", &["e"])), Result::Node("a"), "who only looks takes nothing");

    let rule = json!({"metadata": {"name": "t"}, "spec": {"deviceSelector": {"pool": "a"},
        "taint": {"key": "broken", "effect": "NoSchedule"}}});
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    fixture.core.set_device_rule(&object::<TaintRule>(rule), fixture.now);
    assert_eq!(place(&mut fixture, one("true")), nowhere("cannot allocate all claims"));
    let mut tolerant = claim("t", one("true"));
    tolerant["spec"]["devices"]["requests"][0]["exactly"]["tolerations"] =
        json!([{"key": "broken", "operator": "Exists"}]);
    set(&mut fixture, tolerant);
    assert_eq!(fixture.schedule(&using("q", &["t"])), Result::Node("a"));
}

#[test]
fn parts_of_a_device_take_from_one_store() {
    let part = |name: &str, memory: &str| json!({"name": name, "consumesCounters": [{"counterSet": "card", "counters": {"memory": {"value": memory}}}]});
    let pool = json!({"name": "a", "generation": 1, "resourceSliceCount": 2});
    let mut fixture = cluster(json!([]), json!([]));
    let counters = json!({"metadata": {"name": "counters"}, "spec": {"driver": "gpu.example.com", "nodeName": "a", "pool": pool,
        "sharedCounters": [{"name": "card", "counters": {"memory": {"value": "4Gi"}}}]}});
    let mut parts = slice(
        "a",
        json!([part("whole", "4Gi"), part("half-1", "2Gi"), part("half-2", "2Gi"), part("third", "2Gi")]),
    );
    parts["spec"]["pool"] = pool;
    fixture.core.set_device_slice(&object::<Slice>(parts), fixture.now);
    assert_eq!(
        place(&mut fixture, one("true")),
        nowhere("cannot allocate all claims"),
        "the pool is not whole"
    );
    fixture.core.set_device_slice(&object::<Slice>(counters), fixture.now);
    let two = json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 2}}]);
    set(&mut fixture, claim("d", two));
    assert_eq!(fixture.schedule(&using("q", &["d"])), Result::Node("a"), "two halves, and not the whole");
    set(&mut fixture, claim("e", one("true")));
    assert_eq!(fixture.schedule(&using("r", &["e"])), nowhere("cannot allocate all claims"));
}

/// Where pods go whose claims ask for these amounts of a device that is shared, one after the other.
fn share(policy: Value, requests: &[Value]) -> Vec<Result> {
    let mut device =
        json!({"name": "x", "allowMultipleAllocations": true, "capacity": {"memory": {"value": "10"}}});
    if !policy.is_null() {
        device["capacity"]["memory"]["requestPolicy"] = policy;
    }
    let mut fixture = cluster(json!([device]), json!([]));
    let place = |(number, amount): (usize, &Value)| {
        let mut requests = json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 1}}]);
        if !amount.is_null() {
            requests[0]["exactly"]["capacity"] = json!({"requests": {"memory": amount}});
        }
        set(&mut fixture, claim(&format!("c{number}"), requests));
        fixture.schedule(&using(&format!("p{number}"), &[&format!("c{number}")]))
    };
    requests.iter().enumerate().map(place).collect()
}

#[test]
fn claims_share_a_device_as_far_as_its_capacity_goes() {
    let none = || nowhere("cannot allocate all claims");
    let yes = || Result::Node("a");
    let check = |policy: Value, requests: &[Value], expect: Vec<Result>| {
        assert_eq!(share(policy.clone(), requests), expect, "{policy} {requests:?}");
    };
    check(json!(null), &[json!("4"), json!("5"), json!("2"), json!("1")], vec![yes(), yes(), none(), yes()]);
    // Who asks for nothing takes all, or what the policy says.
    check(json!(null), &[json!(null), json!("1")], vec![yes(), none()]);
    check(json!({"default": "6"}), &[json!(null), json!(null), json!("4")], vec![yes(), none(), yes()]);
    let values = || json!({"default": "1", "validValues": ["1", "4", "6"]});
    check(values(), &[json!("2"), json!("5"), json!("1")], vec![yes(), yes(), none()]);
    check(values(), &[json!("7")], vec![none()]);
    let range = || json!({"default": "2", "validRange": {"min": "2", "max": "8", "step": "3"}});
    check(range(), &[json!("1"), json!("6"), json!(null)], vec![yes(), yes(), none()]);
    check(range(), &[json!("9")], vec![none()]);
    let finer = || json!({"default": "500m", "validRange": {"min": "500m", "step": "500m"}});
    check(finer(), &[json!("9100m"), json!("600m"), json!("100m")], vec![yes(), none(), yes()]);
    let result = share(finer(), &[json!("100u")]);
    assert_eq!(result, vec![yes()], "less than the least is the least");
    let [Result::Message(message)] = &share(finer(), &[json!("1000100u")])[..] else { panic!() };
    assert_eq!(
        message,
        "running \"DynamicResources\" filter plugin: claim ns/c0, request r: checking capacity for device gpu.example.com/a/x: capacity \"memory\": capacity request cannot be represented in the device's range arithmetic: request 1000100u is not a representable milli value"
    );
    // A capacity that the device does not have.
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    let mut requests = one("true");
    requests[0]["exactly"]["capacity"] = json!({"requests": {"cores": "1"}});
    assert_eq!(place(&mut fixture, requests), none());
}

#[test]
fn shares_that_claims_have_count() {
    let device =
        json!({"name": "x", "allowMultipleAllocations": true, "capacity": {"memory": {"value": "10"}}});
    let mut fixture = cluster(json!([device]), json!([]));
    let mut allocated = claim("d", one("true"));
    allocated["status"]["allocation"]["devices"]["results"] = json!([{"request": "r", "driver": "gpu.example.com", "pool": "a",
        "device": "x", "shareID": "s", "consumedCapacity": {"memory": "8"}}]);
    set(&mut fixture, allocated);
    let mut requests = one("true");
    requests[0]["exactly"]["capacity"] = json!({"requests": {"memory": "3"}});
    assert_eq!(place(&mut fixture, requests), nowhere("cannot allocate all claims"));
    set(&mut fixture, claim("d", one("true")));
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Node("a"), "the share is free again");
}

#[test]
fn devices_that_cannot_be_made_ready_are_given_up() {
    let check = |conditions: Value, at: &str, expect: Option<&str>| {
        let mut fixture = cluster(json!([device("x", "large")]), json!([]));
        let mut own = claim("c", one("true"));
        own["status"] = json!({
            "allocation": {"allocationTimestamp": at, "devices": {"results": [{"request": "r", "driver": "gpu.example.com", "pool": "a",
                "device": "x", "bindingConditions": ["Ready"], "bindingFailureConditions": ["Broken"]}]}},
            "devices": [{"driver": "gpu.example.com", "pool": "a", "device": "x", "conditions": conditions}],
        });
        set(&mut fixture, own);
        fixture.add(&using("p", &["c"]));
        match fixture.core.attempt(fixture.now) {
            Some(Attempt::Bind(_)) => assert_eq!(expect, None),
            Some(Attempt::Unschedulable { remedy: Some(Remedy::Deallocate(_)), message, .. }) => {
                assert!(expect.is_some_and(|expect| message.contains(expect)), "{message}");
            }
            _ => panic!("neither placed nor helped"),
        }
    };
    let condition = |name: &str| json!([{"type": name, "status": "True", "reason": "r", "message": "m"}]);
    let unavailable = Some("2 resourceclaim not available on the node");
    check(condition("Ready"), "2020-01-01T00:00:00Z", None);
    check(json!([]), "2999-01-01T00:00:00Z", None);
    check(json!([]), "2020-01-01T00:00:00Z", unavailable);
    check(condition("Broken"), "2999-01-01T00:00:00Z", unavailable);
}

#[test]
fn a_search_ends_however_its_time_goes_by() {
    let check = |requests: Value, constraints: Value| {
        let limit = json!({"profiles": [{"pluginConfig": [{"name": "DynamicResources", "args": {"filterTimeout": "10ms"}}]}]});
        let devices: Value = (0..128).map(|at| device(&format!("d{at}"), &format!("m{at}"))).collect();
        let mut fixture = cluster_with(limit, devices, json!([]));
        let mut own = claim("c", requests);
        own["spec"]["devices"]["constraints"] = constraints;
        set(&mut fixture, own);
        let Result::Message(message) = fixture.schedule(&using("p", &["c"])) else { panic!("it is placed") };
        assert!(message.contains("node a: timed out trying to allocate devices"), "{message}");
    };
    let mut pairs = one("true");
    pairs[0]["exactly"]["count"] = json!(2);
    check(pairs, json!([{"matchAttribute": "gpu.example.com/model"}]));
    let digits = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let costly = one(&format!("!{digits}.all(x, {digits}.all(y, {digits}.all(z, x + y + z >= 0)))"));
    check(costly.clone(), json!([]));
    let mut all = costly;
    all[0]["exactly"]["allocationMode"] = json!("All");
    check(all, json!([]));
}

#[test]
fn a_pod_that_asks_for_very_many_devices_waits() {
    let mut shared = device("x", "large");
    shared["allowMultipleAllocations"] = json!(true);
    shared["capacity"] = json!({});
    let mut fixture = cluster(json!([shared]), json!([]));
    let request = |at| json!({"name": format!("r{at}"), "exactly": {"deviceClassName": "gpu", "count": 1}});
    let names: Vec<String> = (0..500).map(|at| format!("c{at}")).collect();
    for name in &names {
        set(&mut fixture, claim(name, (0..32).map(request).collect()));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(fixture.schedule(&using("less", &names[..4])), Result::Node("a"));
    let many = fixture.schedule(&using("p", &names[4..]));
    let Result::Message(message) = many else { panic!("it is placed") };
    assert!(message.contains("the pod asks for too many devices"), "{message}");
}

#[test]
fn a_claim_that_a_pod_names_twice_is_allocated_once() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    set(&mut fixture, claim("c", one("true")));
    let claims = json!([{"name": "r", "resourceClaimName": "c"}, {"name": "s", "resourceClaimName": "c"}]);
    assert_eq!(
        fixture.schedule(&pod("p", json!({"spec": {"resourceClaims": claims}}))),
        Result::Node("a"),
        "one device is enough"
    );
    set(&mut fixture, claim("d", one("true")));
    assert_eq!(fixture.schedule(&using("q", &["d"])), nowhere("cannot allocate all claims"));
}

#[test]
fn devices_of_a_pod_that_went_while_it_was_bound_are_for_others() {
    let mut fixture = cluster(json!([device("x", "large")]), json!([]));
    set(&mut fixture, claim("c", one("true")));
    set(&mut fixture, claim("d", one("true")));
    let gone = using("p", &["c"]);
    assert_eq!(fixture.schedule(&gone), Result::Node("a"));
    assert_eq!(fixture.schedule(&using("q", &["d"])), nowhere("cannot allocate all claims"));
    fixture.core.remove_pod(&gone, fixture.now);
    fixture.wait(20_000);
    assert_eq!(fixture.next(), nowhere("cannot allocate all claims"));
    fixture.bind_fails(true);
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Node("a"));
}
