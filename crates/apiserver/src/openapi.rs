//! `/openapi/v2` and `/openapi/v3`, built when first asked for.

use std::sync::Arc;

use api::openapi;
use http::{HeaderMap, Response, StatusCode};

use crate::body::Body;
use crate::discovery::{Document, Documents};
use crate::negotiate::{JSON, response};

/// `parts`: the path below `/openapi`.
pub fn answer(documents: &Documents, parts: &[&str], headers: &HeaderMap) -> Option<Response<Body>> {
    match parts {
        ["v2"] if wants_only_protobuf(headers) => {
            Some(response(StatusCode::NOT_ACCEPTABLE, "text/plain; charset=utf-8", "Not Acceptable\n"))
        }
        ["v2"] => Some(
            documents
                .swagger
                .get_or_init(|| Document::new(&openapi::v2(&documents.groups)))
                .answer(headers, JSON),
        ),
        ["v3"] => {
            Some(documents.index.get_or_init(|| Document::new(&index(documents))).answer(headers, JSON))
        }
        ["v3", "api", version] if document(documents, "", version).is_some() => {
            document(documents, "", version).map(|document| document.answer(headers, JSON))
        }
        ["v3", "apis", group, version] if document(documents, group, version).is_some() => {
            document(documents, group, version).map(|document| document.answer(headers, JSON))
        }
        // nothing at all, as upstream answers
        ["v3", ..] => {
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NOT_FOUND;
            Some(nothing)
        }
        _ => None,
    }
}

/// The gnostic form of the document, which clients older than 1.24 ask for, is not made here.
fn wants_only_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("proto-openapi") && !accept.contains("json") && !accept.contains("*/*")
}

fn index(documents: &Documents) -> api::Tree {
    let entries: Vec<(String, String)> = documents
        .groups
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

fn document(documents: &Documents, group: &str, version: &str) -> Option<Arc<Document>> {
    let found = documents.groups.iter().find(|own| own.name == group)?;
    let found = found.versions.iter().find(|own| own.version == version)?;
    let path = openapi::path_of(group, version);
    if let Some(document) = documents.by_path.lock().get(&path) {
        return Some(Arc::clone(document));
    }
    // two who ask at the same time both build it, which does no harm
    let document = Arc::new(Document::new(&openapi::v3(group, found.version, &found.resources)));
    documents.by_path.lock().insert(path, Arc::clone(&document));
    Some(document)
}
