//! The chain over made-up objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree, json};
use async_trait::async_trait;
use registry::Kind;
use registry::tree::{get, text};

use super::policies::{Checked, Policies};
use super::*;

/// What may be done: verb, resource, name.
pub type Right = (&'static str, &'static str, &'static str);

/// The services of a server that has these objects and grants these rights.
#[derive(Default)]
pub struct Objects {
    pub objects: HashMap<String, Arc<Tree>>,
    pub rights: Vec<Right>,
    pub created: parking_lot::Mutex<Vec<String>>,
    pub policies: Arc<Policies>,
    pub hooks: Vec<Arc<Hook>>,
}

impl Objects {
    pub fn with(mut self, plural: &str, object: Tree) -> Self {
        let key =
            format!("{plural}/{}/{}", text(&object, "metadata.namespace"), text(&object, "metadata.name"));
        self.objects.insert(key, Arc::new(object));
        self
    }
}

#[async_trait]
impl Services for Objects {
    fn get(&self, _: &str, plural: &str, namespace: &str, name: &str) -> Found {
        Ok(self.objects.get(&format!("{plural}/{namespace}/{name}")).cloned())
    }

    fn list(&self, _: &str, plural: &str, namespace: &str) -> Result<Vec<Arc<Tree>>, Status> {
        let prefix = match namespace {
            "" => format!("{plural}/"),
            namespace => format!("{plural}/{namespace}/"),
        };
        let mine = self.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        Ok(mine.map(|(_, object)| object.clone()).collect())
    }

    async fn fresh(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Found {
        self.get(group, plural, namespace, name)
    }

    async fn check(&self, _: &User<'_>, check: &cel::Check) -> cel::Answer {
        let allowed = self.rights.iter().any(|right| right.0 == check.verb);
        cel::Answer { allowed, ..cel::Answer::default() }
    }

    fn policies(&self, _: bool) -> Option<Arc<Policies>> {
        Some(self.policies.clone())
    }

    async fn object(&self, kind: &Kind, namespace: &str, name: &str) -> Found {
        self.get("", &kind.plural, namespace, name)
    }

    async fn select(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &machinery::labels::Selector,
    ) -> Result<Vec<Arc<Tree>>, Status> {
        let mut all = self.list("", &kind.plural, namespace)?;
        all.retain(|object| selector.matches_object(object));
        Ok(all)
    }

    fn checked(&self, _: &Checked<'_>) {}

    fn hooks(&self, _: bool) -> Option<Arc<[Arc<Hook>]>> {
        Some(self.hooks.as_slice().into())
    }

    async fn ready(&self) -> bool {
        true
    }

    async fn call(&self, _: &ClientConfig, _: Vec<u8>, _: Duration) -> Result<Tree, CallError> {
        Err(CallError::Refused(Box::new(Status::too_many_requests("too many wait", 1))))
    }

    async fn create(&self, _: &str, plural: &str, _: &str, object: Tree) -> Result<Tree, Status> {
        self.created.lock().push(format!("{plural}/{}", text(&object, "metadata.name")));
        Ok(object)
    }

    async fn update_status(
        &self,
        _: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        _: Change<'_>,
    ) -> Result<Tree, Status> {
        Err(Status::not_found("", plural, &format!("{namespace}/{name}")))
    }

    fn called(&self, _: &Called<'_>) {}

    async fn allows(&self, _: &User<'_>, question: &Question<'_>) -> bool {
        self.rights.contains(&(question.verb, question.resource, question.name))
    }
}

/// A request that nobody looks at.
pub struct Silent;

impl Context for Silent {
    fn versions(&self, _: &Kind) -> Vec<Arc<Kind>> {
        Vec::new()
    }

    fn kind(&self, gvk: &Gvk<'_>) -> Option<Arc<Kind>> {
        let same = |own: &&Arc<Kind>| Gvk::of(own) == *gvk;
        registry::kind::all().iter().find(same).cloned()
    }

    fn warn(&self, _: String) {}

    fn annotate(&self, _: String, _: String) {}
}

/// Attributes that say nothing yet but who asks for what.
pub fn attributes<'a>(user: User<'a>, operation: Operation, resource: &'a Arc<Kind>) -> Attributes<'a> {
    Attributes {
        user,
        operation,
        resource,
        subresource: "",
        kind: Gvk::of(resource),
        shown: resource,
        namespace: "",
        name: "",
        generate_name: "",
        old: None,
        options: &|| Tree::Null,
        dry_run: false,
        context: &Silent,
        round: Box::leak(Box::default()),
    }
}

fn objects() -> Objects {
    Objects::default()
        .with("namespaces", json!({"metadata": {"name": "t"}, "status": {"phase": "Active"}}))
        .with("namespaces", json!({"metadata": {"name": "gone"}, "status": {"phase": "Terminating"}}))
        .with(
            "serviceaccounts",
            json!({"metadata": {"name": "default", "namespace": "t"}, "imagePullSecrets": [{"name": "r"}]}),
        )
        .with(
            "priorityclasses",
            json!({"metadata": {"name": "high"}, "value": 9, "preemptionPolicy": "Never"}),
        )
        .with("nodes", json!({"metadata": {"name": "node-1", "uid": "u"}}))
}

struct Case<'a> {
    user: &'a str,
    group: &'a str,
    plural: &'a str,
    namespace: &'a str,
    operation: Operation,
}

const POD: Case<'static> =
    Case { user: "admin", group: "", plural: "pods", namespace: "t", operation: Operation::Create };

/// Runs a future that never waits.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => unreachable!("plugins over a map do not wait"),
    }
}

fn run(case: &Case<'_>, object: Tree, old: Option<&Tree>) -> Result<Tree, String> {
    run_with(objects(), case, object, old)
}

fn run_with(objects: Objects, case: &Case<'_>, mut object: Tree, old: Option<&Tree>) -> Result<Tree, String> {
    let services: Arc<dyn Services> = Arc::new(objects);
    let chain =
        standard(&services, &Settings::default(), |name| on_by_default(name) || name == "NodeRestriction");
    let groups =
        if case.user.starts_with("system:node:") { vec!["system:nodes".to_owned()] } else { Vec::new() };
    let extra = BTreeMap::new();
    let name = text(old.unwrap_or(&object), "metadata.name").to_owned();
    let user = User { name: case.user, uid: "", groups: &groups, extra: &extra };
    let resource = registry::kind::built_in(case.group, "v1", case.plural).unwrap();
    let attributes = Attributes {
        namespace: case.namespace,
        name: &name,
        old,
        ..attributes(user, case.operation, resource)
    };
    let plan = chain.plan(resource);
    ready(async {
        chain.admit(&plan, &attributes, &mut object).await?;
        chain.validate(&plan, &attributes, &object).await
    })
    .map_err(|status: Status| status.message)?;
    Ok(object)
}

fn pod(spec: Tree) -> Tree {
    json!({"metadata": {"name": "p", "namespace": "t"}, "spec": spec})
}

#[test]
fn a_pod_gets_its_account_tolerations_and_priority() {
    let got =
        run(&POD, pod(json!({"containers": [{"name": "c"}], "priorityClassName": "high"})), None).unwrap();
    assert_eq!(text(&got, "spec.serviceAccountName"), "default");
    let volume = text(&got["spec"]["volumes"][0], "name").to_owned();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    assert_eq!(got["spec"]["containers"][0]["volumeMounts"][0]["name"], json!(volume));
    assert_eq!(got["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!((&got["spec"]["priority"], text(&got, "spec.preemptionPolicy")), (&json!(9), "Never"));
    assert_eq!(got["spec"]["imagePullSecrets"], json!([{"name": "r"}]));
    let off =
        run(&POD, pod(json!({"containers": [{"name": "c"}], "automountServiceAccountToken": false})), None)
            .unwrap();
    assert!(get(&off, "spec.volumes").is_null());
}

#[test]
fn refusals() {
    let containers = json!([{"name": "c"}]);
    let node = Case { user: "system:node:node-1", ..POD };
    let nodes = Case { plural: "nodes", namespace: "", ..node };
    let mirror = json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "node-1"}});
    for (case, object, expect) in [
        (
            &POD,
            pod(json!({"containers": containers, "serviceAccountName": "x"})),
            "pods \"p\" is forbidden: error looking up service account t/x: serviceaccount \"x\" not found",
        ),
        (
            &POD,
            pod(json!({"containers": containers, "priority": 5})),
            "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
        ),
        (
            &POD,
            pod(json!({"containers": containers, "priorityClassName": "x"})),
            "pods \"p\" is forbidden: no PriorityClass with name x was found",
        ),
        (&Case { namespace: "none", ..POD }, pod(json!({})), "namespaces \"none\" not found"),
        (
            &Case { namespace: "gone", ..POD },
            pod(json!({})),
            "pods \"p\" is forbidden: unable to create new content in namespace gone because it is being terminated",
        ),
        (
            &node,
            pod(json!({"containers": containers})),
            "pods \"p\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"node-1\" can only create mirror pods",
        ),
        (
            &node,
            mirror,
            "pods \"p\" is forbidden: node \"node-1\" can only create pods with an owner reference set to itself",
        ),
        (
            &nodes,
            json!({"metadata": {"name": "x"}}),
            "nodes \"x\" is forbidden: node \"node-1\" is not allowed to modify node \"x\"",
        ),
        (
            &nodes,
            json!({"metadata": {"name": "node-1", "labels": {"node-role.kubernetes.io/x": "", "kubernetes.io/os": "linux"}}}),
            "nodes \"node-1\" is forbidden: node \"node-1\" is not allowed to set the following labels: node-role.kubernetes.io/x",
        ),
    ] {
        assert_eq!(run(case, object, None).unwrap_err(), expect);
    }
    let old = json!({"metadata": {"name": "kube-system"}});
    let delete = Case { plural: "namespaces", namespace: "", operation: Operation::Delete, ..POD };
    assert_eq!(
        run(&delete, Tree::Null, Some(&old)).unwrap_err(),
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
}

#[test]
fn a_new_node_is_tainted() {
    let case = Case { plural: "nodes", namespace: "", ..POD };
    let got = run(&case, json!({"metadata": {"name": "n"}}), None).unwrap();
    assert_eq!(
        got["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}

#[test]
fn storage_in_use_is_protected() {
    let check = |group: &str, plural: &str, namespace: &str, expect: &str| {
        let case = Case { group, plural, namespace, ..POD };
        let named = json!({"metadata": {"name": "x", "namespace": namespace, "finalizers": ["a/b"]}});
        let finalizers = get(&run(&case, named, None).unwrap(), "metadata.finalizers").clone();
        assert_eq!(finalizers, json!(["a/b", expect]));
        let bare = json!({"metadata": {"name": "x", "namespace": namespace}});
        let once = run(&case, bare, None).unwrap();
        assert_eq!(get(&once, "metadata.finalizers"), &json!([expect]));
        assert_eq!(run(&case, once.clone(), None).unwrap(), once);
    };
    check("", "persistentvolumeclaims", "t", "kubernetes.io/pvc-protection");
    check("", "persistentvolumes", "", "kubernetes.io/pv-protection");
    check("storage.k8s.io", "volumeattributesclasses", "", "kubernetes.io/vac-protection");
}

#[test]
fn service_accounts_with_impossible_names() {
    let check = |name: &str, why: &str| {
        let pod = json!({"metadata": {"name": "p", "namespace": "t"}, "spec": {"serviceAccountName": name}});
        let said = run(&POD, pod, None).unwrap_err();
        assert!(said.ends_with(&format!("error looking up service account t/{name}: {why}")), "{said}");
    };
    check("../x", "invalid resource name \"../x\": [may not contain '/']");
    check("..", "invalid resource name \"..\": [may not be '..']");
    check("nope", "serviceaccount \"nope\" not found");
}

#[test]
fn plugins_run_where_they_have_something_to_do() {
    let services: Arc<dyn Services> = Arc::new(objects());
    let asking = [
        "MutatingAdmissionPolicy",
        "MutatingAdmissionWebhook",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionWebhook",
    ];
    let chain =
        standard(&services, &Settings::default(), |name| on_by_default(name) && !asking.contains(&name));
    let idle = |plural: &str, subresource: &str, operation| {
        let resource = registry::kind::built_in("", "v1", plural).unwrap();
        chain.plan(resource).is_idle(subresource, operation)
    };
    assert!(!idle("pods", "", Operation::Create));
    assert!(!idle("pods", "eviction", Operation::Create));
    assert!(!idle("configmaps", "", Operation::Create));
    assert!(idle("configmaps", "", Operation::Update));
    assert!(idle("pods", "exec", Operation::Connect));
}

#[test]
fn a_webhook_for_which_too_many_wait_matters_as_its_failures_do() {
    let check = |policy: &str, expect: Result<(), String>| {
        let hooks = Hook::all(
            &json!({"webhooks": [{"name": "h", "failurePolicy": policy, "sideEffects": "None",
            "clientConfig": {"url": "https://h"}, "admissionReviewVersions": ["v1"],
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods"]}]}]}),
        );
        let objects = Objects { hooks: hooks.into_iter().map(Arc::new).collect(), ..objects() };
        assert_eq!(run_with(objects, &POD, pod(json!({})), None).map(drop), expect, "{policy}");
    };
    check("Ignore", Ok(()));
    check("Fail", Err("too many wait".to_owned()));
}

#[test]
fn objects_without_a_name_are_called_by_what_they_will_be() {
    let (groups, extra) = (Vec::new(), BTreeMap::new());
    let user = User { name: "admin", uid: "", groups: &groups, extra: &extra };
    let pods = registry::kind::built_in("", "v1", "pods").unwrap();
    let bare = attributes(user, Operation::Create, pods);
    let said = |attributes: Attributes<'_>| attributes.forbid("no").message;
    assert_eq!(said(Attributes { generate_name: "web-", ..bare }), "pods \"web-\" is forbidden: no");
    assert_eq!(said(bare), "pods \"Unknown\" is forbidden: no");
}
