//! This server's identity: a Lease in kube-system that says it lives.

use std::sync::LazyLock;
use std::time::Duration;

use api::json;
use api::{Status, Tree};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::Bootstrap;
use crate::kinds;

const SECONDS: i64 = 3600;
const RENEW: Duration = Duration::from_secs(10);

/// Differs from start to start.
static HOLDER: LazyLock<String> = LazyLock::new(|| format!("{}_{}", name(&host()), uuid::Uuid::new_v4()));

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// `apiserver-` and the first half of a hash in base 32: that of the host's name and the server's, each after its length.
fn name(host: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host, "kube-apiserver"] {
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    let mut text = String::from("apiserver-");
    let (mut bits, mut count) = (0u32, 0);
    for byte in &hash[..16] {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(digit(bits >> count));
        }
    }
    if count > 0 {
        text.push(digit(bits << (5 - count)));
    }
    text
}

fn digit(value: u32) -> char {
    char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(value & 31) as usize])
}

pub async fn renew(bootstrap: &Bootstrap) -> Result<(), Status> {
    bootstrap.namespaces_known().await;
    let spec = || {
        json!({
            "holderIdentity": *HOLDER,
            "leaseDurationSeconds": SECONDS,
            "renewTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        })
    };
    let host = host();
    let name = name(&host);
    let address = std::net::SocketAddr::new(bootstrap.advertise, bootstrap.options.secure_port());
    let labels =
        json!({"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": host});
    let annotations = json!({"kubernetes.io/peer-advertise-address": address.to_string()});
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels, "annotations": annotations},
        "spec": spec(),
    });
    if bootstrap.ensure(kinds::leases(), "kube-system", object).await? {
        return Ok(());
    }
    let change = |stored: &mut Tree| {
        let set = |fields: &mut Tree, wanted: &Tree| {
            for (key, value) in wanted.as_object().into_iter().flatten() {
                fields[key] = value.clone();
            }
        };
        set(&mut stored["spec"], &spec());
        set(&mut stored["metadata"]["labels"], &labels);
        set(&mut stored["metadata"]["annotations"], &annotations);
        Ok(true)
    };
    bootstrap.server.update(kinds::leases(), "", "kube-system", &name, &change).await.map(drop)
}

/// Renews until `shutdown`, and then takes the Lease away: a server that stops does not live.
pub async fn keep(bootstrap: &Bootstrap, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
        if let Err(status) = renew(bootstrap).await {
            tracing::warn!(error = status.message, "Cannot renew this server's identity lease");
        }
    }
    let name = name(&host());
    let lease = bootstrap.resources.read(kinds::leases(), "kube-system", &name);
    if !lease.is_ok_and(|lease| lease.is_some_and(|lease| lease["spec"]["holderIdentity"] == **HOLDER)) {
        return;
    }
    if let Err(status) = bootstrap.server.delete(kinds::leases(), "kube-system", &name).await {
        tracing::warn!(error = status.message, "Cannot take away this server's identity lease");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_upstreams() {
        assert_eq!(super::name("vm"), "apiserver-wlv32tlttr4jl3gtroqexyxapa");
    }
}
