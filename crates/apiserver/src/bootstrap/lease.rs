//! This server's identity: a Lease in kube-system that says it lives.

use std::sync::LazyLock;
use std::time::Duration;

use api::{Status, Tree};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::Bootstrap;
use crate::kinds;

const SECONDS: i64 = 3600;
const RENEW: Duration = Duration::from_secs(10);

/// Differs from start to start.
static HOLDER: LazyLock<String> = LazyLock::new(|| format!("{}_{}", name(), uuid::Uuid::new_v4()));

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// `apiserver-` and the first half of the host name's hash in base 32.
fn name() -> String {
    let hash = Sha256::digest(host().as_bytes());
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
    let name = name();
    let address = std::net::SocketAddr::new(bootstrap.advertise, bootstrap.options.secure_port());
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": "kube-system",
            "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": host()},
            "annotations": {"kubernetes.io/peer-advertise-address": address.to_string()},
        },
        "spec": spec(),
    });
    if bootstrap.ensure(kinds::leases(), "kube-system", object).await? {
        return Ok(());
    }
    let change = |stored: &mut Tree| {
        for (key, value) in spec().as_object().into_iter().flatten() {
            stored["spec"][key] = Value::clone(value);
        }
        Ok(true)
    };
    bootstrap.resources.update(kinds::leases(), "", "kube-system", &name, &change).await.map(drop)
}

/// Renews until `shutdown`.
pub async fn keep(bootstrap: &Bootstrap, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
        if let Err(status) = renew(bootstrap).await {
            tracing::warn!(error = status.message, "Cannot renew this server's identity lease");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_as_long_as_upstreams() {
        assert_eq!(super::name().len(), "apiserver-".len() + 26);
    }
}
