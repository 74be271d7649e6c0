use std::sync::Arc;

use serde_json::{Value, json};

use super::endpoints::published;
use super::slices::{Change, plan};
use controllers::views::{EndpointSlice, Pod, Service};

fn service(change: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"a": "b"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"}]},
    });
    json_patch::merge(&mut service, &change);
    serde_json::from_value(service).unwrap()
}

fn pod(number: usize, ready: bool) -> Arc<Pod> {
    let ready = if ready { "True" } else { "False" };
    let pod = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "default", "uid": format!("u{number}")},
        "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": format!("10.1.0.{number}"), "podIPs": [{"ip": format!("10.1.0.{number}")}],
                   "conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn zone(_: &str) -> Option<String> {
    Some("z".into())
}

/// The slices there are after carrying changes out.
fn apply(existing: &[Arc<EndpointSlice>], changes: Vec<Change>) -> Vec<Arc<EndpointSlice>> {
    let mut slices = existing.to_vec();
    for change in changes {
        match change {
            Change::Create(mut slice) => {
                slice.metadata.name = format!("web-{}", slices.len());
                slices.push(Arc::new(slice));
            }
            Change::Update(slice) => {
                let index =
                    slices.iter().position(|other| other.metadata.name == slice.metadata.name).unwrap();
                slices[index] = Arc::new(slice);
            }
            Change::Delete(slice) => slices.retain(|other| other.metadata.name != slice.metadata.name),
        }
    }
    slices
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    slices.iter().map(|slice| slice.endpoints.len()).collect()
}

#[test]
fn endpoints_of_pods() {
    let changes = plan(&service(json!({})), &[pod(1, true), pod(2, false)], &[], &zone, 100, None);
    let [Change::Create(slice)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(slice.ports[0].port, 8080);
    assert_eq!(slice.endpoints[0].zone.as_deref(), Some("z"));
    let ready: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.conditions.ready).collect();
    assert_eq!(ready, [Some(true), Some(false)]);
    assert_eq!(slice.metadata.labels.get("kubernetes.io/service-name"), Some("web"));
    assert!(!slice.metadata.labels.contains_key("service.kubernetes.io/headless"));
}

#[test]
fn a_second_plan_changes_nothing() {
    let service = service(json!({"spec": {"clusterIP": "None"}}));
    let pods: Vec<_> = (1..8).map(|number| pod(number, true)).collect();
    let slices = apply(&[], plan(&service, &pods, &[], &zone, 3, None));
    assert_eq!(sizes(&slices), [3, 3, 1]);
    assert_eq!(plan(&service, &pods, &slices, &zone, 3, None), []);
}

#[test]
fn one_pod_changes_one_slice() {
    let service = service(json!({}));
    let pods: Vec<_> = (1..8).map(|number| pod(number, true)).collect();
    let slices = apply(&[], plan(&service, &pods, &[], &zone, 3, None));
    let mut changed = pods.clone();
    changed[1] = pod(2, false);
    let changes = plan(&service, &changed, &slices, &zone, 3, None);
    assert!(matches!(&changes[..], [Change::Update(_)]), "{changes:?}");
    let fewer = plan(&service, &pods[..6], &slices, &zone, 3, None);
    assert!(matches!(&fewer[..], [Change::Delete(_)]), "{fewer:?}");
    let mut more = pods.clone();
    more.push(pod(9, true));
    assert_eq!(sizes(&apply(&slices, plan(&service, &more, &slices, &zone, 3, None))), [3, 3, 2]);
}

#[test]
fn an_empty_slice_stands_for_no_pods() {
    let service = service(json!({}));
    let slices = apply(&[], plan(&service, &[], &[], &zone, 3, None));
    assert_eq!(sizes(&slices), [0]);
    assert_eq!(plan(&service, &[], &slices, &zone, 3, None), []);
    let filled = apply(&slices, plan(&service, &[pod(1, true)], &slices, &zone, 3, None));
    assert_eq!(sizes(&filled), [1]);
}

/// Its slice has no ports, as has the empty one.
#[test]
fn the_last_pod_of_a_headless_service_without_ports_leaves() {
    let service = service(json!({"spec": {"clusterIP": "None", "ports": null}}));
    let slices = apply(&[], plan(&service, &[pod(1, true)], &[], &zone, 3, None));
    assert_eq!(sizes(&slices), [1]);
    let emptied = apply(&slices, plan(&service, &[], &slices, &zone, 3, None));
    assert_eq!(sizes(&emptied), [0]);
    assert_eq!(plan(&service, &[], &emptied, &zone, 3, None), []);
}

#[test]
fn pods_of_nodes_that_are_gone_are_left_out() {
    let on_node = |number, node: &str| {
        let mut pod = (*pod(number, true)).clone();
        pod.spec.node_name = node.into();
        Arc::new(pod)
    };
    let mut waiting = (*pod(3, false)).clone();
    (waiting.spec.node_name, waiting.status) = ("".into(), Default::default());
    let pods = vec![on_node(1, "n"), on_node(2, "gone"), Arc::new(waiting)];
    let check = |service: &Service, count, expect: &[&str]| {
        let (published, skipped) = published(service, pods.clone(), |node| node == "n");
        assert_eq!((published.len(), skipped), (count, expect.iter().map(|one| (*one).to_owned()).collect()));
    };
    check(&service(json!({})), 2, &["skipping Pod p2 for Service default/web: Node gone Not Found"]);
    check(&service(json!({"spec": {"publishNotReadyAddresses": true}})), 3, &[]);
}

#[test]
fn families_and_external_names() {
    let slices = apply(&[], plan(&service(json!({})), &[pod(1, true)], &[], &zone, 3, None));
    let external = service(json!({"spec": {"type": "ExternalName"}}));
    assert!(matches!(&plan(&external, &[], &slices, &zone, 3, None)[..], [Change::Delete(_)]));
    let dual = service(json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}));
    let found = apply(&[], plan(&dual, &[pod(1, true)], &[], &zone, 3, None));
    assert_eq!(sizes(&found), [1, 0]);
}
