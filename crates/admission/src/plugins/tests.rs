//! Plugins with few rules, each over a request or two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree, json};
use registry::tree::{get, text};

use super::*;
use crate::tests::{Objects, attributes, ready};
use crate::{Attributes, Operation, Point, User};

struct Ask<'a> {
    of: (&'a str, &'a str),
    subresource: &'a str,
    object: Tree,
    old: Option<Tree>,
}

const PODS: (&str, &str) = ("", "pods");

impl<'a> Ask<'a> {
    fn create(of: (&'a str, &'a str), object: Tree) -> Ask<'a> {
        Ask { of, subresource: "", object, old: None }
    }

    fn update(of: (&'a str, &'a str), object: Tree, old: Tree) -> Ask<'a> {
        Ask { old: Some(old), ..Ask::create(of, object) }
    }
}

fn objects() -> Objects {
    let class = |name: &str, created: &str| {
        json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true",
                "ingressclass.kubernetes.io/is-default-class": "true"}}, "allowVolumeExpansion": name == "b"})
    };
    let old = "2026-01-01T00:00:00Z";
    let plain = json!({"metadata": {"name": "z", "creationTimestamp": "2027-01-01T00:00:00Z"}});
    Objects::default()
        .with(
            "namespaces",
            json!({"metadata": {"name": "t", "annotations": {
                "scheduler.alpha.kubernetes.io/node-selector": "zone=a, env=x",
                "scheduler.alpha.kubernetes.io/defaultTolerations": "[{\"key\": \"k\", \"operator\": \"Exists\"}]",
                "scheduler.alpha.kubernetes.io/tolerationsWhitelist": "[{\"key\": \"k\", \"operator\": \"Exists\"}, {\"key\": \"node.kubernetes.io/memory-pressure\", \"operator\": \"Exists\"}]"}}}),
        )
        .with("storageclasses", class("c", old))
        .with("storageclasses", class("b", "2026-02-01T00:00:00Z"))
        .with("storageclasses", plain.clone())
        .with("ingressclasses", class("i", old))
        .with("ingressclasses", class("h", old))
        .with(
            "nodes",
            json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z1", "other": "x"}},
                "status": {"declaredFeatures": ["InPlacePodLevelResourcesVerticalScaling"]}}),
        )
}

/// One plugin over one request: the object as it was left, or the refusal.
fn run(plugin: &dyn Plugin, ask: Ask<'_>) -> Result<Tree, Status> {
    let (groups, extra) = (Vec::new(), BTreeMap::new());
    let user = User { name: "u", uid: "", groups: &groups, extra: &extra };
    let resource = registry::kind::built_in(ask.of.0, "v1", ask.of.1).unwrap();
    let operation = if ask.old.is_some() { Operation::Update } else { Operation::Create };
    let mut object = ask.object;
    let name = text(&object, "metadata.name").to_owned();
    let attributes = Attributes {
        namespace: "t",
        name: &name,
        subresource: ask.subresource,
        old: ask.old.as_ref(),
        ..attributes(user, operation, resource)
    };
    let point = Point { resource, subresource: ask.subresource, operation };
    ready(async {
        if plugin.mutates(&point) {
            plugin.admit(&attributes, &mut object).await?;
        }
        if plugin.validates(&point) {
            plugin.validate(&attributes, &object).await?;
        }
        Ok(object)
    })
}

fn made(name: &str, settings: &Settings) -> Box<dyn Plugin> {
    let services: Arc<dyn Services> = Arc::new(objects());
    let entry = ALL.iter().find(|entry| entry.name == name).unwrap();
    (entry.make.unwrap())(&Parts { services: &services, settings })
}

fn plugin(name: &str) -> Box<dyn Plugin> {
    made(name, &Settings::default())
}

fn refused(name: &str, ask: Ask<'_>) -> String {
    run(&*plugin(name), ask).unwrap_err().message
}

fn pod(spec: Tree) -> Tree {
    json!({"metadata": {"name": "p", "namespace": "t"}, "spec": spec})
}

#[test]
fn every_plugin_is_called_as_flags_call_it() {
    let services: Arc<dyn Services> = Arc::new(objects());
    for entry in ALL {
        if let Some(make) = entry.make {
            let plugin = make(&Parts { services: &services, settings: &Settings::default() });
            assert_eq!(plugin.name(), entry.name);
        }
    }
    let defaults = ALL.iter().filter(|entry| entry.by_default).count();
    assert_eq!((ALL.len(), defaults), (39, 25));
}

#[test]
fn always() {
    let ask = || Ask::create(PODS, pod(json!({})));
    assert!(run(&*plugin("AlwaysAdmit"), ask()).is_ok());
    assert_eq!(
        refused("AlwaysDeny", ask()),
        "pods \"p\" is forbidden: admission control is denying all modifications"
    );
}

