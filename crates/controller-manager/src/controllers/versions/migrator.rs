//! `storage-version-migrator-controller`: writes each object of a resource again, so that it is stored in the present storage
//! version. A `StorageVersionMigration` asks for it; of those for one resource one runs at a time. When the resource is a custom
//! one, its definition says meanwhile that it is being migrated, and forgets its earlier stored versions afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{Client, Index, Informer, Key, ListOptions, Patch, ResourceRef, Text};
use controllers::kinds::discovery::Served;
use controllers::views::{Condition, Lean, Meta, Object, compact, is_default};
use controllers::{Context, Error, Kinds, Next, Reconcile, time, write_status_with};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Options;

const NAME: &str = "storage-version-migrator-controller";
/// The manager of what is applied to definitions.
const RUNNER: &str = "migration-runner-controller";
const VERBS: [&str; 3] = ["update", "patch", "list"];
/// How long discovery may not know a resource yet.
const UNKNOWN: i64 = 60;
/// Objects that are written at a time.
const AT_ONCE: usize = 8;

const RUNNING: &str = "Running";
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Migration {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Spec {
    resource: Resource,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
struct Resource {
    group: Text,
    resource: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "is_default")]
    resource_version: String,
}

impl client::View for Migration {
    type Of = v1::StorageVersionMigration;
}

impl controllers::views::HasMeta for Migration {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Object for Migration {
    const API_VERSION: &'static str = "storagemigration.k8s.io/v1";
    const KIND: &'static str = "StorageVersionMigration";
}

impl Migration {
    fn is(&self, condition: &str) -> bool {
        Condition::is_true(&self.status.conditions, condition)
    }

    fn has_ended(&self) -> bool {
        self.is(SUCCEEDED) || self.is(FAILED)
    }

    fn is_new(&self) -> bool {
        self.metadata.created().as_second() + UNKNOWN > Timestamp::now().as_second()
    }
}

impl Status {
    /// Sets a condition; its time is that of the last change of its status.
    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str, generation: i64) {
        let status = if holds { "True" } else { "False" };
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now());
        let old = Condition::find(&self.conditions, kind).filter(|old| old.status == status);
        let new = Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: old.map_or(Some(now), |old| old.last_transition_time.clone()),
            ..Condition::default()
        };
        match self.conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(old) => *old = new,
            None => self.conditions.push(new),
        }
    }

    fn run(&mut self, message: &str) {
        self.set(RUNNING, true, "MigrationRunning", message, 0);
    }

    fn fail(&mut self, message: &str) {
        self.set(FAILED, true, "StorageVersionMigrationFailed", message, 0);
    }
}

/// How far a migration is.
fn progress(left: usize, total: usize, error: Option<&client::Error>) -> String {
    let mut message = "The migration is running".to_owned();
    match (left, total) {
        (_, 0) => {}
        (0, total) => message.push_str(&format!(", {total} objects verified migrated")),
        (left, total) => message.push_str(&format!(", {left}/{total} objects not yet migrated")),
    }
    if let Some(error) = error {
        message.push_str(&format!("; transient error: {error}"));
    }
    message
}

/// Keys are resources, as `resource.group`.
struct Controller {
    of_resource: Index<Migration, Text>,
    kinds: Kinds,
}

fn key_of(migration: &Migration) -> Text {
    let Resource { group, resource } = &migration.spec.resource;
    format!("{resource}.{group}").into()
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    if !options.enable_garbage_collector {
        return Err(Error::Other("storage version migrator requires garbage collector".to_owned()));
    }
    let mut builder = context.builder(NAME, NAME, NAME).await?;
    let migrations: Informer<Migration> = builder.reads();
    let queue = builder.queue.clone();
    migrations.on_event(move |event| queue.add(Key::new("", &key_of(event.object()))));
    let of_resource = migrations.index(|migration| [key_of(migration)]);
    builder.run(5, Controller { of_resource, kinds: context.kinds.clone() }).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let mut migrations = self.of_resource.get(&*key.name);
        migrations.sort_by_key(|own| (own.metadata.created(), own.metadata.name.clone()));
        for ended in migrations.iter().filter(|own| own.is(RUNNING) && own.has_ended()) {
            finish(client, ended).await?;
        }
        let running = migrations.iter().find(|own| own.is(RUNNING) && !own.has_ended());
        let next = || migrations.iter().find(|own| !own.is(RUNNING) && !own.has_ended());
        match running {
            Some(running) => self.advance(client, running).await,
            None => match next() {
                Some(next) => start(client, next).await.map(|()| Next::Done),
                None => Ok(Next::Done),
            },
        }
    }
}

