//! `/api`, `/apis`, `/version` and what is below them: documents made from the model.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use api::discovery::{self, Group};
use api::{Status, Tree};
use bytes::Bytes;
use daemon::metrics::{Counter, registry};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha512};

use crate::body::Body;
use crate::catalog::Catalog;
use crate::handlers::Server;
use crate::negotiate::{
    self, Endpoint, JSON, MediaType, OBJECTS, encode_tree, response, status_response, tree_response,
};
use crate::request::Request;

/// What a server says of the groups it serves; each document is made when it is first asked for.
#[derive(Default)]
pub struct Documents {
    core: OnceLock<Aggregated>,
    others: OnceLock<Aggregated>,
    /// OpenAPI v2 in its two encodings, the index of v3, and v3 by path.
    pub(crate) swagger: Arc<OnceLock<Document>>,
    pub(crate) swagger_protobuf: Arc<OnceLock<Document>>,
    pub(crate) index: OnceLock<Document>,
    pub(crate) by_path: Arc<Mutex<HashMap<String, Arc<Document>>>>,
}

impl Documents {
    /// Those of a catalog of the same kinds beside other delegated ones. `same_swaggers`: OpenAPI v2 is the same, too.
    pub fn of_same_kinds(&self, same_swaggers: bool) -> Documents {
        let mut documents = Documents { by_path: Arc::clone(&self.by_path), ..Documents::default() };
        if same_swaggers {
            documents.swagger = Arc::clone(&self.swagger);
            documents.swagger_protobuf = Arc::clone(&self.swagger_protobuf);
        }
        documents
    }
}

fn aggregated(catalog: &Catalog, core: bool) -> &Aggregated {
    let place = if core { &catalog.documents.core } else { &catalog.documents.others };
    place.get_or_init(|| {
        let (own, delegated) = (catalog.groups(), &catalog.delegated);
        let mut groups = delegated.discovered(&own);
        groups.retain(|group| group.name.is_empty() == core);
        let entry = |group: &str, version: &str| {
            let key = (group.to_owned(), version.to_owned());
            delegated.discovery.get(&key).map(|entry| Tree::clone(entry))
        };
        Aggregated::new(discovery::aggregated(&groups, entry))
    })
}

