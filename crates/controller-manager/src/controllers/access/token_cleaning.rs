//! `legacy-serviceaccount-token-cleaner-controller`: secrets with tokens that were made for service accounts without being asked
//! for go when nobody has used them for a year. They are labelled as invalid first, and deleted after as long again.
//!
//! It runs once a day, so it keeps no caches: accounts and pods are asked for where a secret may go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, ListOptions, Patch, View};
use controllers::views::{ConfigMap, Meta, Secret, ServiceAccount};
use controllers::{Context, Error};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::tokens::{ACCOUNT_NAME, ACCOUNT_UID, TYPE};
use crate::Options;

const PERIOD: Duration = Duration::from_secs(24 * 3600);
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Says since when the API server notes the use of tokens.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";

struct Cleaner {
    /// Reads what the controller's own account may not.
    reader: Client,
    client: Client,
    unused: SignedDuration,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "legacy-service-account-token-cleaner";
    let period = *options.legacy_service_account_token_clean_up_period;
    let cleaner = Cleaner {
        reader: context.informers.client().clone(),
        client: context.builder("legacy_service_account_token_cleaner", account, account).await?.client,
        unused: SignedDuration::try_from(period).unwrap_or(SignedDuration::MAX),
    };
    let rounds = async {
        loop {
            if let Err(error) = cleaner.round(Timestamp::now()).await {
                tracing::error!(%error, "Cleaning legacy service account tokens failed");
            }
            tokio::time::sleep(PERIOD).await;
        }
    };
    context.shutdown.run_until_cancelled(rounds).await;
    Ok(())
}

fn day(text: &str) -> Option<Date> {
    text.parse().ok()
}

/// The day of a time. Labels are compared as text, and days sort as their texts do.
fn text(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).date().to_string()
}

/// What becomes of a secret that is not used.
#[derive(Debug, PartialEq)]
enum Step {
    Keep,
    Label,
    Delete,
}

/// Whether a secret has not been used since `limit`, as far as its labels and its age say.
fn is_unused(secret: &Secret, limit: Timestamp) -> bool {
    let meta = &secret.metadata;
    let used = meta.labels.get(LAST_USED);
    secret.type_ == TYPE
        && meta.created() < limit
        && !meta.is_deleting()
        && used.is_none_or(|used| day(used).is_some() && *used < *text(limit))
}

fn step(secret: &Secret, limit: Timestamp) -> Step {
    match secret.metadata.labels.get(INVALID_SINCE).filter(|since| day(since).is_some()) {
        None => Step::Label,
        Some(since) if *since >= *text(limit) => Step::Keep,
        Some(_) => Step::Delete,
    }
}

impl Cleaner {
    async fn round(&self, now: Timestamp) -> Result<(), Error> {
        let limit = now.checked_sub(self.unused).unwrap_or(Timestamp::MIN);
        if !self.has_tracked_since(limit).await? {
            return Ok(());
        }
        let mut options = ListOptions { limit: Some(500), ..ListOptions::fields(format!("type={TYPE}")) };
        loop {
            let page = self.reader.list::<Secret>(None, &options).await?;
            for secret in page.items.iter().filter(|secret| is_unused(secret, limit)) {
                if let Err(error) = self.clean(secret, limit, now).await {
                    tracing::error!(secret = %secret.metadata.key(), %error, "Cleaning a legacy service account token failed");
                }
            }
            match page.continue_token {
                None => return Ok(()),
                token => options.continue_token = token,
            }
        }
    }

    /// Whether use has been noted all the time since then.
    async fn has_tracked_since(&self, limit: Timestamp) -> Result<bool, Error> {
        let map = self.client.get::<ConfigMap>(Some("kube-system"), TRACKING).await?;
        let since = map.data.get("since").and_then(|since| day(since)?.tomorrow().ok());
        let since = since.ok_or_else(|| Error::Other(format!("{TRACKING} does not say since when")))?;
        let begin = since.to_zoned(TimeZone::UTC).map(|day| day.timestamp());
        Ok(begin.is_ok_and(|begin| begin <= limit))
    }

