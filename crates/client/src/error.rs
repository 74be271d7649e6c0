//! Errors between a daemon and the API server.

use std::time::Duration;

use crate::transport::Failure;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed request, or a configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `Status`.
    #[error("{0}")]
    Status(Box<api::Status>),
    /// The connection could not be made or broke.
    #[error("{method} {url}: {source}")]
    Transport {
        method: String,
        url: String,
        source: Box<dyn std::error::Error + Send + Sync>,
        /// Whether the server may have the request.
        sent: bool,
    },
    #[error("{method} {url}: timed out after {after:?}")]
    Timeout { method: String, url: String, after: Duration },
    /// The answer's body is not what was asked for.
    #[error("decoding {what}: {source}")]
    Decode { what: String, source: serde_json::Error },
    #[error("encoding the request: {0}")]
    Encode(serde_json::Error),
    #[error("invalid configuration: {0}")]
    Config(String),
    #[error("open {path}: {}", in_words(source))]
    File { path: String, source: std::io::Error },
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("invalid request: {0}")]
    Http(#[from] http::Error),
    /// A write of a leader whose lease has run out was not sent.
    #[error("leaderelection lost")]
    NotLeading,
    /// The owner of the operation asked it to stop.
    #[error("shutting down")]
    Shutdown,
}

/// The commonest failures as the system words them, without their numbers.
fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

impl Error {
    /// The `Status` the server sent, where it sent one.
    pub fn status(&self) -> Option<&api::Status> {
        match self {
            Error::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP code of the answer; none when there was no answer.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    fn reason(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    /// Whether there was no answer at all.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Error::Transport { .. } | Error::Timeout { .. })
    }

    /// Whether a write that ended with it may have happened nevertheless.
    pub fn is_doubtful(&self) -> bool {
        match self {
            Error::Transport { sent, .. } => *sent,
            Error::Timeout { .. } => true,
            // Webhooks are called before anything is written.
            Error::Status(status) => status.code >= 500 && !status.message.contains("failed calling webhook"),
            _ => false,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.reason("NotFound") || self.code() == Some(404)
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason("AlreadyExists")
    }

    pub fn is_conflict(&self) -> bool {
        self.reason("Conflict")
    }

    pub fn is_invalid(&self) -> bool {
        self.reason("Invalid")
    }

    pub fn is_forbidden(&self) -> bool {
        self.reason("Forbidden")
    }

    pub fn is_unauthorized(&self) -> bool {
        self.code() == Some(401)
    }

    pub fn is_too_many_requests(&self) -> bool {
        self.code() == Some(429)
    }

    /// The resource version asked for is no longer (or not yet) kept by the server.
    pub fn is_expired(&self) -> bool {
        self.reason("Expired") || self.reason("Gone") || self.code() == Some(410)
    }

    /// A refusal because the namespace is being deleted: retrying a create is pointless.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status()
            .and_then(|status| status.details.as_ref())
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    }

    pub(crate) fn from_status(status: api::Status) -> Error {
        Error::Status(Box::new(status))
    }

    pub(crate) fn transport(request: (&http::Method, &http::Uri), failure: Failure) -> Error {
        let Failure { source, sent } = failure;
        Error::Transport { method: request.0.to_string(), url: request.1.to_string(), source, sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_cannot_have_happened_are_not_doubtful() {
        let status = |code: u16, message: &str| {
            let text = format!(r#"{{"code": {code}, "message": {message:?}}}"#);
            Error::from_status(serde_json::from_str(&text).unwrap())
        };
        let transport = |sent: bool| Error::Transport {
            method: "POST".into(),
            url: "/".into(),
            source: "refused".into(),
            sent,
        };
        let check = |error: Error, expect: bool| assert_eq!(error.is_doubtful(), expect, "{error:?}");
        check(transport(true), true);
        check(transport(false), false);
        check(status(500, "etcdserver: request timed out"), true);
        check(status(504, "Timeout: request did not complete"), true);
        check(status(500, "Internal error occurred: failed calling webhook \"x\": no"), false);
        check(status(409, "conflict"), false);
        check(Error::Shutdown, false);
    }
}
