//! The `kubernetes` Service in `default`, the ServiceCIDR it comes from, and its endpoints: every API server that lives.

use std::net::IpAddr;
use std::sync::Arc;

use api::json;
use api::model::MessageRef;
use api::{Status, Tree, wire};
use bytes::Bytes;
use registry::Kind;
use store::prefix_end;
use tokio_util::sync::CancellationToken;

use super::Bootstrap;
use crate::kinds;

/// How long a server counts as alive after its last sign of life, in seconds.
const LIFE: u32 = 15;

pub async fn reconcile(bootstrap: &Bootstrap) -> Result<(), Status> {
    let ranges: Vec<String> =
        bootstrap.options.service_cluster_ip_range.iter().map(ToString::to_string).collect();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let conditions = json!([{
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
    }]);
    let cidr = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ranges},
    });
    let ready = |stored: &mut Tree| {
        if stored["status"]["conditions"].is_array() {
            return Ok(false);
        }
        stored["status"] = json!({"conditions": conditions});
        Ok(true)
    };
    bootstrap.ensure(kinds::service_cidrs(), "", cidr).await?;
    bootstrap.server.update(kinds::service_cidrs(), "status", "", "kubernetes", &ready).await?;

    bootstrap.namespaces_known().await;
    service(bootstrap).await?;
    match endpoints(bootstrap).await {
        // An address that endpoints cannot have, such as a loopback one, stays what it is: the server serves without.
        Err(status) if status.reason == "Invalid" => {
            tracing::warn!(error = status.message, "Cannot publish this server's address");
            Ok(())
        }
        other => other,
    }
}

/// The Service, should it not be there. One that is there is its owner's.
async fn service(bootstrap: &Bootstrap) -> Result<(), Status> {
    let Some(range) = bootstrap.services.addresses.first() else { return Ok(()) };
    let address = range.lock().first();
    let mut port = json!({
        "name": "https",
        "port": 443,
        "protocol": "TCP",
        "targetPort": bootstrap.options.secure_port(),
    });
    let node_port = bootstrap.options.kubernetes_service_node_port;
    if node_port > 0 {
        port["nodePort"] = json!(node_port);
    }
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": address.to_string(),
            "ipFamilyPolicy": "SingleStack",
            "ports": [port],
            "sessionAffinity": "None",
            "type": if node_port > 0 { "NodePort" } else { "ClusterIP" },
        },
    });
    bootstrap.ensure(kinds::services(), "default", service).await.map(drop)
}

/// Keeps the Service there and its endpoints right until `shutdown`, then takes this server out of them.
pub async fn keep(bootstrap: &Bootstrap, shutdown: &CancellationToken) {
    let period = bootstrap.periods.service;
    while shutdown.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
        if let Err(status) = service(bootstrap).await {
            tracing::warn!(error = status.message, "Cannot restore the kubernetes service");
        }
        if let Err(status) = endpoints(bootstrap).await {
            tracing::warn!(error = status.message, "Cannot update the endpoints of the kubernetes service");
        }
    }
    if bootstrap.options.endpoint_reconciler_type == "none" {
        return;
    }
    if let Err(status) = leave(bootstrap).await {
        tracing::warn!(error = status.message, "Cannot leave the endpoints of the kubernetes service");
    }
}

async fn endpoints(bootstrap: &Bootstrap) -> Result<(), Status> {
    if bootstrap.options.endpoint_reconciler_type == "none" {
        return Ok(());
    }
    sign_of_life(bootstrap).await?;
    publish(bootstrap).await
}

async fn leave(bootstrap: &Bootstrap) -> Result<(), Status> {
    let key = own_key(bootstrap);
    if let (Some(own), _) = bootstrap.store.get(key.as_bytes()).await.map_err(Status::internal)? {
        bootstrap.store.delete(key.as_bytes(), own.mod_revision).await.map_err(Status::internal)?;
    }
    publish(bootstrap).await
}

fn prefix(bootstrap: &Bootstrap) -> String {
    format!("{}/masterleases/", bootstrap.options.etcd_prefix.trim_end_matches('/'))
}

fn own_key(bootstrap: &Bootstrap) -> String {
    format!("{}{}", prefix(bootstrap), bootstrap.advertise)
}

