//! Which node a pod goes to.

use serde_json::{Value, json};

use crate::fixture::{Fixture, Result, cpu, node, on, pod};

fn check(nodes: [(&str, Value); 2], spec: Value, expected: &'static str) {
    let nodes = nodes.map(|(name, extra)| node(name, "4", extra));
    let mut fixture = Fixture::new(nodes);
    assert_eq!(fixture.schedule(&pod("p", json!({"spec": spec}))), Result::Node(expected));
}

#[test]
fn the_emptier_node() {
    let mut fixture = Fixture::new([node("a", "4", json!({})), node("b", "4", json!({}))]);
    fixture.add(&crate::fixture::on(&cpu("x", "2", json!({})), "a"));
    assert_eq!(fixture.schedule(&cpu("p", "1", json!({}))), Result::Node("b"));
    // Assumed pods count: now both have two.
    fixture.add(&crate::fixture::on(&cpu("y", "2", json!({})), "b"));
    assert_eq!(fixture.schedule(&cpu("q", "1", json!({}))), Result::Node("a"));
}

#[test]
fn pods_without_requests_spread_too() {
    let mut fixture = Fixture::new([node("a", "4", json!({})), node("b", "4", json!({}))]);
    let mut counts = std::collections::BTreeMap::new();
    for n in 0..6 {
        let Result::Node(node) = fixture.schedule(&pod(&format!("p{n}"), json!({}))) else { panic!() };
        *counts.entry(node).or_insert(0) += 1;
    }
    assert_eq!(counts["a"], counts["b"]);
}

#[test]
fn taints_and_affinity() {
    let avoid = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    check([("a", avoid), ("b", json!({}))], json!({}), "b");
    let label = json!({"metadata": {"labels": {"disk": "ssd", "size": "9"}}});
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}});
    check([("a", json!({})), ("b", label.clone())], preferred, "b");
    let larger = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["8"]}, {"key": "none", "operator": "DoesNotExist"}]}]}}}});
    check([("a", json!({})), ("b", label)], larger, "b");
    let full = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}});
    let tolerates = json!({"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}], "nodeSelector": {"kubernetes.io/hostname": "a"}});
    check([("a", full), ("b", json!({}))], tolerates, "a");
}

#[test]
fn images_that_are_there() {
    let image = json!({"status": {"images": [{"names": ["web:v1"], "sizeBytes": 800_000_000}]}});
    check([("a", json!({})), ("b", image.clone())], json!({}), "b");
    // Those of init containers and volumes count like those of containers.
    let other = json!([{"name": "c", "image": "other"}]);
    let init = json!({"containers": other, "initContainers": [{"name": "i", "image": "web:v1"}]});
    check([("a", json!({})), ("b", image.clone())], init, "b");
    let volume = json!({"containers": other, "volumes": [{"name": "v", "image": {"reference": "web:v1"}}]});
    check([("a", json!({})), ("b", image)], volume, "b");
}

#[test]
fn daemon_set_pods_go_where_they_must() {
    let to = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]}}}});
    check([("a", json!({})), ("b", json!({}))], to, "b");
}

#[test]
fn spreading_and_keeping_away() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"zone": zone}}});
    let mut fixture =
        Fixture::new([node("a", "4", zone("1")), node("b", "4", zone("1")), node("c", "4", zone("2"))]);
    let spread = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let mut zones = [0, 0];
    for n in 0..6 {
        let Result::Node(node) = fixture.schedule(&pod(&format!("p{n}"), spread.clone())) else { panic!() };
        zones[usize::from(node == "c")] += 1;
        assert!(i32::abs(zones[0] - zones[1]) <= 1);
    }
    let away = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]}}}});
    let mut used = std::collections::BTreeSet::new();
    for n in 0..3 {
        let Result::Node(node) = fixture.schedule(&pod(&format!("d{n}"), away.clone())) else { panic!() };
        assert!(used.insert(node));
    }
    assert!(matches!(fixture.schedule(&pod("d3", away)), Result::Message(_)));
    // A pod that says nothing is kept away by those that do.
    let silent = json!({"metadata": {"labels": {"app": "db"}}});
    let Result::Message(message) = fixture.schedule(&pod("d4", silent)) else { panic!() };
    assert!(message.contains("3 node(s) didn't satisfy existing pods anti-affinity rules"));
    let near = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "only"}}}]}}}});
    fixture.add(&crate::fixture::on(&pod("only", json!({})), "c"));
    assert_eq!(fixture.schedule(&pod("n", near)), Result::Node("c"));
}

