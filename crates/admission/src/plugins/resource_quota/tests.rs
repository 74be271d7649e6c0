//! Quotas over a store in memory, whose cache is late and whose writes are conditional.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::{Status, Tree, json};
use async_trait::async_trait;
use machinery::labels::Selector;
use parking_lot::Mutex;
use registry::Kind;
use registry::tree::{ensure, get, text};

use super::*;
use crate::policies::{Checked, Policies};
use crate::tests::attributes;
use crate::{CallError, Called, Change, ClientConfig, Found, Hook, Question, User};

/// Quotas by name; `cached` is what reads show.
#[derive(Default)]
struct Quotas {
    stored: Mutex<BTreeMap<String, Tree>>,
    cached: Mutex<BTreeMap<String, Arc<Tree>>>,
    writes: AtomicUsize,
    classes: Vec<Tree>,
}

impl Quotas {
    fn put(&self, name: &str, spec: Tree, hard: Tree, used: Tree) {
        let quota = json!({"metadata": {"name": name, "namespace": "t", "resourceVersion": "1"},
            "spec": spec, "status": {"hard": hard, "used": used}});
        self.stored.lock().insert(name.to_owned(), quota);
        self.show();
    }

    fn show(&self) {
        let stored = self.stored.lock();
        *self.cached.lock() =
            stored.iter().map(|(name, quota)| (name.clone(), Arc::new(quota.clone()))).collect();
    }

    fn used(&self, name: &str, resource: &str) -> String {
        let stored = self.stored.lock();
        get(&stored[name], "status.used").get(resource).and_then(Tree::as_str).unwrap_or_default().to_owned()
    }

    /// As another server would.
    fn charge_elsewhere(&self, name: &str, resource: &str, amount: &str) {
        let mut stored = self.stored.lock();
        let quota = stored.get_mut(name).unwrap();
        ensure(quota, "status.used").insert(resource.to_owned(), amount.into());
        bump(quota);
    }
}

fn bump(quota: &mut Tree) {
    let next = text(quota, "metadata.resourceVersion").parse::<u64>().unwrap() + 1;
    ensure(quota, "metadata").insert("resourceVersion", next.to_string().into());
}

#[async_trait]
impl Services for Quotas {
    fn get(&self, _: &str, _: &str, _: &str, name: &str) -> Found {
        Ok(self.cached.lock().get(name).cloned())
    }

    fn list(&self, _: &str, plural: &str, _: &str) -> Result<Vec<Arc<Tree>>, Status> {
        Ok(match plural {
            "resourcequotas" => self.cached.lock().values().cloned().collect(),
            _ => self.classes.iter().cloned().map(Arc::new).collect(),
        })
    }

    async fn fresh(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Found {
        self.show();
        self.get(group, plural, namespace, name)
    }

    async fn create(&self, _: &str, plural: &str, _: &str, _: Tree) -> Result<Tree, Status> {
        Err(Status::not_found("", plural, ""))
    }

    async fn update_status(
        &self,
        _: &str,
        plural: &str,
        _: &str,
        name: &str,
        change: Change<'_>,
    ) -> Result<Tree, Status> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let changed = {
            let mut stored = self.stored.lock();
            let quota = stored.get_mut(name).ok_or_else(|| Status::not_found("", plural, name))?;
            let mut changed = quota.clone();
            change(&mut changed)?;
            bump(&mut changed);
            *quota = changed.clone();
            changed
        };
        self.writes.fetch_add(1, Ordering::Relaxed);
        // the answer to a write comes a moment after it
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(changed)
    }

    async fn allows(&self, _: &User<'_>, _: &Question<'_>) -> bool {
        false
    }

    async fn check(&self, _: &User<'_>, _: &cel::Check) -> cel::Answer {
        cel::Answer::default()
    }

    fn hooks(&self, _: bool) -> Option<Arc<[Arc<Hook>]>> {
        None
    }

    fn policies(&self, _: bool) -> Option<Arc<Policies>> {
        None
    }

    async fn object(&self, _: &Kind, _: &str, _: &str) -> Found {
        Ok(None)
    }

    async fn select(&self, _: &Kind, _: &str, _: &Selector) -> Result<Vec<Arc<Tree>>, Status> {
        Ok(Vec::new())
    }

