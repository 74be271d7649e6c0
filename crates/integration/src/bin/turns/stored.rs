//! What stands in etcd.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use client::{Client, Request};
use http::Method;
use serde::Deserialize;
use serde_json::json;

/// The revision of each key's last write.
pub type Stored = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    kvs: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    mod_revision: String,
}

/// What each server writes of itself, and what passes by itself.
const TRANSIENT: [&str; 5] = [
    "/registry/leases/kube-system/apiserver-",
    "/registry/masterleases/",
    "/registry/peerserverleases/",
    "/registry/events/",
    "/registry/ranges/",
];

async fn all(etcd: &Client) -> Result<Stored> {
    let (from, to) = (BASE64.encode("/registry/"), BASE64.encode("/registry0"));
    let body = json!({"key": from, "range_end": to, "keys_only": true});
    let answer: Answer = etcd.call(Request::new(Method::POST, "/v3/kv/range").json(&body)?).await?;
    let mut stored = Stored::new();
    for entry in answer.kvs {
        let key = String::from_utf8(BASE64.decode(entry.key)?)?;
        if !TRANSIENT.iter().any(|prefix| key.starts_with(prefix)) {
            stored.insert(key, entry.mod_revision);
        }
    }
    Ok(stored)
}

/// Waits until nothing is written any more.
pub async fn settled(etcd: &Client) -> Result<Stored> {
    let mut last = all(etcd).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = all(etcd).await?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

/// Keys that were written or removed.
pub fn differences(before: &Stored, after: &Stored) -> Vec<String> {
    let changed = after.iter().filter(|(key, revision)| before.get(*key) != Some(revision));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("{key} (removed)"));
    changed.map(|(key, _)| key.clone()).chain(gone).collect()
}
