//! Waits until a pod's devices are ready.

use std::time::Duration;

use client::Key;

use crate::cluster::facts::devices::{DeviceClaim, Prepared};
use crate::framework::{Handle, Subject};

/// How often it is looked whether a claim has had its time.
const ROUND: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("resourceclaim.resource.k8s.io {0:?} not found")]
    Gone(String),
    #[error("device binding timeout: claim={0}")]
    Overdue(String),
    #[error("device binding failed: {0}")]
    Failed(String),
}

pub(super) async fn wait(handle: &Handle, claims: Vec<Key>, patience: Duration) -> Result<(), String> {
    let interest = handle.changes.subscribe(claims.iter().cloned().map(Subject::DeviceClaim).collect());
    let ready = async {
        while !is_ready(handle, &claims, patience)? {
            // What ends the wait is the time, or a change.
            let _ = tokio::time::timeout(ROUND, interest.changed()).await;
        }
        Ok::<(), Error>(())
    };
    match tokio::time::timeout(patience, ready).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("device binding timeout: context deadline exceeded".to_owned()),
    }
}

fn is_ready(handle: &Handle, claims: &[Key], patience: Duration) -> Result<bool, Error> {
    for key in claims {
        let seen: Option<std::sync::Arc<DeviceClaim>> = handle.device_claims.get_key(key);
        let claim = seen.ok_or_else(|| Error::Gone(key.name.to_string()))?;
        match claim.prepared() {
            Prepared::Ready => {}
            Prepared::NotYet if claim.is_overdue(patience, jiff::Timestamp::now()) => {
                return Err(Error::Overdue(key.name.to_string()));
            }
            Prepared::NotYet => return Ok(false),
            Prepared::Failed(why) => return Err(Error::Failed(why)),
        }
    }
    Ok(true)
}
