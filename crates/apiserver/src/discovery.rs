//! `/api`, `/apis`, `/version` and what is below them: documents made from the model.

use std::sync::{Arc, LazyLock};

use api::Tree;
use api::discovery::{self, Group};
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest as _, Sha512};

use crate::body::Body;
use crate::handlers::Server;
use crate::negotiate::{JSON, accepted_plain, response, tree_response};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The groups that are served, in discovery's order.
pub static GROUPS: LazyLock<Vec<Group<'static>>> = LazyLock::new(discovery::built_in);

static CORE: LazyLock<Document> = LazyLock::new(|| Document::aggregated(true));
static OTHERS: LazyLock<Document> = LazyLock::new(|| Document::aggregated(false));

/// A document with the hash by which a client knows whether it has changed.
pub struct Document {
    pub bytes: Bytes,
    pub etag: String,
}

impl Document {
    pub fn new(tree: &Tree) -> Document {
        let bytes = serde_json::to_vec(tree).unwrap_or_default();
        let etag = Sha512::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        Document { bytes: bytes.into(), etag }
    }

    fn aggregated(core: bool) -> Document {
        let groups: Vec<Group<'static>> =
            GROUPS.iter().filter(|group| group.name.is_empty() == core).cloned().collect();
        Document::new(&discovery::aggregated(&groups))
    }

    /// The document, or that the client has it already.
    pub fn answer(&self, headers: &HeaderMap, content_type: &'static str) -> Response<Body> {
        let etag = format!("\"{}\"", self.etag);
        let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(etag.as_str());
        let mut answer = if known {
            response(StatusCode::NOT_MODIFIED, content_type, Body::empty())
        } else {
            response(StatusCode::OK, content_type, self.bytes.clone())
        };
        if let Ok(value) = HeaderValue::from_str(&etag) {
            answer.headers_mut().insert(ETAG, value);
        }
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        answer
    }
}

/// The answer, where one of these documents is asked for.
pub fn answer(server: &Arc<Server>, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let media = accepted_plain(headers);
    let plain = |tree: &Tree| Some(tree_response(StatusCode::OK, media, tree));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => {
            let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
            for group in GROUPS.iter().filter(|group| !group.name.is_empty()) {
                paths.push(format!("/apis/{}", group.name));
                paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.version)));
            }
            let others =
                ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"];
            paths.extend(others.map(str::to_owned));
            let pretty = serde_json::to_vec_pretty(&serde_json::json!({"paths": paths})).unwrap_or_default();
            Some(response(StatusCode::OK, JSON, pretty))
        }
        ["version"] => {
            let pretty = serde_json::to_vec_pretty(&daemon::version::info()).unwrap_or_default();
            Some(response(StatusCode::OK, JSON, pretty))
        }
        ["api"] if wants_aggregated(headers) => Some(aggregated(&CORE, headers)),
        ["apis"] if wants_aggregated(headers) => Some(aggregated(&OTHERS, headers)),
        ["api"] => plain(&discovery::api_versions(server.address.get().map_or("", String::as_str))),
        ["apis"] => {
            let groups: Vec<Group<'static>> =
                GROUPS.iter().filter(|group| !group.name.is_empty()).cloned().collect();
            plain(&discovery::api_group_list(&groups))
        }
        ["apis", name] => plain(&discovery::api_group(group(name)?)),
        ["api", version] => plain(&resource_list("", version)?),
        ["apis", name, version] => plain(&resource_list(name, version)?),
        ["openapi", ..] => crate::openapi::answer(&parts[1..], headers),
        _ => None,
    }
}

fn group(name: &str) -> Option<&'static Group<'static>> {
    GROUPS.iter().find(|group| group.name == name && !name.is_empty())
}

fn resource_list(name: &str, version: &str) -> Option<Tree> {
    let group = GROUPS.iter().find(|group| group.name == name)?;
    let version = group.versions.iter().find(|own| own.version == version)?;
    Some(discovery::api_resource_list(name, version.version, &version.resources))
}

fn aggregated(document: &Document, headers: &HeaderMap) -> Response<Body> {
    let mut answer = document.answer(headers, AGGREGATED);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
    answer
}

/// Whether the first clause that can be served is the aggregated document.
fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let aggregated = rest.contains(&"as=APIGroupDiscoveryList");
        match range {
            JSON if aggregated && rest.contains(&"v=v2") => return true,
            JSON | "*/*" | "application/*" if !aggregated => return false,
            _ => {}
        }
    }
    false
}
