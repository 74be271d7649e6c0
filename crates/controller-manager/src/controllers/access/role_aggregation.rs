//! `clusterrole-aggregation-controller`: a cluster role with an `aggregationRule` has the rules of all roles the
//! rule's selectors select. `admin`, `edit` and `view` are made so.

use std::sync::Arc;

use client::{Client, Index, Informer, Key, Patch, View};
use controllers::views::{CompiledSelector, Meta};
use controllers::{Context, Error, Next, Reconcile};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Options;

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
    cluster_role_selectors: Option<Vec<CompiledSelector>>,
}

impl View for ClusterRole {
    type Of = k8s_openapi::api::rbac::v1::ClusterRole;
}

struct Controller {
    roles: Informer<ClusterRole>,
}

/// The account, and the manager of the fields that are written.
const NAME: &str = "clusterrole-aggregation-controller";

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let mut builder = context.builder("ClusterRoleAggregator", NAME, NAME).await?;
    let roles = builder.reads::<ClusterRole>();
    let aggregated: Index<ClusterRole, bool> = roles.index(|role| [role.aggregation_rule.is_some()]);
    let queue = builder.queue.clone();
    roles.on_event(move |_| {
        aggregated.get(&true).iter().for_each(|role| queue.add(Key::new("", &role.metadata.name)));
    });
    builder.run(5, Controller { roles }).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(role) = self.roles.get_key(key) else { return Ok(Next::Done) };
        let Some(rules) = plan(&role, &self.roles.list())? else { return Ok(Next::Done) };
        write(client, &role, rules).await?;
        Ok(Next::Done)
    }
}

async fn write(client: &Client, role: &ClusterRole, rules: Vec<Value>) -> client::Result<()> {
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role.metadata.name},
        "rules": rules,
    });
    let patch = Patch::Apply { manager: NAME.to_owned(), force: true, object };
    match client.patch::<ClusterRole>(None, &role.metadata.name, None, patch).await {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if error.code() == Some(415) => {
            // A server without apply.
            let meta = json!({"resourceVersion": role.metadata.resource_version});
            let patch = Patch::Merge(json!({"metadata": meta, "rules": rules}));
            client.patch::<ClusterRole>(None, &role.metadata.name, None, patch).await.map(drop)
        }
        result => result.map(drop),
    }
}

/// The rules a role should have, where they differ. Roles are taken by name, so that the result does not vary.
fn plan(role: &ClusterRole, roles: &[Arc<ClusterRole>]) -> Result<Option<Vec<Value>>, Error> {
    let Some(rule) = &role.aggregation_rule else { return Ok(None) };
    let mut sorted: Vec<_> = roles.iter().filter(|other| other.metadata.name != role.metadata.name).collect();
    sorted.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
    let mut wanted: Vec<Value> = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        if let Some(error) = selector.error() {
            return Err(Error::Other(error.to_owned()));
        }
        for other in sorted.iter().filter(|other| selector.matches(&other.metadata.labels)) {
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