fn resource_list(groups: &[Group<'_>], name: &str, version: &str) -> Option<Tree> {
    let group = groups.iter().find(|group| group.name == name)?;
    let version = group.versions.iter().find(|own| own.version == version)?;
    Some(discovery::api_resource_list(name, version.version, &version.resources))
}

/// A document with the hash by which a client knows whether it has changed.
pub struct Document {
    pub bytes: Bytes,
    pub etag: String,
}

impl Document {
    pub fn new(tree: &Tree) -> Document {
        Document::of(serde_json::to_vec(tree).unwrap_or_default())
    }

    pub fn of(bytes: Vec<u8>) -> Document {
        let etag = Sha512::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        Document { bytes: bytes.into(), etag }
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

/// All that is served, in one document, by its encodings.
struct Aggregated {
    tree: Tree,
    /// Hash of the listed groups, not of the document's own kind; the same in every encoding.
    etag: String,
    encoded: Mutex<HashMap<&'static str, Bytes>>,
}

static MADE: LazyLock<Arc<Counter>> = LazyLock::new(|| {
    registry().counter(
        "aggregator_discovery_aggregation_count_total",
        "Counter of number of times discovery was aggregated",
    )
});

impl Aggregated {
    fn new(tree: Tree) -> Aggregated {
        MADE.inc();
        let mut listed = tree.clone();
        if let Some(listed) = listed.as_object_mut() {
            listed.remove("kind");
            listed.remove("apiVersion");
        }
        let Document { etag, .. } = Document::new(&listed);
        Aggregated { tree, etag, encoded: Mutex::default() }
    }

    fn answer(&self, headers: &HeaderMap, media: MediaType) -> Response<Body> {
        let content_type = match media {
            MediaType::Json => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            MediaType::Yaml => "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            MediaType::Protobuf => {
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
        };
        let mut encoded = self.encoded.lock();
        let bytes = encoded.entry(content_type).or_insert_with(|| encode_tree(media, &self.tree).1).clone();
        drop(encoded);
        let document = Document { bytes, etag: self.etag.clone() };
        let mut answer = document.answer(headers, content_type);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        answer
    }
}

/// The answer, where one of these documents is asked for.
pub fn answer(server: &Server, request: &Request) -> Option<Response<Body>> {
    let catalog = &*request.catalog;
    let (method, path, headers) = (&request.parts.method, request.info.path.as_str(), request.headers());
    let own = catalog.groups();
    let groups = catalog.delegated.listed(&own);
    let group = |name: &str| groups.iter().find(|group| group.name == name && !name.is_empty());
    if path.starts_with("//") {
        return None;
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // these are resources to upstream's router: found or not, they answer with a `Status`
    let refused = match parts.as_slice() {
        ["api", version] if *version != "v1" => Some(Status::unknown_path()),
        ["apis", name, version]
            if own.iter().any(|group| group.name == *name)
                && resource_list(&groups, name, version).is_none() =>
        {
            Some(Status::unknown_path())
        }
        ["api" | "version"] | ["api", _] if method != Method::GET => Some(Status::method_not_allowed()),
        ["apis", name, _] if method != Method::GET && group(name).is_some() => {
            Some(Status::method_not_allowed())
        }
        _ => None,
    };
    if let Some(status) = refused {
        return Some(status_response(headers, &status));
    }
    let media = negotiate::choose(headers, Endpoint::Discovery).map(|accepted| accepted.media);
    match (parts.as_slice(), media) {
        (["api"], Some(media)) if path == "/api" => {
            return Some(aggregated(catalog, true).answer(headers, media));
        }
        (["apis"], Some(media)) if path == "/apis" => {
            return Some(aggregated(catalog, false).answer(headers, media));
        }
        _ => {}
    }
    // paths that upstream's router knows allow only reads; those that it passes on answer every method
    let passed_on = matches!(parts.as_slice(), ["apis"] | ["apis", _]);
    if method != Method::GET && method != Method::HEAD && !passed_on {
        return None;
    }
    let routed = match parts.as_slice() {
        ["api"] | ["api", _] | ["apis", _, _] => negotiate::route(headers, &OBJECTS),
        ["version"] => negotiate::route(headers, &[JSON]),
        _ => Ok(()),
    };
    if let Err(status) = routed {
        return Some(status_response(headers, &status));
    }
    let plain = |tree: &Tree| {
        Some(match negotiate::choose(headers, Endpoint::Plain) {
            Some(accepted) => tree_response(StatusCode::OK, accepted.media, tree),
            None => status_response(headers, &Status::representation_not_acceptable(&OBJECTS)),
        })
    };
    match parts.as_slice() {
        [""] => {
            let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
            for group in groups.iter().filter(|group| !group.name.is_empty()) {
                paths.push(format!("/apis/{}", group.name));
                paths.extend(
                    group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.version)),
                );
            }
            let others = [
                "/.well-known/openid-configuration",
                "/apis/",
                "/flagz",
                "/healthz",
                "/livez",
                "/metrics",
                "/metrics/slis",
                "/openapi/v2",
                "/openapi/v3",
                "/openapi/v3/",
                "/openid/v1/jwks",
                "/readyz",
                "/statusz",
                "/version",
            ];
            paths.extend(others.map(str::to_owned));
            paths.extend(server.checks.get().into_iter().flatten().cloned());
            paths.sort_unstable();
            let pretty = serde_json::to_vec_pretty(&api::json!({"paths": paths})).unwrap_or_default();
            Some(response(StatusCode::OK, JSON, pretty))
        }
        ["version"] => {
            let pretty = serde_json::to_vec_pretty(&daemon::version::info()).unwrap_or_default();
            Some(response(StatusCode::OK, JSON, pretty))
        }
        ["api"] => plain(&discovery::api_versions(server.address.get().map_or("", String::as_str))),
        ["apis"] => plain(&discovery::api_group_list(&groups)),
        ["apis", name] => plain(&discovery::api_group(group(name)?)),
        ["api", version] => plain(&resource_list(&groups, "", version)?),
        ["apis", name, version] => plain(&resource_list(&groups, name, version)?),
        ["openapi", ..] => crate::openapi::answer(catalog, &parts[1..], headers),
        _ => None,
    }
}