    async fn clean(&self, secret: &Secret, limit: Timestamp, now: Timestamp) -> Result<(), Error> {
        if !self.was_made_unasked(secret).await? || self.is_used_by_pods(&secret.metadata).await? {
            return Ok(());
        }
        let meta = &secret.metadata;
        let written = match step(secret, limit) {
            Step::Keep => return Ok(()),
            Step::Label => {
                tracing::info!(secret = %meta.key(), "Marking an auto-generated service account token as invalid");
                let patch = json!({"metadata": {"uid": meta.uid, "labels": {INVALID_SINCE: text(now)}}});
                let patch =
                    self.client.patch::<Secret>(meta.namespace(), &meta.name, None, Patch::Merge(patch));
                patch.await.map(drop)
            }
            Step::Delete => {
                tracing::info!(secret = %meta.key(), "Deleting an auto-generated service account token");
                let options = DeleteOptions::default().resource_version(meta.resource_version.clone());
                self.client.delete::<Secret>(meta.namespace(), &meta.name, &options).await
            }
        };
        match written {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Those that were made without being asked for are in their account's list.
    async fn was_made_unasked(&self, secret: &Secret) -> Result<bool, Error> {
        let meta = &secret.metadata;
        let Some(name) = meta.annotation(ACCOUNT_NAME) else { return Ok(false) };
        let account = match self.reader.get::<WithSecrets>(meta.namespace(), name).await {
            Err(error) if error.is_not_found() => return Ok(false),
            found => found?,
        };
        let is_its = meta.annotation(ACCOUNT_UID).is_none_or(|uid| account.metadata.uid == *uid);
        Ok(is_its && account.secrets.iter().any(|own| own["name"] == meta.name.as_str()))
    }

    async fn is_used_by_pods(&self, secret: &Meta) -> Result<bool, Error> {
        let mut options = ListOptions { limit: Some(500), ..ListOptions::default() };
        loop {
            let page = self.reader.list::<WithSpec>(secret.namespace(), &options).await?;
            if page.items.iter().any(|pod| secrets(&pod.spec).contains(secret.name.as_str())) {
                return Ok(true);
            }
            match page.continue_token {
                None => return Ok(false),
                token => options.continue_token = token,
            }
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WithSecrets {
    metadata: Meta,
    secrets: Vec<Value>,
}

impl View for WithSecrets {
    type Of = <ServiceAccount as View>::Of;
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WithSpec {
    spec: Value,
}

impl View for WithSpec {
    type Of = k8s_openapi::api::core::v1::Pod;
}

/// The names of all secrets that a part of a pod names, wherever it does.
fn secrets(part: &Value) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    collect(part, &mut found);
    found
}

fn collect<'a>(part: &'a Value, found: &mut BTreeSet<&'a str>) {
    match part {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let own = match name.as_str() {
                    "secret" => value.get("secretName").or_else(|| value.get("name")),
                    "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => value.get("name"),
                    "azureFile" => value.get("secretName"),
                    "imagePullSecrets" => {
                        let names = value.as_array().into_iter().flatten();
                        found.extend(names.filter_map(|secret| secret["name"].as_str()));
                        None
                    }
                    _ => None,
                };
                found.extend(own.and_then(Value::as_str));
                collect(value, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(labels: Value) -> Secret {
        let meta = json!({"name": "s", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": labels});
        serde_json::from_value(json!({"metadata": meta, "type": TYPE})).unwrap()
    }

    #[test]
    fn how_unused_secrets_go() {
        let limit: Timestamp = "2025-06-15T12:00:00Z".parse().unwrap();
        let check = |labels: Value, expect: Option<Step>| {
            let secret = secret(labels.clone());
            assert_eq!(is_unused(&secret, limit).then(|| step(&secret, limit)), expect, "{labels}");
        };
        check(json!({}), Some(Step::Label));
        check(json!({LAST_USED: "2025-06-14"}), Some(Step::Label));
        check(json!({LAST_USED: "2025-06-15"}), None);
        check(json!({LAST_USED: "lately"}), None);
        check(json!({INVALID_SINCE: "2025-06-15"}), Some(Step::Keep));
        check(json!({INVALID_SINCE: "2025-06-14"}), Some(Step::Delete));
        check(json!({INVALID_SINCE: "once"}), Some(Step::Label));
        assert!(!is_unused(&secret(json!({})), "2024-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn secrets_that_pods_use() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}], "envFrom": [{"secretRef": {"name": "all"}}]}],
            "volumes": [
                {"secret": {"secretName": "volume"}},
                {"projected": {"sources": [{"secret": {"name": "source"}}]}},
                {"azureFile": {"secretName": "azure"}},
                {"csi": {"nodePublishSecretRef": {"name": "csi"}}},
                {"configMap": {"name": "map"}},
            ],
        });
        let found: Vec<&str> = secrets(&spec).into_iter().collect();
        assert_eq!(found, ["all", "azure", "csi", "key", "pull", "source", "volume"]);
    }
}
