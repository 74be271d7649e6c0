//! `/openapi/v2` and `/openapi/v3`, built when first asked for.
//!
//! Absent: v3 as protobuf, which is refused with 406.

use std::sync::Arc;

use api::Tree;
use api::discovery::Group;
use api::openapi::{self, Dialect, protobuf};
use http::header::{ACCEPT_RANGES, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::aggregator::{Target, merged};
use crate::body::Body;
use crate::catalog::Catalog;
use crate::discovery::Document;
use crate::negotiate::{JSON, best, response};

/// `parts`: the path below `/openapi`.
pub fn answer(catalog: &Catalog, parts: &[&str], headers: &HeaderMap) -> Option<Response<Body>> {
    let document = match parts {
        ["v2"] => return Some(swagger(catalog, headers)),
        ["v3"] => return Some(index_answer(catalog)),
        ["v3", "api", version] => document(catalog, "", version),
        ["v3", "apis", group, version] => document(catalog, group, version),
        ["v3", path @ ..] => root(catalog, &path.join("/")),
        _ => return None,
    };
    Some(match document {
        Some(document) if best(headers, &[JSON]).is_some() => document.answer(headers, JSON),
        Some(_) => nothing(StatusCode::NOT_ACCEPTABLE),
        None => nothing(StatusCode::NOT_FOUND),
    })
}

/// Who has the document at a path below `/openapi/v3`, where it is not this server.
pub fn target<'c>(catalog: &'c Catalog, path: &str) -> Option<&'c Arc<Target>> {
    if catalog.delegated.documents.is_empty() {
        return None;
    }
    let path = path.strip_prefix("/openapi/v3/")?;
    let (target, _) = catalog.delegated.documents.get(path)?;
    let groups = catalog.groups();
    let own = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => has(&groups, "", version),
        ["apis", group, version] => has(&groups, group, version),
        _ => openapi::root_paths(&groups).iter().any(|own| own == path),
    };
    (!own).then_some(target)
}

fn has(groups: &[Group<'_>], group: &str, version: &str) -> bool {
    let found = groups.iter().find(|own| own.name == group);
    found.is_some_and(|found| found.versions.iter().any(|own| own.version == version))
}

fn swagger(catalog: &Catalog, headers: &HeaderMap) -> Response<Body> {
    let tree = || {
        let own = catalog.kinds().flat_map(|kind| registry::custom::schemas(kind, Dialect::V2)).collect();
        merged(openapi::v2(&catalog.groups(), own), catalog.delegated.swaggers.iter().map(Arc::as_ref))
    };
    match best(headers, &[JSON, protobuf::ACCEPT, protobuf::MEDIA_TYPE]) {
        Some(JSON) => catalog.documents.swagger.get_or_init(|| Document::new(&tree())).answer(headers, JSON),
        Some(_) => catalog
            .documents
            .swagger_protobuf
            .get_or_init(|| Document::of(protobuf::encode(&tree())))
            .answer(headers, protobuf::MEDIA_TYPE),
        None => nothing(StatusCode::NOT_ACCEPTABLE),
    }
}

/// Upstream serves the index as a file that is always new.
fn index_answer(catalog: &Catalog) -> Response<Body> {
    let index = catalog.documents.index.get_or_init(|| Document::new(&index(catalog)));
    let mut answer = response(StatusCode::OK, "text/plain; charset=utf-8", index.bytes.clone());
    let now = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC);
    if let Ok(now) = HeaderValue::from_str(&now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
        answer.headers_mut().insert(LAST_MODIFIED, now);
    }
    answer.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}

/// An answer without a body, as upstream gives it here.
fn nothing(status: StatusCode) -> Response<Body> {
    let mut nothing = Response::new(Body::empty());
    *nothing.status_mut() = status;
    nothing
}

fn index(catalog: &Catalog) -> Tree {
    let groups = catalog.groups();
    let versions = groups.iter().flat_map(|group| {
        group.versions.iter().map(|version| {
            let of_version =
                catalog.kinds().filter(|kind| kind.group == group.name && kind.version == version.version);
            let published: Vec<&[u8]> =
                of_version.filter_map(|kind| kind.custom()).map(|custom| &*custom.published).collect();
            let hash = openapi::hash(group.name, version.version, &version.resources, &published);
            (openapi::path_of(group.name, version.version), hash)
        })
    });
    let roots = openapi::root_paths(&groups).into_iter().map(|path| {
        let hash = openapi::root_hash(&path);
        (path, hash)
    });
    let entries: Vec<(String, String)> = versions.chain(roots).collect();
    let mut index = openapi::v3_index(entries.iter().map(|(path, hash)| (path.as_str(), hash.clone())));
    if let Some(paths) = index["paths"].as_object_mut() {
        for (path, (_, entry)) in &catalog.delegated.documents {
            if !paths.contains_key(path) {
                paths.insert(path.as_str(), entry.clone());
            }
        }
        paths.sort_keys();
    }
    index
}

fn document(catalog: &Catalog, group: &str, version: &str) -> Option<Arc<Document>> {
    let groups = catalog.groups();
    let found = groups.iter().find(|own| own.name == group)?;
    let found = found.versions.iter().find(|own| own.version == version)?;
    let path = openapi::path_of(group, version);
    let own = || {
        let kinds = catalog.kinds().filter(|kind| kind.group == group && kind.version == version);
        kinds.flat_map(|kind| registry::custom::schemas(kind, Dialect::V3)).collect()
    };
    kept(catalog, &path, || Some(openapi::v3(group, found.version, &found.resources, own())))
}

/// What is no group's version.
fn root(catalog: &Catalog, path: &str) -> Option<Arc<Document>> {
    let known = openapi::root_paths(&catalog.groups()).iter().any(|own| own == path);
    if known { kept(catalog, path, || openapi::root(path)) } else { None }
}

fn kept(catalog: &Catalog, path: &str, make: impl FnOnce() -> Option<Tree>) -> Option<Arc<Document>> {
    if let Some(document) = catalog.documents.by_path.lock().get(path) {
        return Some(Arc::clone(document));
    }
    // two who ask at the same time both build it, which does no harm
    let document = Arc::new(Document::new(&make()?));
    catalog.documents.by_path.lock().insert(path.to_owned(), Arc::clone(&document));
    Some(document)
}
