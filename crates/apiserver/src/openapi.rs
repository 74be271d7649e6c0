//! `/openapi/v2` and `/openapi/v3`, built when first asked for.
//!
//! Absent: v3 as protobuf, which is refused with 406.

use std::sync::Arc;

use api::Tree;
use api::openapi::{self, protobuf};
use http::{HeaderMap, Response, StatusCode};

use crate::body::Body;
use crate::discovery::{Document, Documents};
use crate::negotiate::{JSON, best};

/// `parts`: the path below `/openapi`.
pub fn answer(documents: &Documents, parts: &[&str], headers: &HeaderMap) -> Option<Response<Body>> {
    let document = match parts {
        ["v2"] => return Some(swagger(documents, headers)),
        ["v3"] => {
            return Some(
                documents.index.get_or_init(|| Document::new(&index(documents))).answer(headers, JSON),
            );
        }
        ["v3", "api", version] => document(documents, "", version),
        ["v3", "apis", group, version] => document(documents, group, version),
        ["v3", path @ ..] => root(documents, &path.join("/")),
        _ => return None,
    };
    Some(match document {
        Some(document) if best(headers, &[JSON]).is_some() => document.answer(headers, JSON),
        Some(_) => nothing(StatusCode::NOT_ACCEPTABLE),
        None => nothing(StatusCode::NOT_FOUND),
    })
}

fn swagger(documents: &Documents, headers: &HeaderMap) -> Response<Body> {
    let tree = || openapi::v2(&documents.groups);
    match best(headers, &[JSON, protobuf::ACCEPT, protobuf::MEDIA_TYPE]) {
        Some(JSON) => documents.swagger.get_or_init(|| Document::new(&tree())).answer(headers, JSON),
        Some(_) => documents
            .swagger_protobuf
            .get_or_init(|| Document::of(protobuf::encode(&tree())))
            .answer(headers, protobuf::MEDIA_TYPE),
        None => nothing(StatusCode::NOT_ACCEPTABLE),
    }
}

/// An answer without a body, as upstream gives it here.
fn nothing(status: StatusCode) -> Response<Body> {
    let mut nothing = Response::new(Body::empty());
    *nothing.status_mut() = status;
    nothing
}

fn index(documents: &Documents) -> Tree {
    let versions = documents.groups.iter().flat_map(|group| {
        group.versions.iter().map(|version| {
            let hash = openapi::hash(group.name, version.version, &version.resources);
            (openapi::path_of(group.name, version.version), hash)
        })
    });
    let roots = openapi::root_paths(&documents.groups).into_iter().map(|path| {
        let hash = openapi::root_hash(&path);
        (path, hash)
    });
    let entries: Vec<(String, String)> = versions.chain(roots).collect();
    openapi::v3_index(entries.iter().map(|(path, hash)| (path.as_str(), hash.clone())))
}

fn document(documents: &Documents, group: &str, version: &str) -> Option<Arc<Document>> {
    let found = documents.groups.iter().find(|own| own.name == group)?;
    let found = found.versions.iter().find(|own| own.version == version)?;
    let path = openapi::path_of(group, version);
    kept(documents, &path, || Some(openapi::v3(group, found.version, &found.resources)))
}

/// What is no group's version.
fn root(documents: &Documents, path: &str) -> Option<Arc<Document>> {
    let known = openapi::root_paths(&documents.groups).iter().any(|own| own == path);
    if known { kept(documents, path, || openapi::root(path)) } else { None }
}

fn kept(documents: &Documents, path: &str, make: impl FnOnce() -> Option<Tree>) -> Option<Arc<Document>> {
    if let Some(document) = documents.by_path.lock().get(path) {
        return Some(Arc::clone(document));
    }
    // two who ask at the same time both build it, which does no harm
    let document = Arc::new(Document::new(&make()?));
    documents.by_path.lock().insert(path.to_owned(), Arc::clone(&document));
    Some(document)
}
