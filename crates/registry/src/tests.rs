//! Compares the rules with what upstream's API server (v1.37.1) answered to the same requests: `tests/*.jsonl`, a
//! recording a line. `CORTEN_RECORDED` may name a folder with other recordings of the same form.

mod linear;

use api::Tree;
use api::model::Resource;
use machinery::fieldpath::aggregate;

use crate::kind::Kind;
use crate::strategy::Context;
use crate::tree::{as_object, ensure, get, object_mut, text};

fn resource(object: &Tree) -> &'static Kind {
    let version = text(object, "apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let row = api::tables::kind(group, version, text(object, "kind")).unwrap();
    crate::kind::built_in(group, version, &row.plural).unwrap()
}

fn context<'a>(resource: &'a Resource, object: &'a Tree, subresource: Option<&'a str>) -> Context<'a> {
    Context {
        now: jiff::Timestamp::UNIX_EPOCH,
        resource,
        subresource,
        namespace: text(object, "metadata.namespace"),
        name: text(object, "metadata.name"),
    }
}

const POD_ADMISSION: &[&str] = &[
    "volumes",
    "tolerations",
    "priority",
    "preemptionPolicy",
    "serviceAccountName",
    "serviceAccount",
    "containers",
    "initContainers",
];

fn recorded(name: &str, own: &str) -> Vec<Tree> {
    let other = std::env::var("CORTEN_RECORDED").ok();
    let text = other.and_then(|folder| std::fs::read_to_string(format!("{folder}/{name}")).ok());
    let text = text.unwrap_or_else(|| own.to_owned());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the server sets, or admission.
fn strip(object: &mut Tree) {
    if let Some(status) = object_mut(object, "status") {
        status.remove("lastPhaseTransitionTime");
        for condition in status.get_mut("conditions").and_then(Tree::as_array_mut).into_iter().flatten() {
            as_object(condition).remove("lastTransitionTime");
        }
    }
    if let Some(metadata) = object_mut(object, "metadata") {
        for field in ["managedFields", "creationTimestamp", "resourceVersion"] {
            metadata.remove(field);
        }
        // Finalizers that an admission plugin adds.
        if metadata
            .get("finalizers")
            .and_then(|all| all[0].as_str())
            .is_some_and(|one| one.ends_with("c-protection") || one.ends_with("pv-protection"))
        {
            metadata.remove("finalizers");
        }
    }
}

/// As it comes back from the store.
fn stored(resource: &Kind, object: &mut Tree) {
    let message = resource.message();
    if resource.storage_json || object["apiVersion"] != resource.api_version() {
        return;
    }
    let (version, kind) = (text(object, "apiVersion").to_owned(), text(object, "kind").to_owned());
    let header = api::wire::TypeMeta { api_version: &version, kind: &kind };
    let mut raw = Vec::new();
    api::wire::tree_to_proto(object, message, &mut raw).unwrap();
    *object = api::wire::proto_to_tree(&raw, message, Some(header)).unwrap();
    resource.strategy(None).default(object).unwrap();
}

/// Objects as they came, and as they were stored: to the byte, but for what admission and allocators did.
#[test]
fn created_objects() {
    let mut failures = 0;
    for pair in recorded("created.jsonl", include_str!("tests/created.jsonl")) {
        let (mut input, mut expect) = (pair["input"].clone(), pair["output"].clone());
        let resource = resource(&input);
        let strategy = resource.strategy(None);
        let first = strategy.first_warnings(&input);
        ensure(&mut input, "metadata").insert("uid", get(&expect, "metadata.uid").clone());
        let foreign: &[&str] = match &*resource.kind {
            "Pod" => POD_ADMISSION,
            "Service" => {
                &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "ports", "healthCheckNodePort"]
            }
            "Node" => &["taints"],
            "CertificateSigningRequest" => &["username", "groups", "extra"],
            _ => &[],
        };
        for field in foreign {
            let value = get(&expect, &format!("spec.{field}")).clone();
            as_object(as_object(&mut input).entry("spec").or_insert(Tree::Null))
                .insert((*field).to_owned(), value);
        }
        strategy.default(&mut input).unwrap();
        let before = input.clone();
        let context = context(resource, &before, None);
        strategy.prepare_for_create(&context, &mut input).unwrap();
        let expected_warnings = &pair["warnings"];
        let deprecated = crate::kinds::warnings::deprecated(resource).map(str::to_owned);
        let got: Vec<String> =
            deprecated.into_iter().chain(first).chain(strategy.warnings(&context, &input, None)).collect();
        if !expected_warnings.is_null() && Tree::from(got.clone()) != *expected_warnings {
            failures += 1;
            println!("--- {} warnings\n got {got:?}\nwant {expected_warnings}", resource.kind);
        }
        let errors = strategy.validate(&context, &input);
        stored(resource, &mut input);
        strip(&mut input);
        strip(&mut expect);
        let (got, want) = (input.to_string(), expect.to_string());
        if got != want {
            failures += 1;
            println!("--- {} {}\n got {got}\nwant {want}", resource.kind, text(&expect, "metadata.name"));
        }
        if !errors.is_empty() {
            failures += 1;
            println!("--- {} {}: {errors:?}", resource.kind, text(&expect, "metadata.name"));
        }
    }
    assert_eq!(failures, 0);
}

