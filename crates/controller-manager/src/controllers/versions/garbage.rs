//! `storageversion-garbage-collector-controller`: what API servers that are gone noted about the versions they store goes with
//! them. An API server is there while it has a lease.
//!
//! It runs only where the alpha feature `StorageVersionAPI` is on.

use std::sync::Arc;

use client::{Client, DeleteOptions, Event, Informer, Key};
use controllers::views::{HasMeta, Lease, Meta, Object, compact};
use controllers::{Context, Draft, Error, Next, Reconcile};
use jiff::Timestamp;
use k8s_openapi::api::apiserverinternal::v1alpha1::StorageVersion as Published;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Options;

const NAMESPACE: &str = "kube-system";
const COMPONENT: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StorageVersion {
    metadata: Meta,
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "compact")]
    storage_versions: Vec<Value>,
}

impl client::View for StorageVersion {
    type Of = Published;
}

impl HasMeta for StorageVersion {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Object for StorageVersion {
    const API_VERSION: &'static str = "internal.apiserver.k8s.io/v1alpha1";
    const KIND: &'static str = "StorageVersion";
}

struct Controller {
    versions: Informer<StorageVersion>,
    leases: Informer<Lease>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "storage-version-garbage-collector";
    let mut builder =
        context.builder("storage_version_garbage_collector_storageversions", account, account).await?;
    let versions: Informer<StorageVersion> = builder.reconciles();
    let leases: Informer<Lease> = builder.reads();
    let (queue, all) = (builder.queue.clone(), versions.clone());
    leases.on_event(move |event| {
        let lease = event.object();
        if matches!(event, Event::Deleted(_)) && is_of_server(lease) {
            let named =
                |version: &StorageVersion| servers(version).any(|server| server == lease.metadata.name);
            for version in all.list().iter().filter(|version| named(version)) {
                queue.add(version.metadata.cache_key());
            }
        }
    });
    builder.run(1, Controller { versions, leases }).await
}

fn is_of_server(lease: &Lease) -> bool {
    let (label, component) = COMPONENT;
    *lease.metadata.namespace == *NAMESPACE && lease.metadata.labels.get(label) == Some(component)
}

fn servers(version: &StorageVersion) -> impl Iterator<Item = &str> {
    version.status.storage_versions.iter().filter_map(server)
}

fn server(entry: &Value) -> Option<&str> {
    entry["apiServerID"].as_str()
}

/// The version that all entries encode in, if they agree.
fn common<'a>(entries: &[&'a Value]) -> Option<&'a str> {
    let mut versions = entries.iter().map(|entry| entry["encodingVersion"].as_str());
    let first = versions.next()??;
    versions.all(|version| version == Some(first)).then_some(first)
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(version) = self.versions.get_key(key) else { return Ok(Next::Done) };
        let cached =
            |server: &str| self.leases.get(Some(NAMESPACE), server).is_some_and(|lease| is_of_server(&lease));
        let mut gone = Vec::new();
        for server in servers(&version).filter(|server| !cached(server)) {
            // The cache may be behind.
            match client.get::<Lease>(Some(NAMESPACE), server).await {
                Ok(lease) if is_of_server(&lease) => {}
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => gone.push(server.to_owned()),
            }
        }
        if gone.is_empty() {
            return Ok(Next::Done);
        }
        let stays =
            |entry: &&Value| server(entry).is_none_or(|server| !gone.iter().any(|gone| gone == server));
        if !version.status.storage_versions.iter().any(|entry| stays(&entry)) {
            let options = DeleteOptions::default().uid(version.metadata.uid.clone());
            return match client.delete::<StorageVersion>(None, &key.name, &options).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(Next::Done),
            };
        }
        let is_gone =
            |entry: &Value| server(entry).is_some_and(|server| gone.iter().any(|gone| gone == server));
        let mut draft = Draft::new(client, version.clone());
        draft.update_status(|object| level(&mut object["status"], is_gone)).await?;
        Ok(Next::Done)
    }
}

/// Takes entries out of a status, and brings up to date what it says of the rest.
fn level(status: &mut Value, is_gone: impl Fn(&Value) -> bool) {
    let Some(entries) = status["storageVersions"].as_array_mut() else { return };
    entries.retain(|entry| !is_gone(entry));
    let agreed = common(&entries.iter().collect::<Vec<_>>()).map(str::to_owned);
    let (holds, reason, message) = match &agreed {
        Some(_) => ("True", "CommonEncodingVersionSet", "Common encoding version set"),
        None => ("False", "CommonEncodingVersionUnset", "Common encoding version unset"),
    };
    match agreed {
        Some(agreed) => status["commonEncodingVersion"] = agreed.into(),
        None => drop(status.as_object_mut().map(|status| status.shift_remove("commonEncodingVersion"))),
    }
    let kind = "AllEncodingVersionsEqual";
    let old = status["conditions"].as_array().cloned().unwrap_or_default();
    let same = old.iter().find(|condition| condition["type"] == kind && condition["status"] == holds);
    let since = same.map(|condition| condition["lastTransitionTime"].clone());
    let since = since.unwrap_or_else(|| controllers::time::text(Timestamp::now()).into());
    let mut conditions: Vec<Value> = old.into_iter().filter(|condition| condition["type"] != kind).collect();
    conditions.push(json!({"type": kind, "status": holds, "reason": reason, "message": message, "lastTransitionTime": since}));
    status["conditions"] = conditions.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_status() {
        let entry = |server: &str, version: &str| json!({"apiServerID": server, "encodingVersion": version});
        let mut status = json!({
            "storageVersions": [entry("a", "v1"), entry("b", "v2"), entry("c", "v2")],
            "conditions": [{"type": "AllEncodingVersionsEqual", "status": "False"}],
        });
        level(&mut status, |entry| server(entry) == Some("b"));
        assert_eq!(status["commonEncodingVersion"], Value::Null);
        level(&mut status, |entry| server(entry) == Some("a"));
        assert_eq!(
            (&status["commonEncodingVersion"], &status["conditions"][0]["status"]),
            (&"v2".into(), &"True".into())
        );
        assert_eq!(status["storageVersions"].as_array().unwrap().len(), 1);
    }
}