async fn write(client: &Client, migration: &Migration, status: &Status) -> Result<(), Error> {
    write_status_with::<Migration>(client, &migration.metadata, status).await?;
    Ok(())
}

/// The rest follows when the status is seen.
async fn start(client: &Client, migration: &Migration) -> Result<(), Error> {
    if let Some(definition) = definition(client, migration).await? {
        let message = format!("Migration {} is running", migration.metadata.name);
        note(client, &definition, ("True", "MigrationRunning", &message), None).await?;
    }
    let mut status = migration.status.clone();
    status.run(&progress(0, 0, None));
    write(client, migration, &status).await
}

async fn finish(client: &Client, migration: &Migration) -> Result<(), Error> {
    if let Some(definition) = definition(client, migration).await? {
        let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
        let noted = conditions.into_iter().flatten().find(|own| own["type"] == "StorageMigrating");
        // What was stored since the definition changed may be in any version.
        let generation = &definition["metadata"]["generation"];
        let is_same = noted.is_some_and(|noted| noted["observedGeneration"] == *generation);
        let (reason, message) = match (migration.is(SUCCEEDED), is_same) {
            (true, true) => (
                "MigrationSucceeded",
                "The migration has succeeded and the stored versions have been updated",
            ),
            (true, false) => (
                "MigrationSucceeded",
                "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
            ),
            (false, _) => ("MigrationFailed", "The migration has failed"),
        };
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let stored = versions.into_iter().flatten().find(|version| version["storage"] == true);
        let stored = stored.map(|version| &version["name"]).filter(|_| is_same);
        note(client, &definition, ("False", reason, message), stored).await?;
    }
    let mut status = migration.status.clone();
    let generation = migration.metadata.generation;
    status.set(RUNNING, false, "MigrationCompleted", "Migration completed", generation);
    write(client, migration, &status).await
}

/// The definition of a custom resource.
async fn definition(client: &Client, migration: &Migration) -> Result<Option<Value>, Error> {
    let resource = ResourceRef::of::<CustomResourceDefinition>();
    match client.at(&resource).get(None, &key_of(migration)).await {
        Err(error) if error.is_not_found() => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// Notes on a definition, if it is still as it was seen, how its migration goes.
async fn note(
    client: &Client,
    definition: &Value,
    (status, reason, message): (&str, &str, &str),
    stored: Option<&Value>,
) -> Result<(), Error> {
    let meta = &definition["metadata"];
    let mut object = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": meta["name"], "resourceVersion": meta["resourceVersion"]},
        "status": {"conditions": [{
            "type": "StorageMigrating",
            "status": status,
            "lastTransitionTime": time::text(Timestamp::now()),
            "reason": reason,
            "message": message,
            "observedGeneration": meta["generation"],
        }]},
    });
    if let Some(stored) = stored {
        object["status"]["storedVersions"] = json!([stored]);
    }
    let resource = ResourceRef::of::<CustomResourceDefinition>();
    let name = meta["name"].as_str().unwrap_or_default();
    let patch = Patch::Apply { manager: RUNNER.to_owned(), force: true, object };
    client.at(&resource).patch::<Value>(None, name, Some("status"), patch).await?;
    Ok(())
}

