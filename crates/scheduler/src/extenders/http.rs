//! Requests to extenders, and reading their answers as Go does.

use std::time::Duration;

use ::http::Method;
use client::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::Extender;

/// The limit of a request is kept here, for its words.
const GRACE: Duration = Duration::from_secs(1);
/// The most of an answer that is read.
const MOST: usize = 256 << 20;

impl Extender {
    pub(super) async fn send(&self, verb: &str, arguments: &Value) -> Result<Value, String> {
        let url = format!("{}/{verb}", self.url.trim_end_matches('/'));
        let of_post = |error: &dyn std::fmt::Display| format!("Post {url:?}: {error}");
        let request = Request::new(Method::POST, format!("/{verb}")).json(arguments);
        let request = request.map_err(|error| error.to_string())?.timeout(self.timeout + GRACE);
        let answered = async {
            let response = self.client.send(request).await.map_err(|error| match error {
                client::Error::Transport { source, .. } => of_post(&self.words(&*source)),
                error => of_post(&error),
            })?;
            if response.status() != ::http::StatusCode::OK {
                let code = response.status().as_u16();
                return Err(format!("failed {verb} with extender at URL {url}, code {code}"));
            }
            let body = http_body_util::Limited::new(response.into_body(), MOST);
            let bytes = body.collect().await.map_err(|error| of_post(&error))?.to_bytes();
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())
        };
        let limited = tokio::time::timeout(self.timeout, answered).await;
        limited.unwrap_or_else(|_| {
            Err(of_post(&"context deadline exceeded (Client.Timeout exceeded while awaiting headers)"))
        })
    }
}

impl Extender {
    /// Why there was no connection, as Go words it.
    fn words(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let refused = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        match (refused, self.client.config().server.authority()) {
            (Some(std::io::ErrorKind::ConnectionRefused), Some(authority)) => {
                format!("dial tcp {authority}: connect: connection refused")
            }
            _ => cause.to_string(),
        }
    }
}

/// A field whose name is in any case, as Go's decoder takes it.
pub(super) fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = object.as_object()?;
    let found = fields
        .get(name)
        .or_else(|| fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

/// The error that an answer names.
pub(super) fn error(result: &Value) -> Option<String> {
    field(result, "Error")?.as_str().filter(|error| !error.is_empty()).map(str::to_owned)
}