/// Renews this server's key, which ends by itself when the server does.
async fn sign_of_life(bootstrap: &Bootstrap) -> Result<(), Status> {
    let key = own_key(bootstrap);
    let (own, _) = bootstrap.store.get(key.as_bytes()).await.map_err(Status::internal)?;
    let generation = own.as_ref().map_or(0, |own| generation(&own.value)) + 1;
    let expected = own.map_or(0, |own| own.mod_revision);
    let value = life(bootstrap.advertise, generation)?;
    bootstrap.store.put(key.as_bytes(), value, expected, Some(LIFE)).await.map_err(Status::internal)?;
    Ok(())
}

fn message() -> Result<MessageRef<'static>, Status> {
    api::tables::message("k8s.io.api.core.v1.Endpoints").ok_or_else(|| Status::internal("no Endpoints"))
}

/// What a server's key holds. The generation goes up with every sign, or there would be nothing to write.
fn life(address: IpAddr, generation: i64) -> Result<Bytes, Status> {
    let tree = json!({
        "metadata": {"generation": generation},
        "subsets": [{"addresses": [{"ip": address.to_string()}]}],
    });
    let type_meta = wire::TypeMeta { api_version: "v1", kind: "Endpoints" };
    let mut out = Vec::with_capacity(64);
    let message = message()?;
    wire::envelope::wrap_with(type_meta, &mut out, |out| wire::tree_to_proto(&tree, message, out))
        .map_err(Status::internal)?;
    Ok(out.into())
}

fn generation(stored: &[u8]) -> i64 {
    let tree: Tree = match (wire::envelope::is_enveloped(stored), message()) {
        (true, Ok(message)) => wire::object_to_tree(stored, message).unwrap_or_default(),
        _ => serde_json::from_slice(stored).unwrap_or_default(),
    };
    tree["metadata"]["generation"].as_i64().unwrap_or(0)
}

/// Writes Endpoints and EndpointSlice from the servers that live.
async fn publish(bootstrap: &Bootstrap) -> Result<(), Status> {
    let prefix = prefix(bootstrap);
    let end = prefix_end(prefix.as_bytes());
    let range = bootstrap.store.range(prefix.as_bytes(), &end, 0, 0).await.map_err(Status::internal)?;
    let mut addresses: Vec<IpAddr> = range
        .items
        .iter()
        .filter_map(|item| std::str::from_utf8(&item.key).ok()?.strip_prefix(&prefix)?.parse().ok())
        .collect();
    addresses.sort_unstable();
    let port = bootstrap.options.secure_port();
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let listed: Vec<Tree> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
    let subsets = match listed.is_empty() {
        true => json!([]),
        false => {
            json!([{"addresses": listed, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}])
        }
    };
    let object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "subsets": subsets,
    });
    put(bootstrap, kinds::endpoints(), object, &["subsets"]).await?;
    let conditions = json!({"ready": true});
    let endpoints: Vec<Tree> = addresses
        .iter()
        .map(|address| json!({"addresses": [address.to_string()], "conditions": conditions}))
        .collect();
    let family = if bootstrap.advertise.is_ipv4() { "IPv4" } else { "IPv6" };
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    put(bootstrap, kinds::endpoint_slices(), object, &["endpoints", "ports"]).await
}

/// Creates the object, or makes these fields of the stored one equal to its.
async fn put(
    bootstrap: &Bootstrap,
    resource: &'static Arc<Kind>,
    object: Tree,
    fields: &[&str],
) -> Result<(), Status> {
    if bootstrap.ensure(resource, "default", object.clone()).await? {
        return Ok(());
    }
    let empty = |value: &Tree| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let change = |stored: &mut Tree| {
        let mut changed = false;
        for field in fields {
            if stored[*field] != object[*field] && !(empty(&stored[*field]) && empty(&object[*field])) {
                stored[*field] = object[*field].clone();
                changed = true;
            }
        }
        Ok(changed)
    };
    bootstrap.server.update(resource, "", "default", "kubernetes", &change).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_is_upstreams() {
        let stored = life("10.1.2.3".parse().unwrap(), 2).unwrap();
        let expect = b"k8s\0\n\x0f\n\x02v1\x12\tEndpoints\x12\"\n\x10\n\0\x12\0\x1a\0\"\0*\x002\x008\x02B\0\x12\x0e\n\x0c\n\x0810.1.2.3\x1a\0\x1a\0\"\0";
        assert_eq!(*stored, expect[..]);
        assert_eq!(generation(&stored), 2);
        assert_eq!(generation(br#"{"kind":"Endpoints","metadata":{"generation":7}}"#), 7);
    }
}