impl Controller {
    /// One step of a migration that runs.
    async fn advance(&self, client: &Client, migration: &Migration) -> Result<Next, Error> {
        let mut status = migration.status.clone();
        self.kinds.known_first().await;
        let known = self.kinds.known();
        let Resource { group, resource } = &migration.spec.resource;
        let is_it =
            |served: &&Served| served.resource.group == **group && served.resource.plural == **resource;
        let Some(served) = known.resources.iter().find(is_it) else {
            if migration.is_new() {
                return Err(Error::NotYet("the resource to migrate is not discovered yet".to_owned()));
            }
            status.fail("resource does not exist in discovery");
            return write(client, migration, &status).await.map(|()| Next::Done);
        };
        if status.resource_version.is_empty() {
            if VERBS.iter().all(|verb| served.can(verb)) {
                let options = ListOptions { limit: Some(1), ..ListOptions::default() };
                let list = client.at(&served.resource).metadata_only().list::<Lean>(None, &options).await?;
                status.resource_version = list.resource_version;
            } else {
                status.fail(&format!(
                    "resource \"{group}/{}, Resource={resource}\" does not support discovery operations: [{}]",
                    served.resource.version,
                    VERBS.join(" "),
                ));
            }
            return write(client, migration, &status).await.map(|()| Next::Done);
        }
        let Ok(limit) = status.resource_version.parse::<u64>() else {
            status.fail(&format!(
                "migration encountered unhandled error: {:?} is no resource version",
                status.resource_version
            ));
            return write(client, migration, &status).await.map(|()| Next::Done);
        };
        let (objects, total) = outdated(client, &served.resource, limit).await?;
        let left = AtomicUsize::new(objects.len());
        let written = futures::stream::iter(objects).map(Ok).try_for_each_concurrent(AT_ONCE, |meta| async {
            let meta = meta;
            rewrite(client, &served.resource, &meta).await?;
            left.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        });
        let written = written.await;
        let left = left.into_inner();
        match written {
            Ok(()) => {
                status.run(&progress(0, total, None));
                status.set(SUCCEEDED, true, "StorageVersionMigrationSucceeded", "Migration completed", 0);
                write(client, migration, &status).await?;
            }
            Err(error) if is_transient(&error) => {
                status.run(&progress(left, total, Some(&error)));
                let wait = error
                    .status()
                    .and_then(|status| status.details.as_ref())
                    .map(|details| details.retry_after_seconds);
                if let Err(error) = write(client, migration, &status).await {
                    tracing::debug!(migration = %migration.metadata.name, %error, "Writing a migration's status failed");
                }
                if let Some(wait) = wait.and_then(|wait| u64::try_from(wait).ok()).filter(|wait| *wait > 0) {
                    return Ok(Next::After(Duration::from_secs(wait)));
                }
                return Err(error.into());
            }
            Err(error) => {
                status.run(&progress(left, total, None));
                status.fail(&format!(
                    "{left}/{total} not yet migrated. migration encountered unhandled error: {error}"
                ));
                write(client, migration, &status).await?;
            }
        }
        Ok(Next::Done)
    }
}

/// The objects that have not been written since a revision, and how many there are in all.
async fn outdated(client: &Client, resource: &ResourceRef, limit: u64) -> Result<(Vec<Meta>, usize), Error> {
    let api = client.at(resource).metadata_only();
    let (mut objects, mut total) = (Vec::new(), 0);
    let mut options = ListOptions { limit: Some(500), ..ListOptions::default() };
    loop {
        let page = api.list::<Lean>(None, &options).await?;
        total += page.items.len();
        let metas = page.items.into_iter().map(|object| object.metadata);
        objects.extend(metas.filter(|meta| meta.resource_version.parse().is_ok_and(|own: u64| own <= limit)));
        match page.continue_token {
            None => return Ok((objects, total)),
            token => options.continue_token = token,
        }
    }
}

/// A patch that changes nothing has the object stored as it is stored now. One that was written or deleted meanwhile needs none.
async fn rewrite(client: &Client, resource: &ResourceRef, meta: &Meta) -> client::Result<()> {
    let patch = json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "metadata": {"resourceVersion": meta.resource_version},
    });
    let api = client.at(resource).metadata_only();
    match api.patch::<Lean>(meta.namespace(), &meta.name, None, Patch::Merge(patch)).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => result.map(drop),
    }
}

/// Whether the server, or who leads, may say otherwise later. What was not sent is no reason for a migration to have failed for good.
fn is_transient(error: &client::Error) -> bool {
    match error.status() {
        None => error.is_unanswered() || matches!(error, client::Error::NotLeading | client::Error::Shutdown),
        Some(status) => {
            let reasons =
                ["ServerTimeout", "TooManyRequests", "ServiceUnavailable", "InternalError", "Timeout"];
            status.code == 429 || reasons.contains(&&*status.reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_running_migration_says() {
        assert_eq!(progress(0, 0, None), "The migration is running");
        assert_eq!(progress(0, 3, None), "The migration is running, 3 objects verified migrated");
        assert_eq!(progress(2, 3, None), "The migration is running, 2/3 objects not yet migrated");
        let error = client::Error::Shutdown;
        let text = "The migration is running, 1/3 objects not yet migrated; transient error: shutting down";
        assert_eq!(progress(1, 3, Some(&error)), text);
    }

    #[test]
    fn what_was_not_sent_fails_no_migration() {
        assert!(is_transient(&client::Error::NotLeading));
        assert!(is_transient(&client::Error::Shutdown));
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_does() {
        let mut status = Status::default();
        status.run("first");
        let time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        status.conditions[0].last_transition_time = Some(time.clone());
        status.run("second");
        assert_eq!(status.conditions[0].last_transition_time, Some(time.clone()));
        assert_eq!(status.conditions[0].message, "second");
        status.set(RUNNING, false, "MigrationCompleted", "Migration completed", 2);
        assert_ne!(status.conditions[0].last_transition_time, Some(time));
        assert_eq!(status.conditions.len(), 1);
    }
}
