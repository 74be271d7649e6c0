//! The generic handlers: one per verb, the same for every resource.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::body::Body;
use crate::delegate::{Hook, Reviews, Tokens};
use crate::request_info::RequestInfo;
use crate::resources::Resources;
use crate::user::User;

/// Everything a request needs after authorization.
pub struct Server {
    pub resources: Arc<Resources>,
    pub reviews: Option<Arc<dyn Reviews>>,
    pub tokens: Option<Arc<dyn Tokens>>,
    pub hooks: Vec<Arc<dyn Hook>>,
}

/// Answers an authenticated and authorized request: resources, discovery, OpenAPI, version. What no one serves is upstream's
/// `404 page not found`.
pub async fn handle<B>(
    _server: &Arc<Server>,
    _info: RequestInfo,
    _user: User,
    _request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Display,
{
    Response::new(Body::empty())
}
