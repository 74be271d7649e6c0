//! `certificatesigningrequest-approving-controller`: approves what kubelets ask for, when they may ask for it.

use std::sync::Arc;

use client::{Client, Informer, Key, Request as Call};
use controllers::{Context, Error, Next, Reconcile};
use http::Method;
use serde_json::{Value, json};

use super::requests::{Request, add_condition, change, check_kubelet_client};
use crate::Options;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

struct Controller {
    requests: Informer<Request>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "certificate-controller";
    let mut builder = context.builder("csrapproving", account, account).await?;
    let requests = builder.reconciles();
    builder.run(5, Controller { requests }).await
}

/// The subresources whose creation stands for this request, with what is said of an approval.
fn recognized(request: &Request) -> Result<Vec<(&'static str, &'static str)>, Error> {
    let subject = request
        .subject()
        .map_err(|error| Error::Other(format!("unable to parse csr {:?}: {error}", request.metadata.name)))?;
    if request.spec.signer_name != SIGNER || check_kubelet_client(&subject, &request.spec.usages).is_err() {
        return Ok(Vec::new());
    }
    let own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
    let any = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    let own = (request.spec.username == subject.common_name).then_some(own);
    Ok(own.into_iter().chain([any]).collect())
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(request) = self.requests.get_key(key) else { return Ok(Next::Done) };
        if !request.status.certificate.is_empty() || request.has("Approved") || request.has("Denied") {
            return Ok(Next::Done);
        }
        let mut tried = Vec::new();
        for (subresource, message) in recognized(&request)? {
            tried.push(subresource);
            if !is_allowed(client, &request, subresource).await? {
                continue;
            }
            let condition =
                json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message});
            change(client, key, &request, "approval", |whole| add_condition(whole, condition)).await?;
            return Ok(Next::Done);
        }
        if tried.is_empty() {
            return Ok(Next::Done);
        }
        // Rights may be given later; nothing else would bring the request here again.
        let tried = tried.join(" ");
        Err(Error::NotYet(format!(
            "recognized csr {:?} as [{tried}] but subject access review was not approved",
            key.name
        )))
    }
}

async fn is_allowed(client: &Client, request: &Request, subresource: &str) -> Result<bool, Error> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": request.spec.username,
            "uid": request.spec.uid,
            "groups": request.spec.groups,
            "extra": request.spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io",
                "resource": "certificatesigningrequests",
                "verb": "create",
                "subresource": subresource,
                "version": "*",
            },
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer: Value = client.call(Call::new(Method::POST, path).json(&review)?).await?;
    Ok(answer.pointer("/status/allowed") == Some(&Value::Bool(true)))
}
