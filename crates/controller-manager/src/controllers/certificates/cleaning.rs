//! `certificatesigningrequest-cleaner-controller`: requests go when they have been decided on, or left alone, for long
//! enough.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Informer, Key};
use controllers::{Context, Error, Next, Reconcile};
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::requests::{Request, pem};
use crate::Options;

const DECIDED: i64 = 3600;
const UNDECIDED: i64 = 24 * 3600;

struct Controller {
    requests: Informer<Request>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "certificate-controller";
    let mut builder = context.builder("csrcleaner", account, account).await?;
    let requests = builder.reconciles();
    builder.run(1, Controller { requests }).await
}

/// When a request is to go.
fn end(request: &Request) -> Option<Timestamp> {
    let created = request.metadata.created();
    let conditions = &request.status.conditions;
    if conditions.is_empty() {
        return after(created, UNDECIDED);
    }
    let issued = !request.status.certificate.is_empty();
    let ends = conditions.iter().filter_map(|condition| {
        let at = condition.last_update_time.as_ref()?.0;
        match condition.type_.as_str() {
            "Denied" | "Failed" => after(at, DECIDED),
            "Approved" => after(at, if issued { DECIDED } else { UNDECIDED }),
            _ => None,
        }
    });
    let expires = issued.then(|| expiry(&request.status.certificate)).flatten();
    ends.chain(expires.filter(|_| request.has("Approved"))).min()
}

fn after(time: Timestamp, seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(time.as_second().checked_add(seconds)?).ok()
}

fn expiry(certificate: &str) -> Option<Timestamp> {
    let der = pem(certificate, "CERTIFICATE")?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(request) = self.requests.get_key(key) else { return Ok(Next::Done) };
        let Some(end) = end(&request) else { return Ok(Next::Done) };
        let left = end.as_second() - Timestamp::now().as_second();
        if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        tracing::info!(csr = %key, "Cleaning a certificate signing request");
        let options = DeleteOptions::default().uid(request.metadata.uid.clone());
        match client.delete::<Request>(None, &key.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn how_long_requests_stay() {
        let check = |status: Value, expect: &str| {
            let metadata = json!({"creationTimestamp": "2026-01-01T00:00:00Z"});
            let request: Request =
                serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
            assert_eq!(end(&request).map(|end| end.to_string()).unwrap_or_default(), expect, "{status}");
        };
        let decided = |kind: &str, certificate: &str| {
            json!({"certificate": certificate, "conditions": [
                {"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T02:00:00Z"},
            ]})
        };
        check(json!({}), "2026-01-02T00:00:00Z");
        check(decided("Approved", ""), "2026-01-02T02:00:00Z");
        check(decided("Approved", "eA=="), "2026-01-01T03:00:00Z");
        check(decided("Denied", ""), "2026-01-01T03:00:00Z");
        check(decided("Failed", ""), "2026-01-01T03:00:00Z");
        check(decided("Other", ""), "");
    }
}
