//! Requests that another server answers: they are authenticated, authorized and limited here, and then passed on.

use std::sync::Arc;

use access::user::MASTERS;
use api::Status;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{Front, long_running, too_many};
use crate::aggregator::Target;
use crate::body::Body;
use crate::request::Request;

/// Who answers a request, where it is not this server.
pub(super) fn target(request: &Request) -> Option<Arc<Target>> {
    let (catalog, path) = (&request.catalog, request.info.path.as_str());
    catalog.delegated.target(path).or_else(|| crate::openapi::target(catalog, path)).cloned()
}

/// Puts a header before those of the same name.
pub(super) fn put_first(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let others: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
    headers.insert(&name, value);
    headers.extend(others.into_iter().map(|value| (name.clone(), value)));
}

impl Front {
    /// Passes a request on. It takes a seat of its server's and none of ours.
    pub(super) async fn delegate(
        &self,
        target: &Target,
        request: Request,
        body: Incoming,
        exempt: bool,
        audit_id: &HeaderValue,
    ) -> Result<Response<Body>, Status> {
        if long_running(&request.info) {
            return self.aggregator.answer(target, request, body, audit_id, None).await;
        }
        let limit = self.allotted(request.query())?;
        let deadline = Instant::now() + limit;
        let answering = async {
            let user = &request.user;
            let user = (!exempt && !user.in_group(MASTERS)).then_some(user.name.as_str());
            let turn = target.turns.begin(&request.info.verb, user, 0).await;
            let Some(_turn) = turn else { return Ok(too_many()) };
            self.aggregator.answer(target, request, body, audit_id, Some(deadline)).await
        };
        let late = "request did not complete within the allotted timeout";
        tokio::time::timeout_at(deadline, answering).await.unwrap_or_else(|_| Err(Status::timeout(late, 0)))
    }
}