#[test]
fn images_are_pulled() {
    let spec = || {
        json!({"containers": [{"name": "c", "image": "a", "imagePullPolicy": "Never"}],
            "initContainers": [{"name": "i", "image": "b"}],
            "volumes": [{"name": "v", "image": {"reference": "r"}}, {"name": "w", "emptyDir": {}}]})
    };
    let plugin = plugin("AlwaysPullImages");
    let got = run(&*plugin, Ask::create(PODS, pod(spec()))).unwrap();
    assert_eq!(got["spec"]["containers"][0]["imagePullPolicy"], json!("Always"));
    assert_eq!(got["spec"]["initContainers"][0]["imagePullPolicy"], json!("Always"));
    assert_eq!(got["spec"]["volumes"][0]["image"]["pullPolicy"], json!("Always"));
    let same = run(&*plugin, Ask::update(PODS, pod(spec()), pod(spec()))).unwrap();
    assert_eq!(same, pod(spec()));
}

#[test]
fn anti_affinity_and_external_addresses() {
    let anti = |key: &str| {
        pod(
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key}]}}}),
        )
    };
    assert_eq!(
        refused("LimitPodHardAntiAffinityTopology", Ask::create(PODS, anti("zone"))),
        "pods \"p\" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname is allowed"
    );
    assert!(
        run(&*plugin("LimitPodHardAntiAffinityTopology"), Ask::create(PODS, anti("kubernetes.io/hostname")))
            .is_ok()
    );
    let services = ("", "services");
    let service = |addresses: Tree| json!({"metadata": {"name": "s"}, "spec": {"externalIPs": addresses}});
    assert_eq!(
        refused(
            "DenyServiceExternalIPs",
            Ask::update(services, service(json!(["1.1.1.1", "2.2.2.2"])), service(json!(["1.1.1.1"])))
        ),
        "services \"s\" is forbidden: Use of external IPs is denied by admission control"
    );
    let fewer = Ask::update(services, service(json!(["1.1.1.1"])), service(json!(["1.1.1.1", "2.2.2.2"])));
    assert!(run(&*plugin("DenyServiceExternalIPs"), fewer).is_ok());
}

#[test]
fn classes_by_default() {
    let claims = ("", "persistentvolumeclaims");
    let claim = |spec: Tree| json!({"metadata": {"name": "c"}, "spec": spec});
    let class = |name: &str, of, object: Tree, field: &str| {
        get(&run(&*plugin(name), Ask::create(of, object)).unwrap(), field).clone()
    };
    let storage = |object| class("DefaultStorageClass", claims, object, "spec.storageClassName");
    // the newest
    assert_eq!(storage(claim(json!({}))), json!("b"));
    assert_eq!(storage(claim(json!({"storageClassName": ""}))), json!(""));
    let annotated = json!({"metadata": {"name": "c", "annotations": {"volume.beta.kubernetes.io/storage-class": ""}}, "spec": {}});
    assert_eq!(storage(annotated), Tree::Null);
    // the first by name of two
    let ingress = |object| {
        class("DefaultIngressClass", ("networking.k8s.io", "ingresses"), object, "spec.ingressClassName")
    };
    assert_eq!(ingress(claim(json!({}))), json!("h"));
}

