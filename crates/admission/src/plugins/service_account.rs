//! `ServiceAccount`: every pod runs as one, and finds a token of it in its containers.

use std::sync::Arc;

use api::json;
use api::{Status, Tree};
use async_trait::async_trait;
use machinery::bounds::Seen;
use machinery::names;

use crate::{Attributes, Operation, Plugin, Point, Services};
use registry::references;
use registry::references::is_mirror;
use registry::tree::{as_object, ensure, get, has, list, text};

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
const PREFIX: &str = "kube-api-access-";

pub struct ServiceAccount {
    services: Arc<dyn Services>,
}

impl ServiceAccount {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }

    async fn account(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Tree>, Status> {
        let namespace = attributes.namespace;
        let found = self.services.find("", "serviceaccounts", namespace, name).await?;
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

/// A kubelet's own pod may not reach for what the API holds.
fn check_mirror(attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
    if !text(pod, "spec.serviceAccountName").is_empty() {
        return Err(attributes.forbid("a mirror pod may not reference service accounts"));
    }
    if !references::secrets(pod).is_empty() {
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

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.creates()
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        // of pods that are there, only ephemeral containers bring references
        let ephemeral = point.is_sub("", "pods", "ephemeralcontainers");
        self.mutates(point) || ephemeral && point.operation == Operation::Update
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        if is_mirror(pod) {
            return check_mirror(attributes, pod);
        }
        let named = match text(pod, "spec.serviceAccountName") {
            "" => text(pod, "spec.serviceAccount"),
            name => name,
        };
        let name = if named.is_empty() { "default" } else { named }.to_owned();
        let spec = ensure(pod, "spec");
        spec.insert("serviceAccountName", name.as_str().into());
        spec.insert("serviceAccount", name.as_str().into());
        let account = self.account(attributes, &name).await?;
        if wants_token(pod, &account) {
            mount_token(pod);
        }
        let pulls = list(&account, "imagePullSecrets");
        if list(pod, "spec.imagePullSecrets").is_empty() && !pulls.is_empty() {
            ensure(pod, "spec").insert("imagePullSecrets", Tree::Array(pulls.to_vec()));
        }
        limit_secrets(attributes, pod, &account)
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        if attributes.operation == Operation::Create && is_mirror(pod) {
            return check_mirror(attributes, pod);
        }
        let account = self.account(attributes, text(pod, "spec.serviceAccountName")).await?;
        limit_secrets(attributes, pod, &account)
    }
}

/// Only the account's secrets, where its annotation says so.
fn limit_secrets(attributes: &Attributes<'_>, pod: &Tree, account: &Tree) -> Result<(), Status> {
    if get(account, "metadata.annotations").get(ENFORCE).and_then(Tree::as_str) != Some("true") {
        return Ok(());
    }
    let name = text(account, "metadata.name");
    let names = |field| list(account, field).iter().map(|one| text(one, "name")).collect::<Seen<&str>>();
    let (own, pulls) = (names("secrets"), names("imagePullSecrets"));
    let refuse = |what: &str, secret: &str| {
        Err(attributes.forbid(&format!(
            "{what} secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
        )))
    };
    let created = attributes.operation == Operation::Create;
    for volume in list(pod, "spec.volumes").iter().filter(|volume| created && has(volume, "secret")) {
        let secret = text(volume, "secret.secretName");
        if !own.contains(secret) {
            return refuse("volume with", secret);
        }
    }
    let lists: &[(&str, &str)] = match created {
        true => &[("spec.initContainers", "init container"), ("spec.containers", "container")],
        false => &[("spec.ephemeralContainers", "ephemeral container")],
    };
    for (field, kind) in lists {
        for container in list(pod, field) {
            let of = text(container, "name");
            for variable in list(container, "env").iter().filter(|one| has(one, "valueFrom.secretKeyRef")) {
                let secret = text(variable, "valueFrom.secretKeyRef.name");
                if !own.contains(secret) {
                    let variable = text(variable, "name");
                    return refuse(&format!("{kind} {of} with envVar {variable} referencing"), secret);
                }
            }
            for source in list(container, "envFrom").iter().filter(|one| has(one, "secretRef")) {
                let secret = text(source, "secretRef.name");
                if !own.contains(secret) {
                    return refuse(&format!("{kind} {of} with envFrom referencing"), secret);
                }
            }
        }
    }
    if !created {
        return Ok(());
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