/// Changes of an object, a base and what was made of it, and what was said: nothing, or this.
#[test]
fn changed_objects() {
    let mut failures = 0;
    let mut base = Tree::Null;
    for case in recorded("changes.jsonl", include_str!("tests/changes.jsonl")) {
        if let Some(object) = case.get("base") {
            base = object.clone();
            continue;
        }
        let mut input = base.clone();
        apply(&mut input, case["at"].as_array().unwrap(), case.get("put"));
        let resource = resource(&input);
        ensure(&mut input, "metadata").insert("uid", NO_UID.into());
        if let ("Pod", Some(spec)) = (&*resource.kind, object_mut(&mut input, "spec")) {
            // an admission plugin sets the service account
            crate::tree::fill(spec, "serviceAccountName", "default");
        }
        let strategy = resource.strategy(None);
        strategy.default(&mut input).unwrap();
        let before = input.clone();
        let context = context(resource, &before, None);
        strategy.prepare_for_create(&context, &mut input).unwrap();
        let got = complaint(&strategy.validate(&context, &input));
        if got.as_deref() != case["invalid"].as_str() {
            failures += 1;
            println!("---\n got {got:?}\nwant {}\n for {} {case}", case["invalid"], resource.kind);
        }
    }
    assert_eq!(failures, 0);
}

/// Sets the value at a path, or removes it.
fn apply(tree: &mut Tree, path: &[Tree], value: Option<&Tree>) {
    let (last, steps) = path.split_last().unwrap();
    let mut place = tree;
    for step in steps {
        place = match step {
            Tree::Number(index) => &mut place[index.as_u64().unwrap() as usize],
            step => &mut place[step.as_str().unwrap()],
        };
    }
    match (last, value) {
        (Tree::Number(index), None) => {
            place.as_array_mut().unwrap().remove(index.as_u64().unwrap() as usize);
        }
        (Tree::Number(index), Some(value)) => place[index.as_u64().unwrap() as usize] = value.clone(),
        (key, None) => {
            as_object(place).remove(key.as_str().unwrap());
        }
        (key, Some(value)) => place[key.as_str().unwrap()] = value.clone(),
    }
}

const NO_UID: &str = "00000000-0000-0000-0000-000000000000";

fn complaint(errors: &[api::status::Cause]) -> Option<String> {
    (!errors.is_empty()).then(|| aggregate(errors))
}

/// New objects and what was said of them; nothing of good ones.
#[test]
fn refused_objects() {
    let mut failures = 0;
    for case in recorded("refused.jsonl", include_str!("tests/refused.jsonl")) {
        let mut input = case["object"].clone();
        let resource = resource(&input);
        let strategy = resource.strategy(None);
        ensure(&mut input, "metadata").insert("uid", NO_UID.into());
        strategy.default(&mut input).unwrap();
        let before = input.clone();
        let context = context(resource, &before, None);
        strategy.prepare_for_create(&context, &mut input).unwrap();
        let got = complaint(&strategy.validate(&context, &input));
        if got.as_deref() != case["invalid"].as_str() {
            failures += 1;
            println!("---\n got {got:?}\nwant {}\n for {}", case["invalid"], case["object"]);
        }
    }
    assert_eq!(failures, 0);
}

