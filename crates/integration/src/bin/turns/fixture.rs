//! What is in use while servers take turns.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use client::{Client, Request};
use http::Method;
use integration::Webhook;
use integration::stack::until;
use serde_json::{Value, json};
use std::time::Duration;

pub const GROUP: &str = "turns.example.com";
pub const NAMESPACE: &str = "turns";
/// Where a quota leaves room for [`ROOM`] config maps.
pub const NARROW: &str = "narrow";
pub const ROOM: usize = 20;
/// What the webhook gives each object.
pub const STAMP: &str = "stamped";

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
/// A kind that is new is counted once discovery has been read again.
const PATIENCE: Duration = Duration::from_secs(90);

pub fn post(path: &str, object: &Value) -> client::Result<Request> {
    Request::new(Method::POST, path).json(object)
}

pub fn widgets(version: &str) -> String {
    format!("/apis/{GROUP}/{version}/namespaces/{NAMESPACE}/widgets")
}

pub fn config_maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

pub fn widget(version: &str, name: &str, count: usize) -> Value {
    json!({"apiVersion": format!("{GROUP}/{version}"), "kind": "Widget", "metadata": {"name": name}, "spec": {"count": count}})
}

/// The webhook: a label for each object.
pub fn stamp(request: &Value) -> Value {
    let labels = &request["object"]["metadata"]["labels"];
    let patch = match labels.is_object() {
        true => json!([{"op": "add", "path": format!("/metadata/labels/{STAMP}"), "value": "yes"}]),
        false => json!([{"op": "add", "path": "/metadata/labels", "value": {STAMP: "yes"}}]),
    };
    json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64.encode(patch.to_string())})
}

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {
            "type": "object",
            "properties": {"count": {"type": "integer"}, "size": {"type": "string", "default": "small"}},
            "x-kubernetes-validations": [{"rule": "self.count >= 0"}],
        },
        "status": {"type": "object", "properties": {"seen": {"type": "integer"}}},
    }});
    let version = |name, storage| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [version("v1", true), version("v2", false)],
        },
    })
}

fn quota(hard: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": hard}})
}

pub async fn prepare(client: &Client, hook: &Webhook) -> Result<()> {
    let send = async |path: &str, object: Value| -> Result<()> {
        client.bytes(post(path, &object)?).await.with_context(|| format!("{path}: {object}"))?;
        Ok(())
    };
    for namespace in [NAMESPACE, NARROW] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {GROUP: "yes"}}});
        send("/api/v1/namespaces", object).await?;
        let root = format!("{}/kube-root-ca.crt", config_maps(namespace));
        until("the certificates are published", PATIENCE, async || {
            Ok(client.bytes(Request::get(root.clone())).await.is_ok())
        })
        .await?;
    }
    send("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await?;
    let rules = json!([{"apiGroups": ["", GROUP], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
        "resources": ["configmaps", "widgets"]}]);
    let selector = json!({"matchLabels": {GROUP: "yes"}});
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "turns"},
        "webhooks": [{"name": GROUP, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "clientConfig": hook.client_config, "rules": rules, "namespaceSelector": selector}],
    });
    send(&format!("{ADMISSION}/mutatingwebhookconfigurations"), configuration).await?;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "turns"},
        "spec": {"matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
            "validations": [{"expression": "!object.metadata.name.startsWith('forbidden')"}]},
    });
    send(&format!("{ADMISSION}/validatingadmissionpolicies"), policy).await?;
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "turns"}, "spec": {"policyName": "turns", "validationActions": ["Deny"]},
    });
    send(&format!("{ADMISSION}/validatingadmissionpolicybindings"), binding).await?;
    let path = |namespace| format!("/api/v1/namespaces/{namespace}/resourcequotas");
    // One of the config maps is the cluster's certificates.
    send(&path(NARROW), quota(json!({"configmaps": (ROOM + 1).to_string()}))).await?;
    let hard = json!({format!("count/widgets.{GROUP}"): "100000", "configmaps": "100000"});
    send(&path(NAMESPACE), quota(hard)).await?;
    acts(client).await
}

/// Waits until all of it acts.
pub async fn acts(client: &Client) -> Result<()> {
    until("all acts", PATIENCE, async || {
        let path = format!("{}?dryRun=All", widgets("v2"));
        let dry = client.call::<Value>(post(&path, &widget("v2", "dry", 1))?).await;
        let stamped = dry.is_ok_and(|dry| dry["metadata"]["labels"][STAMP] == "yes");
        let forbidden = client.bytes(post(&path, &widget("v2", "forbidden", 1))?).await;
        Ok(stamped && forbidden.is_err())
    })
    .await?;
    Ok(())
}
