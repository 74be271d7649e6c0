//! What this server itself asks of aggregated ones. Answers have bounds in size and time: whoever writes APIServices names any server.

use std::time::Duration;

use access::user::{MASTERS, User};
use http::header::{ACCEPT, ETAG, HOST, IF_NONE_MATCH, USER_AGENT, VIA};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use super::headers::identity;
use super::{Aggregator, Target};
use crate::body::Body;

/// A GET.
pub struct Fetch<'a> {
    pub path: &'a str,
    pub user: &'a str,
    /// Acts with all rights.
    pub master: bool,
    pub accept: &'static str,
    /// Of the document that is known already.
    pub etag: &'a str,
    pub longest: usize,
    pub timeout: Duration,
}

/// An answer, whole.
pub struct Fetched {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Fetched {
    pub fn etag(&self) -> String {
        self.headers.get(ETAG).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }
}

impl Aggregator {
    /// The answer of a server, or Go's words for what went wrong.
    pub(super) async fn fetch(
        &self,
        target: &Target,
        address: &str,
        fetch: &Fetch<'_>,
    ) -> Result<Fetched, String> {
        let mut request = Request::get(fetch.path).body(Body::empty()).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        let groups = if fetch.master { vec![MASTERS.to_owned()] } else { Vec::new() };
        identity(&User { name: fetch.user.to_owned(), groups, ..User::default() }, headers)?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        headers.insert(HOST, value(address)?);
        headers.insert(VIA, self.mark.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver"));
        if !fetch.accept.is_empty() {
            headers.insert(ACCEPT, HeaderValue::from_static(fetch.accept));
        }
        if !fetch.etag.is_empty() {
            headers.insert(IF_NONE_MATCH, value(fetch.etag)?);
        }
        let exchange = async {
            let answer = target.connections.send(address, request).await?;
            let (parts, body) = answer.into_parts();
            let body =
                Limited::new(body, fetch.longest).collect().await.map_err(|error| error.to_string())?;
            Ok(Fetched { status: parts.status, headers: parts.headers, body: body.to_bytes().to_vec() })
        };
        let late =
            || Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
        tokio::time::timeout(fetch.timeout, exchange).await.unwrap_or_else(|_| late())
    }
}
