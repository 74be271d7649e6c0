//! `clusterrole-aggregation-controller`: a cluster role with an `aggregationRule` has the rules of all roles the
//! rule's selectors select. `admin`, `edit` and `view` are made so.

use std::sync::Arc;

use client::{Client, Informer, Key, Patch, View};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::{Context, Error};
use crate::support::selector;
use crate::views::Meta;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterRole {
    metadata: Meta,
    rules: Option<Vec<Value>>,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    cluster_role_selectors: Option<Vec<LabelSelector>>,
}

impl View for ClusterRole {
    type Of = k8s_openapi::api::rbac::v1::ClusterRole;
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("clusterrole-aggregation-controller").await?;
    let queue = context.queue("ClusterRoleAggregator");
    let roles: Informer<ClusterRole> = context.informers.all();
    let (touch, all) = (queue.clone(), roles.clone());
    roles.on_event(move |_| {
        for role in all.list().into_iter().filter(|role| role.aggregation_rule.is_some()) {
            touch.add(Key::new("", &role.metadata.name));
        }
    });
    roles.synced().await;
    let shared = Arc::new((client, roles));
    context
        .work(queue, 5, move |key| {
            let shared = shared.clone();
            async move { reconcile(&shared.0, &shared.1, &key).await }
        })
        .await;
    Ok(())
}

async fn reconcile(client: &Client, roles: &Informer<ClusterRole>, key: &Key) -> Result<(), Error> {
    let Some(role) = roles.get_key(key) else { return Ok(()) };
    let Some(rules) = plan(&role, &roles.list())? else { return Ok(()) };
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role.metadata.name},
        "rules": rules,
    });
    let patch =
        Patch::Apply { manager: "clusterrole-aggregation-controller".to_owned(), force: true, object };
    match client.patch::<ClusterRole>(None, &role.metadata.name, None, patch).await {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if error.code() == Some(415) => {
            // A server without apply.
            let meta = json!({"resourceVersion": role.metadata.resource_version});
            let patch = Patch::Merge(json!({"metadata": meta, "rules": rules}));
            Ok(client.patch::<ClusterRole>(None, &role.metadata.name, None, patch).await.map(drop)?)
        }
        result => Ok(result.map(drop)?),
    }
}

/// The rules a role should have, where they differ. Roles are taken by name, so that the result does not vary.
fn plan(role: &ClusterRole, roles: &[Arc<ClusterRole>]) -> Result<Option<Vec<Value>>, Error> {
    let Some(rule) = &role.aggregation_rule else { return Ok(None) };
    let mut sorted: Vec<_> = roles.iter().filter(|other| other.metadata.name != role.metadata.name).collect();
    sorted.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
    let mut wanted: Vec<Value> = Vec::new();
    for labels in rule.cluster_role_selectors.iter().flatten() {
        let selector = selector::compile(Some(labels)).map_err(Error::Other)?;
        for other in sorted.iter().filter(|other| selector::matches(&selector, &other.metadata.labels)) {
            for rule in other.rules.iter().flatten() {
                if !wanted.contains(rule) {
                    wanted.push(rule.clone());
                }
            }
        }
    }
    Ok((role.rules.as_ref().is_none_or(|rules| *rules != wanted)
        && !(role.rules.is_none() && wanted.is_empty()))
    .then_some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_gathered() {
        let role = |tree: Value| Arc::new(serde_json::from_value::<ClusterRole>(tree).unwrap());
        let part = |name: &str, resource: &str| {
            role(
                json!({"metadata": {"name": name, "labels": {"view": "true"}}, "rules": [{"resources": [resource]}]}),
            )
        };
        let whole = json!({
            "metadata": {"name": "view", "labels": {"view": "true"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"view": "true"}}]},
        });
        let others = [part("b", "pods"), part("a", "services"), part("c", "pods"), role(whole.clone())];
        let wanted = plan(&role(whole.clone()), &others).unwrap().unwrap();
        assert_eq!(wanted, [json!({"resources": ["services"]}), json!({"resources": ["pods"]})]);
        let mut done = whole;
        done["rules"] = wanted.into();
        assert!(plan(&role(done), &others).unwrap().is_none());
    }
}
