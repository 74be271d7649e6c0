//! What people add: custom resources, a policy and a webhook on each created pod.

use std::time::Duration;

use anyhow::Result;
use client::{Client, Request};
use http::Method;
use integration::stack::until;
use integration::{Stack, Webhook};
use serde_json::{Value, json};

use crate::load::{Load, measure, milliseconds};
use crate::{Bench, objects};

const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);
const GROUP: &str = "bench.example.com";

enum Found {
    Value(&'static str, f64, Option<f64>),
    Load(&'static str, Option<f64>, Load),
}

/// Results of a side are kept until all is measured: the table is the bench's, which lends its servers meanwhile.
type Results = Vec<(usize, Found)>;

pub async fn run(bench: &mut Bench) -> Result<()> {
    let mut results = Results::new();
    let measured = measures(bench, &mut results).await;
    for (side, found) in results {
        match found {
            Found::Value(what, value, budget) => bench.table.record(side, what, value, budget),
            Found::Load(what, budget, load) => load.record(&mut bench.table, side, what, budget),
        }
    }
    measured
}

async fn measures(bench: &mut Bench, results: &mut Results) -> Result<()> {
    let (definitions, count, many) = (bench.scaled(100), bench.scaled(1000), bench.scaled(10_000));
    for round in 0..bench.rounds {
        for (side, stack) in bench.stacks().await?.into_iter().enumerate() {
            let mut found = |result| results.push((side, result));
            custom(stack, round, [definitions, count, many], &mut found).await?;
            webhook(stack, round, count, &mut found).await?;
            policy(stack, round, count, &mut found).await?;
        }
    }
    Ok(())
}

/// A definition with a schema of a common size: 60 fields in three levels, and one rule.
fn definition(name: &str) -> Value {
    let fields = |count: usize| -> serde_json::Map<String, Value> {
        (0..count)
            .map(|i| {
                (format!("field{i}"), json!({"type": "string", "maxLength": 64, "description": "A field."}))
            })
            .collect()
    };
    let mut spec = fields(20);
    let part = json!({"type": "object", "properties": fields(20)});
    spec.insert("part".to_owned(), part.clone());
    spec.insert("parts".to_owned(), json!({"type": "array", "maxItems": 10, "items": part}));
    spec.insert("replicas".to_owned(), json!({"type": "integer", "default": 1, "minimum": 0}));
    let rule = json!({"rule": "self.replicas <= 100", "message": "at most 100"});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": spec, "x-kubernetes-validations": [rule]},
        "status": {"type": "object", "properties": fields(10)},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{name}s.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"plural": format!("{name}s"), "singular": name, "kind": name.to_uppercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}}}],
        },
    })
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn establish(client: &Client, name: &str) -> Result<Duration> {
    let created = std::time::Instant::now();
    client.bytes(objects::post(DEFINITIONS, &definition(name))?).await?;
    // Established, and served.
    let path = format!("/apis/{GROUP}/v1/namespaces/bench/{name}s?limit=1");
    until("a definition is served", PATIENCE, async || {
        Ok(client.bytes(Request::get(path.clone())).await.is_ok())
    })
    .await?;
    Ok(created.elapsed())
}

async fn custom(
    stack: &Stack,
    round: usize,
    [definitions, count, many]: [usize; 3],
    found: &mut impl FnMut(Found),
) -> Result<()> {
    let clients = stack.clients(CONNECTIONS)?;
    let server = stack.apiserver.process;
    let name = |i: usize| format!("kind{round}x{i}");
    // The first one brings the group.
    establish(&clients[0], &name(0)).await?;
    let (memory, cpu) = (server.rss()?, server.cpu()?);
    let mut latencies = Vec::new();
    for i in 1..=definitions {
        latencies.push(establish(&clients[0], &name(i)).await?);
    }
    latencies.sort_unstable();
    let each = |whole: f64| whole / definitions as f64;
    let mut value = |what, value, budget| found(Found::Value(what, value, budget));
    value("a CRD, created to served p50 (ms)", milliseconds(latencies[definitions / 2]), Some(100.0));
    value("a CRD, memory (MiB)", each(server.rss()? - memory), Some(0.5));
    value("a CRD, CPU (ms)", each(milliseconds(server.cpu()? - cpu)), None);

    let path = format!("/apis/{GROUP}/v1/namespaces/bench/{}s", name(0));
    let object = move |i: usize| {
        let fields: serde_json::Map<String, Value> = (0..20)
            .map(|field| (format!("field{field}"), json!(format!("the value of {i} in it"))))
            .collect();
        let mut spec = fields.clone();
        spec.insert("part".to_owned(), fields.clone().into());
        spec.insert("parts".to_owned(), json!([fields]));
        json!({"apiVersion": format!("{GROUP}/v1"), "kind": format!("KIND{round}X0"),
            "metadata": {"name": format!("custom-{i}")}, "spec": spec})
    };
    let place = path.clone();
    let load = measure(server, &clients, many, move |i| objects::post(&place, &object(i))).await?;
    found(Found::Load("POST custom resource of 3 KB", None, load));
    let place = path.clone();
    let get = move |i: usize| Ok(Request::get(format!("{place}/custom-{}", i % many)));
    let load = measure(server, &clients, 2 * count, get).await?;
    found(Found::Load("GET custom resource", Some(0.05), load));
    let place = path.clone();
    let load = measure(server, &clients[..1], 5, move |_| Ok(Request::get(place.clone()))).await?;
    found(Found::Value("LIST 10,000 custom resources, CPU (ms)", load.cpu_each(), None));
    for i in 0..=definitions {
        let path = format!("{DEFINITIONS}/{}s.{GROUP}", name(i));
        clients[0].bytes(Request::new(Method::DELETE, path)).await?;
    }
    Ok(())
}