    fn checked(&self, _: &Checked<'_>) {}

    async fn ready(&self) -> bool {
        true
    }

    async fn call(&self, _: &ClientConfig, _: Vec<u8>, _: Duration) -> Result<Tree, CallError> {
        Err(CallError::Failed { reason: "nobody is there".to_owned(), code: 503 })
    }

    fn called(&self, _: &Called<'_>) {}
}

struct Case {
    quotas: Arc<Quotas>,
    plugin: ResourceQuota,
}

impl Case {
    fn new(limited: Vec<Limited>) -> Case {
        let quotas = Arc::new(Quotas::default());
        let services: Arc<dyn Services> = quotas.clone();
        Case { quotas, plugin: ResourceQuota::new(services, limited) }
    }

    async fn ask(
        &self,
        (group, plural): (&str, &str),
        subresource: &str,
        object: Tree,
        old: Option<Tree>,
        dry_run: bool,
    ) -> Result<(), String> {
        let (groups, extra) = (Vec::new(), BTreeMap::new());
        let user = User { name: "u", uid: "", groups: &groups, extra: &extra };
        let resource = registry::kind::built_in(group, "v1", plural).unwrap();
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let name = text(&object, "metadata.name").to_owned();
        let attributes = Attributes {
            subresource,
            namespace: "t",
            name: &name,
            old: old.as_ref(),
            dry_run,
            ..attributes(user, operation, resource)
        };
        let point = Point { resource, subresource, operation };
        if !self.plugin.validates(&point) {
            return Ok(());
        }
        self.plugin.validate(&attributes, &object).await.map_err(|status| status.message)
    }

    async fn create(&self, plural: &str, object: Tree) -> Result<(), String> {
        self.ask(("", plural), "", object, None, false).await
    }
}

fn pod(requests: Tree) -> Tree {
    json!({"metadata": {"name": "p", "namespace": "t"}, "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}})
}

#[tokio::test(start_paused = true)]
async fn parallel_requests_take_no_more_than_there_is_and_share_writes() {
    for round in 0..20 {
        let case = Case::new(Vec::new());
        case.quotas.put("q", json!({}), json!({"pods": "10"}), json!({"pods": "0"}));
        case.quotas.put("other", json!({}), json!({"count/pods": "40"}), json!({"count/pods": "0"}));
        let all = (0..64).map(|_| case.create("pods", pod(json!({}))));
        // another server has its part
        case.quotas.charge_elsewhere("q", "pods", &(round % 3).to_string());
        let answers = futures::future::join_all(all).await;
        let granted = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(granted, 10 - round % 3);
        assert_eq!(case.quotas.used("q", "pods"), "10");
        assert_eq!(
            answers.into_iter().find_map(Result::err).unwrap(),
            "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10"
        );
        assert!(case.quotas.writes.load(Ordering::Relaxed) <= 6, "{:?}", case.quotas.writes);
        assert!(case.plugin.batches.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_written_once_although_those_who_began_it_are_gone() {
    for wait in [0, 3] {
        let case = Case::new(Vec::new());
        case.quotas.put("q", json!({}), json!({"pods": "10"}), json!({"pods": "0"}));
        let mut first = Box::pin(case.create("pods", pod(json!({}))));
        assert!(futures::poll!(&mut first).is_pending());
        let mut batch: Vec<_> = (0..4).map(|_| Box::pin(case.create("pods", pod(json!({}))))).collect();
        for one in &mut batch {
            assert!(futures::poll!(one).is_pending());
        }
        // one gives up before it is charged
        drop(batch.pop());
        first.await.unwrap();
        let mut writer = batch.remove(0);
        assert!(futures::poll!(&mut writer).is_pending());
        // another gives up while its batch is written, or has just been
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert!(futures::poll!(&mut writer).is_pending());
        drop(writer);
        for one in batch {
            one.await.unwrap();
        }
        assert_eq!(case.quotas.used("q", "pods"), "4");
        assert_eq!(case.quotas.writes.load(Ordering::Relaxed), 2);
        assert!(case.plugin.batches.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_alone_leaves_nothing_behind() {
    let case = Case::new(Vec::new());
    case.quotas.put("q", json!({}), json!({"pods": "10"}), json!({"pods": "0"}));
    let mut only = Box::pin(case.create("pods", pod(json!({}))));
    assert!(futures::poll!(&mut only).is_pending());
    drop(only);
    assert!(case.plugin.batches.is_idle());
}

#[tokio::test(start_paused = true)]
async fn refusals() {
    let case = Case::new(Vec::new());
    case.quotas.put(
        "compute",
        json!({}),
        json!({"cpu": "1", "memory": "1Gi", "requests.example.com/gpu": "1"}),
        json!({"cpu": "500m", "memory": "0", "requests.example.com/gpu": "0"}),
    );
    for (object, expect) in [
        (pod(json!({"cpu": "1"})), "failed quota: compute: must specify memory for: c"),
        (
            pod(json!({"cpu": "600m", "memory": "2Gi"})),
            "exceeded quota: compute, requested: cpu=600m,memory=2Gi, used: cpu=500m,memory=0, limited: cpu=1,memory=1Gi",
        ),
        (
            pod(json!({"cpu": "100m", "memory": "1Mi", "example.com/gpu": "2"})),
            "exceeded quota: compute, requested: requests.example.com/gpu=2, used: requests.example.com/gpu=0, limited: requests.example.com/gpu=1",
        ),
        (
            pod(json!({"cpu": "-1", "memory": "1"})),
            "quota usage is negative for resource(s): cpu,requests.cpu",
        ),
    ] {
        assert_eq!(
            case.create("pods", object).await.unwrap_err(),
            format!("pods \"p\" is forbidden: {expect}")
        );
    }
    case.quotas.put("late", json!({}), json!({"configmaps": "5", "count/configmaps": "5"}), json!({}));
    assert_eq!(
        case.create("configmaps", json!({"metadata": {"name": "p"}})).await.unwrap_err(),
        "configmaps \"p\" is forbidden: status unknown for quota: late, resources: configmaps,count/configmaps"
    );
    assert_eq!(case.quotas.used("compute", "cpu"), "500m");
}

#[tokio::test(start_paused = true)]
async fn updates_are_charged_with_what_they_add() {
    let case = Case::new(Vec::new());
    case.quotas.put(
        "q",
        json!({}),
        json!({"requests.storage": "10Gi", "persistentvolumeclaims": "1", "services.nodeports": "2", "cpu": "2", "pods": "1"}),
        json!({"requests.storage": "4Gi", "persistentvolumeclaims": "1", "services.nodeports": "0", "cpu": "1", "pods": "1"}),
    );
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}});
    let claims = ("", "persistentvolumeclaims");
    case.ask(claims, "", claim("6Gi"), Some(claim("4Gi")), false).await.unwrap();
    assert_eq!(case.quotas.used("q", "requests.storage"), "6Gi");
    let refused = case.ask(claims, "", claim("12Gi"), Some(claim("6Gi")), false).await.unwrap_err();
    assert!(
        refused.ends_with(
            "requested: requests.storage=6Gi, used: requests.storage=6Gi, limited: requests.storage=10Gi"
        ),
        "{refused}"
    );
    // less gives nothing back: the controller counts that
    case.ask(claims, "", claim("1Gi"), Some(claim("6Gi")), false).await.unwrap();
    assert_eq!(case.quotas.used("q", "requests.storage"), "6Gi");
    // a status says what is the case
    let mut grown = claim("6Gi");
    grown["status"] = json!({"allocatedResources": {"storage": "20Gi"}});
    case.ask(claims, "status", grown, Some(claim("6Gi")), false).await.unwrap();
    assert_eq!(case.quotas.used("q", "requests.storage"), "20Gi");

    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}, {"port": 3}]}});
    let refused =
        case.ask(("", "services"), "", service("NodePort"), Some(service("ClusterIP")), false).await;
    assert!(refused.unwrap_err().contains("services.nodeports=3"));

    let sized = |cpu: &str| pod(json!({"cpu": cpu}));
    case.ask(("", "pods"), "resize", sized("1500m"), Some(sized("1")), false).await.unwrap();
    assert_eq!(case.quotas.used("q", "cpu"), "1500m");
    assert!(case.ask(("", "pods"), "resize", sized("3"), Some(sized("1500m")), false).await.is_err());
    case.ask(("", "pods"), "", sized("3"), Some(sized("1")), false).await.unwrap();
    case.ask(("", "pods"), "status", sized("3"), Some(sized("1")), false).await.unwrap();
    assert_eq!(case.quotas.used("q", "cpu"), "1500m");
}

#[tokio::test(start_paused = true)]
async fn dry_runs_are_refused_and_not_counted() {
    let case = Case::new(Vec::new());
    case.quotas.put("q", json!({}), json!({"secrets": "1"}), json!({"secrets": "0"}));
    let secret = json!({"metadata": {"name": "s"}});
    case.ask(("", "secrets"), "", secret.clone(), None, true).await.unwrap();
    assert_eq!(case.quotas.used("q", "secrets"), "0");
    case.create("secrets", secret.clone()).await.unwrap();
    assert!(case.ask(("", "secrets"), "", secret, None, true).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn scopes_and_moves_between_them() {
    let case = Case::new(Vec::new());
    case.quotas.put(
        "long",
        json!({"scopes": ["NotTerminating"]}),
        json!({"pods": "1"}),
        json!({"pods": "1"}),
    );
    case.quotas.put("short", json!({"scopes": ["Terminating"]}), json!({"pods": "1"}), json!({"pods": "0"}));
    let mut ending = pod(json!({}));
    assert!(case.create("pods", ending.clone()).await.unwrap_err().contains("exceeded quota: long"));
    ending["spec"]["activeDeadlineSeconds"] = json!(5);
    case.ask(("", "pods"), "", ending.clone(), Some(pod(json!({}))), false).await.unwrap();
    assert_eq!(case.quotas.used("short", "pods"), "1");
    assert!(case.create("pods", ending).await.unwrap_err().contains("exceeded quota: short"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_used_of_what_is_limited_without_a_quota() {
    let expression = ScopeExpression {
        name: "PriorityClass".into(),
        operator: "In".into(),
        values: vec!["critical".into()],
    };
    let case = Case::new(vec![
        Limited { resource: "pods".into(), contains: vec!["cpu".into()], ..Limited::default() },
        Limited { resource: "pods".into(), scopes: vec![expression], ..Limited::default() },
    ]);
    assert_eq!(
        case.create("pods", pod(json!({"cpu": "1"}))).await.unwrap_err(),
        "pods \"p\" is forbidden: insufficient quota to consume: cpu,requests.cpu"
    );
    let mut critical = pod(json!({}));
    critical["spec"]["priorityClassName"] = "critical".into();
    assert_eq!(
        case.create("pods", critical.clone()).await.unwrap_err(),
        "insufficient quota to match these scopes: [{PriorityClass In [critical]}]"
    );
    case.create("pods", pod(json!({}))).await.unwrap();
    let selector = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["critical"]}]});
    case.quotas.put("q", json!({"scopeSelector": selector}), json!({"pods": "1"}), json!({"pods": "0"}));
    case.create("pods", critical).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn devices_are_counted_by_class_and_extended_resource() {
    let mut quotas = Quotas::default();
    quotas
        .classes
        .push(json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}));
    let quotas = Arc::new(quotas);
    let services: Arc<dyn Services> = quotas.clone();
    let case = Case { plugin: ResourceQuota::new(services, Vec::new()), quotas };
    case.quotas.put(
        "q",
        json!({}),
        json!({"gpu.deviceclass.resource.k8s.io/devices": "9", "requests.example.com/gpu": "4"}),
        json!({"gpu.deviceclass.resource.k8s.io/devices": "0", "requests.example.com/gpu": "0"}),
    );
    let claim = |count: i64| {
        json!({"metadata": {"name": "r"}, "spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count}}]}}})
    };
    let claims = ("resource.k8s.io", "resourceclaims");
    case.ask(claims, "", claim(3), None, false).await.unwrap();
    assert_eq!(case.quotas.used("q", "gpu.deviceclass.resource.k8s.io/devices"), "3");
    let refused = case.ask(claims, "", claim(2), None, false).await.unwrap_err();
    assert!(
        refused.contains(
            "exceeded quota: q, requested: requests.example.com/gpu=2, used: requests.example.com/gpu=3"
        ),
        "{refused}"
    );
}