#[test]
fn init_containers_and_sidecars_count_at_their_peak() {
    let request = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let check = |init: Value, main: &str, expected: i64| {
        let spec = json!({"spec": {"initContainers": init, "containers": [{"name": "c", "image": "x", "resources": request(main)}]}});
        assert_eq!(pod("p", spec).needs.requests.cpu, expected);
    };
    let init = |cpu: &str| json!({"name": "i", "image": "x", "resources": request(cpu)});
    let sidecar =
        |cpu: &str| json!({"name": "s", "image": "x", "restartPolicy": "Always", "resources": request(cpu)});
    check(json!([init("3"), init("2")]), "1", 3000);
    check(json!([sidecar("1"), init("3")]), "1", 4000);
    check(json!([init("3"), sidecar("1")]), "500m", 3000);
    check(json!([sidecar("2")]), "1500m", 3500);
}

#[test]
fn allocated_amounts_count_while_a_pod_is_resized() {
    let check = |asked: &str, given: Option<(&str, &str)>, reason: &str, expected: i64| {
        let resources = json!({"requests": {"cpu": asked}});
        let mut whole = json!({"spec": {"overhead": {"cpu": "250m"}, "containers": [{"name": "c", "resources": resources}]}});
        whole["status"]["conditions"] =
            json!([{"type": "PodResizePending", "status": "True", "reason": reason}]);
        if let Some((allocated, actual)) = given {
            whole["status"]["allocatedResources"] = json!({"cpu": allocated});
            whole["status"]["resources"] = json!({"requests": {"cpu": actual}});
        }
        assert_eq!(pod("p", whole).needs.requests.cpu, expected, "{asked} {given:?} {reason}");
    };
    check("1", None, "", 1250);
    check("1", Some(("1250m", "1250m")), "", 1250);
    check("3", Some(("1250m", "1250m")), "Deferred", 3250);
    check("1", Some(("1250m", "2250m")), "", 2250);
    check("3", Some(("1250m", "1250m")), "Infeasible", 1250);
    check("1", Some(("3250m", "3250m")), "Infeasible", 3250);
    check("3", None, "Infeasible", 3250);
}

#[test]
fn namespaces_of_a_term() {
    // Whether a pod of namespace `ns` is kept away from one of `ns`, and from one of `other`.
    let check = |scope: Value, expected: [bool; 2]| {
        for (namespace, away) in ["ns", "other"].into_iter().zip(expected) {
            let mut fixture = Fixture::new([node("a", "4", json!({}))]);
            for name in ["ns", "other"] {
                let labels = json!({"kubernetes.io/metadata.name": name, "team": name});
                let object = json!({"metadata": {"name": name, "labels": labels}});
                fixture.core.table.namespaces.set(&serde_json::from_value(object).unwrap());
            }
            let db = pod("db", json!({"metadata": {"namespace": namespace, "labels": {"app": "db"}}}));
            fixture.add(&crate::fixture::on(&db, "a"));
            let mut term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}});
            for (key, value) in scope.as_object().unwrap() {
                term[key] = value.clone();
            }
            let affinity =
                json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
            let result = fixture.schedule(&pod("p", json!({"spec": {"affinity": affinity}})));
            assert_eq!(result != Result::Node("a"), away, "{scope} {namespace}");
        }
    };
    let by_team = |team: &str| json!({"matchLabels": {"team": team}});
    check(json!({}), [true, false]);
    check(json!({"namespaces": ["other"]}), [false, true]);
    check(json!({"namespaceSelector": {}}), [true, true]);
    check(json!({"namespaceSelector": by_team("none")}), [false, false]);
    check(json!({"namespaceSelector": by_team("ns")}), [true, false]);
    check(json!({"namespaceSelector": by_team("other")}), [false, true]);
    check(json!({"namespaceSelector": by_team("other"), "namespaces": ["ns"]}), [true, true]);
}

