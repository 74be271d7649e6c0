//! `ServiceAccount`: every pod runs as one, and finds a token of it in its containers.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::bounds::Seen;
use machinery::names;
use serde_json::json;

use super::{Attributes, Lookup, Operation, Plugin, is_mirror};
use crate::tree::{as_object, ensure, get, has, list, text};

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
const PREFIX: &str = "kube-api-access-";

pub struct ServiceAccount {
    lookup: Arc<dyn Lookup>,
}

impl ServiceAccount {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn account(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Tree>, Status> {
        let namespace = attributes.namespace;
        let found = match self.lookup.get("", "serviceaccounts", namespace, name) {
            None => self.lookup.fresh("", "serviceaccounts", namespace, name).await,
            found => found,
        };
        found.ok_or_else(|| {
            let problems = names::path_segment(name);
            let why = match problems.is_empty() {
                true => format!("serviceaccount {name:?} not found"),
                false => format!("invalid resource name {name:?}: [{}]", problems.join(" ")),
            };
            attributes.forbid(&format!("error looking up service account {namespace}/{name}: {why}"))
        })
    }
}

fn concerns(attributes: &Attributes<'_>) -> bool {
    attributes.is("", "pods")
        && attributes.subresource.is_empty()
        && attributes.operation == Operation::Create
}

/// A kubelet's own pod may not reach for what the API holds.
fn check_mirror(attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
    if !text(pod, "spec.serviceAccountName").is_empty() {
        return Err(attributes.forbid("a mirror pod may not reference service accounts"));
    }
    let secret = |volume: &Tree| {
        let projected = list(volume, "projected.sources").iter();
        has(volume, "secret") || projected.into_iter().any(|source| has(source, "secret"))
    };
    let variable = |one: &Tree| {
        list(one, "env").iter().any(|variable| has(variable, "valueFrom.secretKeyRef"))
            || list(one, "envFrom").iter().any(|source| has(source, "secretRef"))
    };
    let containers = list(pod, "spec.containers").iter().chain(list(pod, "spec.initContainers"));
    if list(pod, "spec.volumes").iter().any(secret) || containers.into_iter().any(variable) {
        return Err(attributes.forbid("a mirror pod may not reference secrets"));
    }
    let token = |source: &Tree| has(source, "serviceAccountToken");
    if list(pod, "spec.volumes").iter().any(|volume| list(volume, "projected.sources").iter().any(token)) {
        return Err(attributes.forbid("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// Gives every container the token, but where it has something else in that place.
fn mount_token(pod: &mut Tree) {
    let volume = list(pod, "spec.volumes")
        .iter()
        .map(|volume| text(volume, "name"))
        .find(|name| name.starts_with(PREFIX));
    let known = volume.map(str::to_owned);
    let fresh = known.clone().unwrap_or_else(|| {
        let mut name = PREFIX.to_owned();
        names::suffix(&mut name, 5, rand::random::<u32>);
        name
    });
    let mut used = false;
    for field in ["initContainers", "containers"] {
        let containers = ensure(pod, "spec").get_mut(field).and_then(Tree::as_array_mut);
        for container in containers.into_iter().flatten() {
            if list(container, "volumeMounts").iter().any(|mount| text(mount, "mountPath") == MOUNT) {
                continue;
            }
            used = true;
            let mounts = as_object(container).entry("volumeMounts").or_insert(Tree::Null);
            if !mounts.is_array() {
                *mounts = Tree::Array(Vec::new());
            }
            if let Tree::Array(mounts) = mounts {
                mounts.push(json!({"name": fresh, "readOnly": true, "mountPath": MOUNT}));
            }
        }
    }
    if known.is_some() || !used {
        return;
    }
    let volumes = ensure(pod, "spec").entry("volumes").or_insert(Tree::Null);
    if !volumes.is_array() {
        *volumes = Tree::Array(Vec::new());
    }
    if let Tree::Array(volumes) = volumes {
        volumes.push(json!({"name": fresh, "projected": {"sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ], "defaultMode": 0o644}}));
    }
}

/// The pod's own word counts first, then the account's.
fn wants_token(pod: &Tree, account: &Tree) -> bool {
    let choice = |tree: &Tree| tree.as_bool();
    choice(get(pod, "spec.automountServiceAccountToken"))
        .or_else(|| choice(get(account, "automountServiceAccountToken")))
        .unwrap_or(true)
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        if !concerns(attributes) || is_mirror(pod) {
            return Ok(());
        }
        let named = match text(pod, "spec.serviceAccountName") {
            "" => text(pod, "spec.serviceAccount"),
            name => name,
        };
        let name = if named.is_empty() { "default" } else { named }.to_owned();
        let spec = ensure(pod, "spec");
        spec.insert("serviceAccountName".to_owned(), name.as_str().into());
        spec.insert("serviceAccount".to_owned(), name.as_str().into());
        let account = self.account(attributes, &name).await?;
        if wants_token(pod, &account) {
            mount_token(pod);
        }
        let pulls = list(&account, "imagePullSecrets");
        if list(pod, "spec.imagePullSecrets").is_empty() && !pulls.is_empty() {
            ensure(pod, "spec").insert("imagePullSecrets".to_owned(), Tree::Array(pulls.to_vec()));
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        if !concerns(attributes) {
            return Ok(());
        }
        if is_mirror(pod) {
            return check_mirror(attributes, pod);
        }
        let account = self.account(attributes, text(pod, "spec.serviceAccountName")).await?;
        let enforced = get(&account, "metadata.annotations").get(ENFORCE).and_then(Tree::as_str);
        if enforced == Some("true") {
            limit_secrets(attributes, pod, &account)?;
        }
        Ok(())
    }
}

/// Only the account's secrets, where its annotation says so.
fn limit_secrets(attributes: &Attributes<'_>, pod: &Tree, account: &Tree) -> Result<(), Status> {
    let name = text(account, "metadata.name");
    let names = |field| list(account, field).iter().map(|one| text(one, "name")).collect::<Seen<&str>>();
    let (allowed, pulls) = (names("secrets"), names("imagePullSecrets"));
    for volume in list(pod, "spec.volumes") {
        let secret = text(volume, "secret.secretName");
        if !secret.is_empty() && !allowed.contains(secret) {
            return Err(attributes.forbid(&format!(
                "volume with secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
            )));
        }
    }
    for (index, secret) in list(pod, "spec.imagePullSecrets").iter().enumerate() {
        let secret = text(secret, "name");
        if !pulls.contains(secret) {
            return Err(attributes.forbid(&format!(
                "imagePullSecrets[{index}].name={secret:?} is not allowed because service account {name} does not reference that imagePullSecret"
            )));
        }
    }
    Ok(())
}
