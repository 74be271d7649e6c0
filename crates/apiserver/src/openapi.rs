//! `/openapi/v2` and `/openapi/v3`, built when first asked for.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use api::openapi;
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;

use crate::body::Body;
use crate::discovery::{Document, GROUPS};
use crate::negotiate::{JSON, response};

static SWAGGER: LazyLock<Document> = LazyLock::new(|| Document::new(&openapi::v2(&GROUPS)));
static INDEX: LazyLock<Document> = LazyLock::new(|| Document::new(&index()));
static DOCUMENTS: LazyLock<Mutex<HashMap<String, Arc<Document>>>> = LazyLock::new(Mutex::default);

/// `parts`: the path below `/openapi`.
pub fn answer(parts: &[&str], headers: &HeaderMap) -> Option<Response<Body>> {
    match parts {
        ["v2"] if wants_only_protobuf(headers) => {
            Some(response(StatusCode::NOT_ACCEPTABLE, "text/plain; charset=utf-8", "Not Acceptable\n"))
        }
        ["v2"] => Some(SWAGGER.answer(headers, JSON)),
        ["v3"] => Some(INDEX.answer(headers, JSON)),
        ["v3", "api", version] => document("", version).map(|document| document.answer(headers, JSON)),
        ["v3", "apis", group, version] => {
            document(group, version).map(|document| document.answer(headers, JSON))
        }
        _ => None,
    }
}

/// The gnostic form of the document, which clients older than 1.24 ask for, is not made here.
fn wants_only_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("proto-openapi") && !accept.contains("json") && !accept.contains("*/*")
}

fn index() -> api::Tree {
    let entries: Vec<(String, String)> = GROUPS
        .iter()
        .flat_map(|group| {
            group.versions.iter().map(|version| {
                let hash = openapi::hash(group.name, version.version, &version.resources);
                (openapi::path_of(group.name, version.version), hash)
            })
        })
        .collect();
    openapi::v3_index(entries.iter().map(|(path, hash)| (path.as_str(), hash.clone())))
}

fn document(group: &str, version: &str) -> Option<Arc<Document>> {
    let found = GROUPS.iter().find(|own| own.name == group)?;
    let found = found.versions.iter().find(|own| own.version == version)?;
    let path = openapi::path_of(group, version);
    if let Some(document) = DOCUMENTS.lock().get(&path) {
        return Some(Arc::clone(document));
    }
    // two who ask at the same time both build it, which does no harm
    let document = Arc::new(Document::new(&openapi::v3(group, found.version, &found.resources)));
    DOCUMENTS.lock().insert(path, Arc::clone(&document));
    Some(document)
}