/// Updates: the old object, a merge patch that makes the new one, what was said, and the generation that came out.
#[test]
fn refused_updates() {
    let mut failures = 0;
    for case in recorded("updates.jsonl", include_str!("tests/updates.jsonl")) {
        let old = &case["old"];
        let mut input = machinery::patch::merge(old, &case["patch"]).unwrap();
        let resource = resource(old);
        let subresource = case["subresource"].as_str().filter(|name| !name.is_empty());
        let strategy = resource.strategy(subresource);
        strategy.default(&mut input).unwrap();
        let before = input.clone();
        let context = context(resource, &before, subresource);
        strategy.prepare_for_update(&context, &mut input, old);
        let got = complaint(&strategy.validate_update(&context, &input, old));
        let generation = got.is_none() && get(&input, "metadata.generation") != &case["generation"];
        for (path, want) in case["becomes"].as_object().into_iter().flatten() {
            if !crate::tree::same(get(&input, path), want) {
                failures += 1;
                println!("---\n got {path} {}\nwant {want}\n for {}", get(&input, path), case["patch"]);
            }
        }
        if got.as_deref() != case["invalid"].as_str() || generation {
            failures += 1;
            let generation = get(&input, "metadata.generation");
            println!(
                "---\n got {got:?} generation {generation}\nwant {} {}",
                case["invalid"], case["generation"]
            );
            println!(" for {} {}", resource.kind, case["patch"]);
        }
    }
    assert_eq!(failures, 0);
}

/// The crate's documentation names every kind that has no rules of its own.
#[test]
fn kinds_without_rules_are_named() {
    let text = include_str!("lib.rs");
    for kind in crate::kind::by_default() {
        let review = kind.storage_prefix.is_empty() && !kind.profile.reported;
        let named = text.contains(&format!("`{}`", kind.plural));
        assert!(named || kind.profile.full || review, "{}", kind.plural);
    }
}

#[test]
fn every_kind_has_a_strategy() {
    assert_eq!(crate::kind::by_default().count(), api::tables::resources().len());
    for kind in crate::kind::by_default() {
        let mut object = api::json!({"metadata": {"name": "x"}});
        kind.strategy(None).default(&mut object).unwrap();
        assert!(object.is_object(), "{}", kind.plural);
        assert!(!crate::columns::definitions(kind).is_empty());
    }
}

/// What is stored of a new object, where that is not what its defaults and its status would make of it.
#[test]
fn new_objects_are_stored_as_upstream_stores_them() {
    let check = |object: Tree, part: &str, expect: Tree| {
        let (mut object, resource) = (object.clone(), resource(&object));
        let strategy = resource.strategy(None);
        strategy.default(&mut object).unwrap();
        strategy.prepare_for_create(&context(resource, &object.clone(), None), &mut object).unwrap();
        assert_eq!(get(&object, part), &expect, "{object}");
    };
    let claim =
        api::json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Bound"}});
    check(claim, "status", api::json!({}));
    for version in ["certificates.k8s.io/v1", "certificates.k8s.io/v1beta1"] {
        let request = api::json!({"apiVersion": version, "kind": "PodCertificateRequest", "spec": {}});
        check(request.clone(), "spec.maxExpirationSeconds", 86400.into());
        check(request, "metadata.generation", Tree::Null);
    }
}

#[test]
fn the_spec_of_a_pod_certificate_request_is_immutable() {
    let request = |seconds: u32| {
        api::json!({"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest",
            "metadata": {"name": "a", "namespace": "b", "resourceVersion": "1"},
            "spec": {"signerName": "a.b/c", "maxExpirationSeconds": seconds}})
    };
    let resource = resource(&request(0));
    let errors = |new: &Tree, old: &Tree| {
        let found = resource.strategy(None).validate_update(&context(resource, new, None), new, old);
        found.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
    };
    assert!(errors(&request(7200), &request(7200)).is_empty());
    let expect = "Invalid value: {\"SignerName\":\"a.b/c\",\"PodName\":\"\",\"PodUID\":\"\",\"ServiceAccountName\":\"\",\"ServiceAccountUID\":\"\",\"NodeName\":\"\",\"NodeUID\":\"\",\"MaxExpirationSeconds\":7200,\"PKIXPublicKey\":null,\"ProofOfPossession\":null,\"StubPKCS10Request\":null,\"UnverifiedUserAnnotations\":null}: field is immutable";
    assert_eq!(errors(&request(7200), &request(86400)), [expect]);
}
