use super::*;

fn amounts(text: &str) -> Amounts {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, amount) = pair.split_once('=').unwrap();
            (name.to_owned(), amount.parse().unwrap())
        })
        .collect()
}

fn container<'a>(name: &'a str, requests: &str, limits: &str) -> Container<'a> {
    let asks = Resources { requests: amounts(requests), limits: amounts(limits) };
    Container { name, asks, ..Container::default() }
}

#[test]
fn pods_use_what_they_ask_for_at_their_peak() {
    let check = |pod: Pod<'_>, expect: &str| {
        assert_eq!(printed(&Measure::Pods.usage(&Facts::Pod(pod), &())), expect);
    };
    let sidecar = |requests| Container { is_sidecar: true, ..container("s", requests, "") };
    check(Pod::default(), "count/pods=1,pods=1");
    check(Pod { is_over: true, ..Pod::default() }, "count/pods=1");
    check(
        Pod {
            containers: vec![container("a", "cpu=1,memory=1Gi", "cpu=2"), container("b", "cpu=500m", "")],
            init_containers: vec![sidecar("cpu=100m"), container("i", "cpu=2", "")],
            overhead: amounts("cpu=10m,memory=1Mi"),
            ..Pod::default()
        },
        "count/pods=1,cpu=2110m,limits.cpu=2010m,memory=1025Mi,pods=1,requests.cpu=2110m,requests.memory=1025Mi",
    );
    check(
        Pod {
            containers: vec![container(
                "a",
                "hugepages-2Mi=4Mi,example.com/x=2,kubernetes.io/y=1",
                "example.com/x=2",
            )],
            own: Resources { requests: amounts("cpu=3,example.com/x=7"), limits: amounts("memory=1Gi") },
            ..Pod::default()
        },
        "count/pods=1,cpu=3,hugepages-2Mi=4Mi,limits.memory=1Gi,pods=1,requests.cpu=3,requests.example.com/x=2,requests.hugepages-2Mi=4Mi",
    );
    // a resize that is under way, and one that the node refuses
    let resized = |resize_is_infeasible| Pod {
        containers: vec![Container {
            granted: Some(amounts("cpu=1")),
            actual_requests: Some(amounts("cpu=2")),
            ..container("a", "cpu=3", "")
        }],
        resize_is_infeasible,
        ..Pod::default()
    };
    check(resized(false), "count/pods=1,cpu=3,pods=1,requests.cpu=3");
    check(resized(true), "count/pods=1,cpu=2,pods=1,requests.cpu=2");
}

#[test]
fn scopes_of_pods() {
    let pod = Facts::Pod(Pod {
        containers: vec![container("a", "cpu=0", "")],
        priority_class: "high",
        ..Pod::default()
    });
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (scope, is_in) in
        [("BestEffort", true), ("NotBestEffort", false), ("Terminating", false), ("Other", false)]
    {
        assert_eq!(pod.is_in(&Scope::named(scope)), is_in, "{scope}");
    }
    for (operator, values, is_in) in [
        ("In", texts(&["low", "high"]), true),
        ("NotIn", texts(&["high"]), false),
        ("Exists", texts(&[]), true),
        ("DoesNotExist", texts(&[]), false),
        ("Gt", texts(&["1"]), false),
    ] {
        assert_eq!(pod.is_in(&Scope::of_texts("PriorityClass", operator, &values)), is_in, "{operator}");
    }
    let printed = Scope::of_texts("PriorityClass", "In", &texts(&["a", "b"])).to_string();
    assert_eq!(printed, "{PriorityClass In [a b]}");
}

#[test]
fn containers_have_to_say_what_old_resources_they_need() {
    let pod = Facts::Pod(Pod {
        containers: vec![container("b", "cpu=1", ""), container("a", "", "memory=1")],
        ..Pod::default()
    });
    assert_eq!(
        pod.missing(&["cpu", "limits.memory", "requests.ephemeral-storage"]).unwrap(),
        "must specify cpu for: a; limits.memory for: b"
    );
    assert_eq!(pod.missing(&["pods"]), None);
}

#[test]
fn claims() {
    let claim = VolumeClaim {
        storage_class: "fast",
        requested: Some("1500m".parse().unwrap()),
        ..VolumeClaim::default()
    };
    let usage = |claim: &VolumeClaim<'_>| {
        printed(&Measure::VolumeClaims.usage(&Facts::VolumeClaim(claim.clone()), &()))
    };
    assert_eq!(
        usage(&claim),
        "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         fast.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2"
    );
    let grown = VolumeClaim { storage_class: "", allocated: Some("3Gi".parse().unwrap()), ..claim };
    assert_eq!(usage(&grown), "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=3Gi");
}

#[test]
fn names() {
    for (measure, name, tracked) in [
        (Measure::Pods, "requests.example.com/gpu", true),
        (Measure::Pods, "example.com/gpu", false),
        (Measure::Pods, "requests.storage", false),
        (Measure::Pods, "hugepages-2Mi", true),
        (Measure::VolumeClaims, "a.storageclass.storage.k8s.io/requests.storage", true),
        (Measure::VolumeClaims, "a.storageclass.storage.k8s.io/other", false),
        (Measure::of("", "secrets"), "secrets", true),
        (Measure::of("", "secrets"), "count/secrets", true),
        (Measure::of("apps", "deployments"), "count/deployments.apps", true),
        (Measure::of("apps", "deployments"), "deployments", false),
        (Measure::of("example.com", "secrets"), "secrets", false),
        (Measure::DeviceClaims, "a.deviceclass.resource.k8s.io/devices", true),
        (Measure::DeviceClaims, "requests.example.com/gpu", false),
    ] {
        assert_eq!(measure.tracks(name, &()), tracked, "{measure:?} {name}");
    }
}
