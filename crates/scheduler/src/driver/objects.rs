//! Whole objects for extenders. The scheduler itself keeps a few fields of each; these caches are there only where an
//! extender is configured that has to be sent more.

use std::sync::Arc;

use client::{Client, Informer, Informers, Scope, Selectors, View};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Pod, Symbol};
use crate::core::Core;
use crate::core::inquiry::{Answer, Inquiry};
use crate::extenders::{Extenders, Objects};

/// An object without what upstream's scheduler does not keep either.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
struct Whole(Value);

impl From<Value> for Whole {
    fn from(mut value: Value) -> Whole {
        if let Some(fields) = value.as_object_mut() {
            fields.shift_remove("apiVersion");
            fields.shift_remove("kind");
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.shift_remove("managedFields");
            }
        }
        Whole(value)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
struct WholePod(Whole);

impl View for WholePod {
    type Of = k8s_openapi::api::core::v1::Pod;
}

#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
struct WholeNode(Whole);

impl View for WholeNode {
    type Of = k8s_openapi::api::core::v1::Node;
}

pub struct WholeObjects {
    client: Client,
    extenders: Arc<Extenders>,
    core: Arc<Mutex<Core>>,
    pods: Informer<WholePod>,
    /// None where every extender knows the nodes itself.
    nodes: Option<Informer<WholeNode>>,
}

impl WholeObjects {
    pub fn new(
        informers: &Informers,
        client: &Client,
        extenders: Arc<Extenders>,
        core: Arc<Mutex<Core>>,
    ) -> WholeObjects {
        let unfinished = Selectors::fields("status.phase!=Succeeded,status.phase!=Failed");
        WholeObjects {
            client: client.clone(),
            core,
            pods: informers.watch(Scope::All, unfinished),
            nodes: extenders.need_nodes().then(|| informers.all()),
            extenders,
        }
    }

    pub fn has_synced(&self) -> bool {
        self.pods.has_synced() && self.nodes.as_ref().is_none_or(Informer::has_synced)
    }

    pub async fn ask(&self, inquiry: &Inquiry) -> Answer {
        self.extenders.answer(inquiry, self).await
    }
}

#[async_trait::async_trait]
impl Objects for WholeObjects {
    async fn pod(&self, pod: &Pod) -> Result<Value, String> {
        let (namespace, name) = (pod.key.namespace(), &*pod.key.name);
        let is_same = |whole: &Value| whole.pointer("/metadata/uid").is_some_and(|uid| *uid == *pod.uid);
        if let Some(whole) = self.pods.get(namespace, name).filter(|whole| is_same(&whole.0.0)) {
            return Ok(whole.0.0.clone());
        }
        // This cache is behind the other one.
        let whole = self.client.get::<WholePod>(namespace, name).await.map_err(|error| error.to_string())?;
        Ok(whole.0.0)
    }

    async fn node(&self, name: &Symbol) -> Result<Value, String> {
        if let Some(whole) = self.nodes.as_ref().and_then(|nodes| nodes.get(None, name.as_str())) {
            return Ok(whole.0.0.clone());
        }
        let whole = self.client.get::<WholeNode>(None, name.as_str()).await;
        whole.map(|whole| whole.0.0).map_err(|error| error.to_string())
    }

    fn placed(&self, extender: &str, node: &Symbol, uids: &[String]) -> Result<Vec<Arc<Pod>>, String> {
        let core = self.core.lock();
        let row = core.table.index(node).map(|index| core.table.row(index)).filter(|row| row.present);
        let row = row.ok_or_else(|| format!("nodeinfo not found for node name {:?}", node.as_str()))?;
        let pod = |uid: &String| {
            row.pods.get(uid.as_str()).cloned().ok_or_else(|| {
                format!(
                    "extender: {extender} claims to preempt pod (UID: &{{{uid}}}) on node: {node}, but the pod is not found on that node"
                )
            })
        };
        uids.iter().map(pod).collect()
    }
}