#[test]
fn a_window_of_a_large_cluster_has_nodes_of_all_zones() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    let nodes = (0..300).map(|n| node(&format!("n{n}"), "4", zone(if n < 150 { "a" } else { "b" })));
    let mut fixture = Fixture::new(nodes);
    // Less than half of the nodes are looked at.
    let spread = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    let mut in_b = 0;
    for n in 0..4 {
        let Result::Node(node) = fixture.schedule(&pod(&format!("p{n}"), spread.clone())) else { panic!() };
        in_b += usize::from(node["n".len()..].parse::<usize>().unwrap() >= 150);
    }
    assert_eq!(in_b, 2);
}

#[test]
fn the_node_that_a_pod_was_promised_is_tried_first() {
    let mut fixture = Fixture::new([node("a", "4", json!({})), node("b", "4", json!({}))]);
    fixture.add(&crate::fixture::on(&cpu("other", "2", json!({})), "a"));
    let promised = pod("p", json!({"status": {"nominatedNodeName": "a"}}));
    assert_eq!(fixture.schedule(&promised), Result::Node("a"));
    // One that will not do is no reason to fail.
    let crowded = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}, "status": {"nominatedNodeName": "a"}});
    assert_eq!(fixture.schedule(&pod("q", crowded)), Result::Node("b"));
}

#[test]
fn pods_of_a_service_or_controller_are_spread_by_default() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    let place = |owner: Value, facts: &dyn Fn(&mut Fixture)| {
        // The second node is the emptier one, but it has a pod of the same kind.
        let mut fixture = Fixture::new([node("a", "4", zone("1")), node("b", "5", zone("2"))]);
        facts(&mut fixture);
        let labels = json!({"metadata": {"labels": {"app": "web"}, "ownerReferences": [owner]}});
        fixture.add(&crate::fixture::on(&pod("first", labels.clone()), "b"));
        fixture.add(&crate::fixture::on(&cpu("other", "100m", json!({})), "a"));
        fixture.schedule(&pod("second", labels))
    };
    let nobody = json!({"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "u", "controller": true});
    assert_eq!(place(nobody.clone(), &|_| {}), Result::Node("b"));
    let service = json!({"metadata": {"namespace": "ns", "name": "s"}, "spec": {"selector": {"app": "web"}}});
    assert_eq!(
        place(nobody, &|fixture| {
            let service = serde_json::from_value(service.clone()).unwrap();
            fixture.core.table.facts.selectors.set_service(&service);
        }),
        Result::Node("a")
    );
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true});
    let set = json!({"metadata": {"namespace": "ns", "name": "r"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    assert_eq!(
        place(owner, &|fixture| {
            let set = serde_json::from_value(set.clone()).unwrap();
            let kind = scheduler::cluster::pod::OwnerKind::ReplicaSet;
            fixture.core.table.facts.selectors.set_controller(kind, &set);
        }),
        Result::Node("a")
    );
}

#[test]
fn features_that_kubelets_declare() {
    let declares = json!({"status": {"declaredFeatures": ["UserNamespacesHostNetworkSupport"]}});
    let spec = json!({"hostNetwork": true, "hostUsers": false});
    check([("a", json!({})), ("b", declares)], spec.clone(), "b");
    let mut fixture = Fixture::new([node("a", "4", json!({}))]);
    let Result::Message(message) = fixture.schedule(&pod("p", json!({"spec": spec}))) else { panic!() };
    assert!(message.contains("1 node(s) didn't match Pod's required features"), "{message}");
}

#[test]
fn a_node_whose_balance_becomes_better_is_preferred() {
    let mut fixture = Fixture::new([node("a", "4", json!({})), node("b", "4", json!({}))]);
    let asking = |name: &str, requests: Value| {
        let containers = json!([{"name": "c", "image": "x", "resources": {"requests": requests}}]);
        pod(name, json!({"spec": {"containers": containers}}))
    };
    fixture.add(&on(&asking("x", json!({"cpu": "2"})), "a"));
    fixture.add(&on(&asking("y", json!({"cpu": "1", "memory": "1Gi"})), "b"));
    assert_eq!(fixture.schedule(&asking("p", json!({"memory": "1Gi"}))), Result::Node("a"));
}