async fn created_pods(stack: &Stack, prefix: String, count: usize) -> Result<Load> {
    let clients = stack.clients(CONNECTIONS)?;
    let path = objects::pods_path("bench");
    let pod = move |i: usize| objects::post(&path, &objects::pod(&format!("{prefix}-{i}"), i / 10, Some(0)));
    let load = measure(stack.apiserver.process, &clients, count, pod).await?;
    objects::delete_pods(&clients[0], "bench").await?;
    Ok(load)
}

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// A policy of one expression that looks at each container of each new pod.
async fn policy(stack: &Stack, round: usize, count: usize, found: &mut impl FnMut(Found)) -> Result<()> {
    let client = stack.client()?;
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "bench"},
        "spec": {"matchConstraints": {"resourceRules": rules}, "validations": [
            {"expression": "object.spec.containers.all(c, has(c.resources.limits) && !c.image.endsWith(':latest'))"},
            {"expression": "!has(object.metadata.labels) || !('forbidden' in object.metadata.labels)"},
        ]},
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "bench"}, "spec": {"policyName": "bench", "validationActions": ["Deny"]},
    });
    client.bytes(objects::post(&format!("{ADMISSION}/validatingadmissionpolicies"), &policy)?).await?;
    client.bytes(objects::post(&format!("{ADMISSION}/validatingadmissionpolicybindings"), &binding)?).await?;
    let path = format!("{}?dryRun=All", objects::pods_path("bench"));
    let mut forbidden = objects::pod("forbidden", 0, Some(0));
    forbidden["metadata"]["labels"]["forbidden"] = "yes".into();
    let acts = async || Ok(client.bytes(objects::post(&path, &forbidden)?).await.is_err());
    until("the policy acts", PATIENCE, acts).await?;
    let load = created_pods(stack, format!("policed-{round}"), count).await?;
    found(Found::Load("POST pod under a policy", None, load));
    for kind in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        client.bytes(Request::new(Method::DELETE, format!("{ADMISSION}/{kind}/bench"))).await?;
    }
    Ok(())
}

/// A webhook on this machine that allows each new pod.
async fn webhook(stack: &Stack, round: usize, count: usize, found: &mut impl FnMut(Found)) -> Result<()> {
    let client = stack.client()?;
    let hook = Webhook::start(stack.pki(), allow)?;
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "bench"},
        "webhooks": [{
            "name": "bench.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": hook.client_config,
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    let kind = format!("{ADMISSION}/validatingwebhookconfigurations");
    client.bytes(objects::post(&kind, &configuration)?).await?;
    let path = format!("{}?dryRun=All", objects::pods_path("bench"));
    let forbidden = objects::pod("forbidden", 0, Some(0));
    let acts = async || Ok(client.bytes(objects::post(&path, &forbidden)?).await.is_err());
    until("the webhook acts", PATIENCE, acts).await?;
    let load = created_pods(stack, format!("hooked-{round}"), count).await?;
    found(Found::Load("POST pod through a webhook", None, load));
    client.bytes(Request::new(Method::DELETE, format!("{kind}/bench"))).await?;
    Ok(())
}

/// Allows all but an object of the name `forbidden`.
fn allow(request: &Value) -> Value {
    json!({"allowed": request["name"] != "forbidden"})
}
