//! Objects that are simply there.

use api::json;
use api::tree::Object;
use api::{Status, Tree};
use registry::Kind;
use serde::Deserialize;
use std::sync::Arc;

use super::{Bootstrap, flow_control};
use crate::kinds;

/// Specs of the built-in priority levels and flow schemas.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    flow_schemas: Vec<Named>,
    priority_levels: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    spec: Tree,
}

fn file() -> File {
    serde_json::from_str(include_str!("objects.json"))
        .expect("the file is part of the build and a test reads it")
}

/// In the order in which they are made.
pub const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

pub async fn namespaces(bootstrap: &Bootstrap) -> Result<(), Status> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let objects =
        NAMESPACES.iter().map(|name| (kinds::namespaces(), String::new(), namespace(name))).collect();
    bootstrap.ensure_all(objects).await
}

pub async fn priority_classes(bootstrap: &Bootstrap) -> Result<(), Status> {
    let class = |name: &str, value: i64, description: &str| {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        (kinds::priority_classes(), String::new(), object)
    };
    let objects = vec![
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    bootstrap.ensure_all(objects).await
}

/// The default priority levels, and the flow schemas that name them.
pub(super) fn flow_control() -> Vec<flow_control::Standard> {
    let File { flow_schemas, priority_levels } = file();
    let of = |resource: &'static Arc<Kind>| {
        move |Named { name, spec }| flow_control::Standard { resource, name, spec }
    };
    let levels = priority_levels.into_iter().map(of(kinds::priority_levels()));
    levels.chain(flow_schemas.into_iter().map(of(kinds::flow_schemas()))).collect()
}

/// `kube-system/extension-apiserver-authentication`: how others verify the clients that this server accepts.
pub async fn authentication_info(bootstrap: &Bootstrap) -> Result<(), Status> {
    bootstrap.namespaces_known().await;
    let options = &bootstrap.options;
    let mut data = Object::new();
    if let Some(pem) = &bootstrap.client_ca {
        data.insert("client-ca-file", json!(pem));
    }
    if let Some(pem) = &bootstrap.request_header_ca {
        let list = |values: &[String]| json!(json!(values).to_string());
        data.insert("requestheader-client-ca-file", json!(pem));
        data.insert("requestheader-allowed-names", list(&options.requestheader_allowed_names));
        data.insert("requestheader-username-headers", list(&options.requestheader_username_headers));
        if !options.requestheader_uid_headers.is_empty() {
            data.insert("requestheader-uid-headers", list(&options.requestheader_uid_headers));
        }
        data.insert("requestheader-group-headers", list(&options.requestheader_group_headers));
        data.insert("requestheader-extra-headers-prefix", list(&options.requestheader_extra_headers_prefix));
    }
    if data.is_empty() {
        return Ok(());
    }
    let name = "extension-apiserver-authentication";
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"}, "data": data});
    if bootstrap.ensure(kinds::config_maps(), "kube-system", object).await? {
        return Ok(());
    }
    let change = |stored: &mut Tree| {
        let mut changed = false;
        for (key, value) in &data {
            if stored["data"].get(key) != Some(value) {
                stored["data"][key] = value.clone();
                changed = true;
            }
        }
        Ok(changed)
    };
    bootstrap.server.update(kinds::config_maps(), "", "kube-system", name, &change).await.map(drop)
}

/// `kube-system/kube-apiserver-legacy-service-account-token-tracking`: since when the use of old tokens is recorded.
pub async fn token_tracking(bootstrap: &Bootstrap) -> Result<(), Status> {
    bootstrap.namespaces_known().await;
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let name = "kube-apiserver-legacy-service-account-token-tracking";
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"}, "data": {"since": today}});
    bootstrap.ensure(kinds::config_maps(), "kube-system", object).await.map(drop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_can_be_read() {
        let file = super::file();
        assert_eq!((file.flow_schemas.len(), file.priority_levels.len()), (11, 8));
    }
}
