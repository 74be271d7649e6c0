//! Writes what was chosen for a claim, and that the pod uses it.

use client::{Patch, ResourceRef};
use serde_json::{Value, json};

use crate::cluster::Pod;
use crate::cluster::facts::devices::DeviceClaim;
use crate::framework::Handle;

/// Keeps a claim that is allocated.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// How often a claim is read again that others change, or of which it is not known whether it is written.
const TRIES: usize = 5;

/// Writes it; answers the version of the claim that has it.
pub(super) async fn reserve(
    handle: &Handle,
    pod: &Pod,
    claim: &DeviceClaim,
    allocation: Option<&Value>,
) -> Result<u64, String> {
    let mut tries = 1;
    loop {
        match reserve_once(handle, pod, claim, allocation).await {
            Err((_, true)) if tries < TRIES => tries += 1,
            result => return result.map_err(|(message, _)| message),
        }
    }
}

/// The devices of an allocation.
fn picked(allocation: &Value) -> Vec<[&Value; 3]> {
    let results = allocation["devices"]["results"].as_array().into_iter().flatten();
    results.map(|result| ["driver", "pool", "device"].map(|part| &result[part])).collect()
}

/// The error says whether it may be tried again.
async fn reserve_once(
    handle: &Handle,
    pod: &Pod,
    claim: &DeviceClaim,
    allocation: Option<&Value>,
) -> Result<u64, (String, bool)> {
    let (key, resource) = (&claim.key, ResourceRef::of::<DeviceClaim>());
    let api = handle.client.at(&resource);
    let (namespace, name) = (key.namespace(), &*key.name);
    let failed = |what: &str, error: client::Error| {
        (format!("{what} claim {key}: {error}"), error.is_conflict() || error.is_doubtful())
    };
    let lost = |what: &str| (format!("claim {key} got {what}"), false);
    // Patches leave the spec as it is: it may not change, not even in the order of a configuration's fields.
    let mut seen: Value = api.get(namespace, name).await.map_err(|error| failed("get updated", error))?;
    let meta = &seen["metadata"];
    if !meta["deletionTimestamp"].is_null() || meta["uid"] != *claim.uid {
        return Err(lost("deleted in the meantime"));
    }
    let is_allocated = !seen["status"]["allocation"].is_null();
    let mut status = json!({});
    if let Some(allocation) = allocation {
        let users = seen["status"]["reservedFor"].as_array();
        let is_user = || users.into_iter().flatten().any(|user| user["uid"] == *pod.uid);
        if is_allocated && is_user() && picked(&seen["status"]["allocation"]) == picked(allocation) {
            // It was written when the answer was lost.
            let version = meta["resourceVersion"].as_str().and_then(|version| version.parse().ok());
            return Ok(version.unwrap_or_default());
        }
        if is_allocated {
            return Err(lost("allocated elsewhere in the meantime"));
        }
        let finalizers = meta["finalizers"].as_array().cloned().unwrap_or_default();
        if !finalizers.iter().any(|own| own == FINALIZER) {
            let finalizers: Vec<Value> = finalizers.into_iter().chain([FINALIZER.into()]).collect();
            let patch =
                json!({"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers}});
            let patched = api.patch(namespace, name, None, Patch::Merge(patch)).await;
            seen = patched.map_err(|error| failed("add finalizer to", error))?;
        }
        status["allocation"] = allocation.clone();
    } else if !is_allocated {
        return Err(lost("deallocated elsewhere in the meantime"));
    }
    if seen["status"]["allocation"]["allocationTimestamp"].is_null() {
        let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default();
        status["allocation"]["allocationTimestamp"] = now.to_string().into();
    }
    let consumer = json!({"resource": "pods", "name": &*pod.key.name, "uid": &*pod.uid});
    let mut reserved = seen["status"]["reservedFor"].as_array().cloned().unwrap_or_default();
    if !reserved.iter().any(|own| own["uid"] == consumer["uid"]) {
        reserved.push(consumer);
    }
    status["reservedFor"] = reserved.into();
    let what = match allocation {
        Some(_) => "add allocation and reservation to",
        None => "add reservation to",
    };
    let meta = json!({"resourceVersion": seen["metadata"]["resourceVersion"], "uid": &*claim.uid});
    let patch = Patch::Merge(json!({"metadata": meta, "status": status}));
    let patched = api.patch::<DeviceClaim>(namespace, name, Some("status"), patch).await;
    patched.map(|claim| claim.version).map_err(|error| failed(what, error))
}

/// The pod is no longer a user of the claim.
pub(super) async fn release(handle: &Handle, pod: &Pod, claim: &DeviceClaim) {
    let patch = json!({"metadata": {"uid": &*claim.uid},
        "status": {"reservedFor": [{"$patch": "delete", "uid": &*pod.uid}]}});
    let resource = ResourceRef::of::<DeviceClaim>();
    let (api, key) = (handle.client.at(&resource), &claim.key);
    let patch = Patch::Strategic(patch);
    let patched = api.patch::<serde::de::IgnoredAny>(key.namespace(), &key.name, Some("status"), patch).await;
    if let Err(error) = patched {
        // The pod's next attempt, or its end, does it.
        tracing::error!(pod = %pod.key, resourceclaim = %key, %error, "unreserve");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use client::{Client, Config, Informers};
    use serde::Deserialize;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// Keeps a claim; the answer to the first write of its status is lost.
    async fn serve(listener: TcpListener, mut claim: Value) {
        let mut is_lost = false;
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (mut first, mut line, mut length) = (String::new(), String::from("-"), 0);
            stream.read_line(&mut first).await.unwrap();
            while !line.trim().is_empty() {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            if first.starts_with("PATCH") && first.contains("/status") {
                claim["status"] = serde_json::from_slice::<Value>(&body).unwrap()["status"].take();
                claim["metadata"]["resourceVersion"] = "2".into();
                if !std::mem::replace(&mut is_lost, true) {
                    continue;
                }
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n{claim}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_written_counts_though_its_answer_is_lost() {
        let claim = json!({"metadata": {"namespace": "ns", "name": "c", "uid": "u", "resourceVersion": "1"}});
        let pod = json!({"metadata": {"namespace": "ns", "name": "p", "uid": "p"}});
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let client = Client::new(config).unwrap();
        let informers = Informers::new(client.clone());
        let handle = Handle {
            client,
            pods: informers.all(),
            nodes: informers.all(),
            claims: informers.all(),
            volumes: informers.all(),
            device_claims: informers.all(),
            changes: Arc::default(),
            recorders: Default::default(),
        };
        let (own, user) = (DeviceClaim::deserialize(&claim).unwrap(), Pod::deserialize(&pod).unwrap());
        let allocation = json!({"devices": {"results": [{"driver": "d", "pool": "p", "device": "x"}]}});
        let version = tokio::select! {
            () = serve(listener, claim) => panic!("the server ended"),
            version = reserve(&handle, &user, &own, Some(&allocation)) => version,
        };
        assert_eq!(version, Ok(2));
    }
}