#[test]
fn claims_grow_where_their_class_lets_them() {
    let claim = |class: &str, size: &str, phase: &str| json!({"metadata": {"name": "c"}, "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
    let claims = ("", "persistentvolumeclaims");
    let check = |object: Tree, old: Tree| {
        run(&*plugin("PersistentVolumeClaimResize"), Ask::update(claims, object, old))
            .map(|_| ())
            .map_err(|status| status.message)
    };
    assert_eq!(check(claim("b", "2Gi", "Bound"), claim("b", "1Gi", "Bound")), Ok(()));
    assert_eq!(check(claim("c", "1Gi", "Bound"), claim("c", "1Gi", "Bound")), Ok(()));
    assert_eq!(
        check(claim("b", "2Gi", "Pending"), claim("b", "1Gi", "Pending")).unwrap_err(),
        "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded"
    );
    assert_eq!(
        check(claim("c", "2Gi", "Bound"), claim("c", "1Gi", "Bound")).unwrap_err(),
        "persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
}

#[test]
fn labels_of_the_node() {
    let labels = |ask| get(&run(&*plugin("PodTopologyLabels"), ask).unwrap(), "metadata.labels").clone();
    assert_eq!(
        labels(Ask::create(PODS, pod(json!({"nodeName": "n"})))),
        json!({"topology.kubernetes.io/zone": "z1"})
    );
    assert_eq!(labels(Ask::create(PODS, pod(json!({"nodeName": "other"})))), Tree::Null);
    let binding = |kind: &str| Ask {
        subresource: "binding",
        ..Ask::create(PODS, json!({"metadata": {"name": "p"}, "target": {"kind": kind, "name": "n"}}))
    };
    assert_eq!(labels(binding("Node")), json!({"topology.kubernetes.io/zone": "z1"}));
    assert_eq!(labels(binding("")), Tree::Null);
}

#[test]
fn features_that_the_node_has_not_declared() {
    let sized = |field: &str, generation: i64, cpu: &str| {
        let mut pod = pod(json!({"nodeName": "n"}));
        pod["metadata"]["generation"] = json!(generation);
        match field {
            "pod" => pod["spec"]["resources"] = json!({"requests": {"cpu": cpu}}),
            _ => {
                pod["spec"]["initContainers"] =
                    json!([{"name": "i", "resources": {"requests": {"cpu": cpu}}}])
            }
        }
        pod
    };
    let ask = |field: &str| Ask {
        subresource: "resize",
        ..Ask::update(PODS, sized(field, 2, "2"), sized(field, 1, "1"))
    };
    assert!(run(&*plugin("NodeDeclaredFeatureValidator"), ask("pod")).is_ok());
    assert_eq!(
        refused("NodeDeclaredFeatureValidator", ask("init")),
        "pods \"p\" is forbidden: pod update requires features InPlacePodVerticalScalingInitContainers which are not available on node \"n\""
    );
}

#[test]
fn tolerations_for_extended_resources() {
    let pod = pod(json!({
        "containers": [{"name": "c", "resources": {"requests": {"example.com/b": "1", "cpu": "1", "kubernetes.io/x": "1"}}}],
        "initContainers": [{"name": "i", "resources": {"requests": {"example.com/a": "1"}}}],
        "tolerations": [{"key": "example.com/b", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}]}));
    let got = run(&*plugin("ExtendedResourceToleration"), Ask::create(PODS, pod)).unwrap();
    assert_eq!(
        got["spec"]["tolerations"],
        json!([{"key": "example.com/b", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "example.com/a", "operator": "Exists", "effect": "NoSchedule"}])
    );
}

#[test]
fn namespaces_have_to_be_there_or_are_made() {
    let configmap = || json!({"metadata": {"name": "c"}});
    let maps = ("", "configmaps");
    let services = Arc::new(Objects::default());
    let own: Arc<dyn Services> = services.clone();
    let exists = namespaces::NamespaceExists::new(Arc::clone(&own));
    let missing = run(&exists, Ask::create(maps, configmap())).unwrap_err();
    assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"t\" not found"));
    assert!(run(&*plugin("NamespaceExists"), Ask::create(maps, configmap())).is_ok());
    let provision = namespaces::NamespaceAutoProvision::new(own);
    run(&provision, Ask::create(maps, configmap())).unwrap();
    assert_eq!(*services.created.lock(), ["namespaces/t"]);
}

#[test]
fn node_selectors_of_namespaces() {
    let with = |allowed: &str| Settings {
        node_selectors: [("t".to_owned(), allowed.to_owned())].into(),
        ..Settings::default()
    };
    let ask = |selector: Tree| Ask::create(PODS, pod(json!({"nodeSelector": selector})));
    let got = run(&*plugin("PodNodeSelector"), ask(json!({"disk": "ssd"}))).unwrap();
    assert_eq!(got["spec"]["nodeSelector"], json!({"disk": "ssd", "zone": "a", "env": "x"}));
    assert_eq!(
        refused("PodNodeSelector", ask(json!({"zone": "b"}))),
        "pods \"p\" is forbidden: pod node label selector conflicts with its namespace node label selector"
    );
    let restricted = made("PodNodeSelector", &with("zone=a,env=x"));
    assert!(run(&*restricted, ask(json!({}))).is_ok());
    assert_eq!(
        run(&*restricted, ask(json!({"disk": "ssd"}))).unwrap_err().message,
        "pods \"p\" is forbidden: pod node label selector labels conflict with its namespace whitelist"
    );
}

#[test]
fn tolerations_of_namespaces() {
    let ask = |tolerations: Tree| {
        Ask::create(
            PODS,
            pod(
                json!({"tolerations": tolerations, "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}),
            ),
        )
    };
    let got = run(&*plugin("PodTolerationRestriction"), ask(json!([]))).unwrap();
    assert_eq!(
        got["spec"]["tolerations"],
        json!([{"key": "k", "operator": "Exists"},
            {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}])
    );
    assert_eq!(
        refused("PodTolerationRestriction", ask(json!([{"key": "other", "operator": "Exists"}]))),
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
    );
}

#[tokio::test(start_paused = true)]
async fn events_come_no_faster_than_their_limit() {
    let limits = [
        EventLimit { of: EventSource::Namespace, rate: 1, burst: 2, sources: 1 },
        EventLimit { of: EventSource::SourceAndObject, rate: 100, burst: 1, sources: 1 },
    ];
    let plugin = event_rates::EventRateLimit::new(&limits);
    let ask = |name: &str| {
        Ask::create(("", "events"), json!({"metadata": {"name": "e"}, "involvedObject": {"name": name}}))
    };
    assert!(run(&plugin, ask("a")).is_ok());
    assert!(run(&plugin, ask("b")).is_ok());
    let refused = run(&plugin, ask("b")).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            429,
            "Too many requests: [limit reached on type Namespace for key t, limit reached on type SourceAndObject for key b]"
        )
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(run(&plugin, ask("b")).is_ok());
}
