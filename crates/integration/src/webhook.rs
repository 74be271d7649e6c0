//! An admission webhook on this machine.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use daemon::serving::{self, KeyPair, TlsConfig};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Pki;

/// Serves until it is dropped.
pub struct Webhook {
    /// What stands in a configuration under `clientConfig`.
    pub client_config: Value,
    _stop: DropGuard,
}

impl Webhook {
    /// `decide` is given the request of a review, and returns the response without its `uid`.
    pub fn start(pki: &Pki, decide: fn(&Value) -> Value) -> Result<Webhook> {
        pki.issue("webhook", None)?;
        let path = |file| pki.path(file);
        let keys = KeyPair { certificate: path("webhook.crt"), key: path("webhook.key") };
        let tls = TlsConfig::from_files(keys)?;
        let listener = serving::bind("127.0.0.1:0".parse()?, false)?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let decide = Arc::new(decide);
        let answer = service_fn(move |request| answer(request, decide.clone()));
        tokio::spawn(serving::serve(listener, Some(tls), answer, serving::Options::default(), stop.clone()));
        let authority = BASE64.encode(std::fs::read(path("ca.crt"))?);
        let client_config = json!({"url": format!("https://{address}/"), "caBundle": authority});
        Ok(Webhook { client_config, _stop: stop.drop_guard() })
    }
}

async fn answer(
    request: http::Request<Incoming>,
    decide: Arc<fn(&Value) -> Value>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = async {
        let body = request.into_body().collect().await?.to_bytes();
        let review: Value = serde_json::from_slice(&body).context("a review")?;
        let mut answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": decide(&review["request"])});
        answer["response"]["uid"] = review["request"]["uid"].clone();
        anyhow::Ok(serde_json::to_vec(&answer)?)
    };
    let mut response = Response::default();
    match answer.await {
        Ok(body) => *response.body_mut() = Full::from(body),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}
