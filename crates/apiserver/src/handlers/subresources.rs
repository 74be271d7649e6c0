//! Subresources that are more than the object seen through another strategy, and kinds that are never stored.

mod eviction;
mod pods;
mod scale;

use api::decode::Expected;
use api::{Status, Tree};
use bytes::Bytes;
use http::{Response, StatusCode};

use super::mutate::decode;
use super::{Call, mutate, patch, read, render};
use crate::body::Body;
use crate::request::options::{Way, WriteOptions};
use crate::writes::ownership::Lone;
use crate::writes::{self, admission};
use access::tokens::{self, check_names};
use watchcache::filter::Filter;

pub async fn answer(call: &Call<'_>, verb: &str, body: Bytes) -> Result<Response<Body>, Status> {
    let plural = call.resource.plural.as_ref();
    match (plural, call.request.info.subresource.as_str(), verb) {
        ("pods", "binding", "create") => pods::bind(call, body).await,
        ("pods", "eviction", "create") => eviction::evict(call, body).await,
        ("serviceaccounts", "token", "create") => token(call, body).await,
        (_, "scale", "get") => scale::get(call).await,
        (_, "scale", "update") => scale::update(call, body).await,
        (_, "scale", "patch") => scale::patch(call, body).await,
        (_, _, "get") => read::get(call).await,
        (_, _, "update") => mutate::update(call, body).await,
        (_, _, "patch") => patch::patch(call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Kinds that are answered instead of stored: reviews, and bindings posted to the namespace.
pub async fn virtual_kind(
    call: &Call<'_>,
    tree: Tree,
    options: &WriteOptions,
) -> Result<Response<Body>, Status> {
    if call.resource.plural == "bindings" {
        return pods::bind_tree(call, tree, options).await;
    }
    let reviews = call.server.reviews.as_ref().ok_or_else(Status::unknown_path)?;
    let mut tree = tree;
    let write = call.write(options);
    writes::ownership::record_update(&write, None, &mut tree).await;
    admission::mutate(&write, call.resource, &mut tree).await?;
    admission::validate(&write, call.resource, &tree).await?;
    let answer =
        reviews.review(call.resource, &call.request.user, &call.request.info.namespace, tree).await?;
    Ok(render::tree_object(StatusCode::CREATED, answer, &call.target))
}

/// `serviceaccounts/token`.
async fn token(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.request, Way::Create)?;
    let expected = Expected::built_in("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = decode(call, &body, expected, &options)?;
    tokens::default(&mut request);
    writes::check_namespace(&mut request, call.namespace(), true)?;
    let write = call.write(&options);
    let lone = Lone::of("authentication.k8s.io", "v1", "TokenRequest", "authentication.k8s.io/v1");
    writes::ownership::record_lone(&write, lone.ok_or_else(Status::unknown_path)?, None, &mut request);
    admission::mutate(&write, call.resource, &mut request).await?;
    check_names(&request, call.namespace(), call.name())?;
    read::wait_for(call, None).await?;
    let account =
        call.cache()?.find(call.namespace(), call.name())?.ok_or_else(|| call.not_found())?.read()?;
    let tokens = call.server.tokens.as_ref().ok_or_else(Status::unknown_path)?;
    let request = tokens.prepare(&account, request)?;
    admission::validate(&write, call.resource, &request).await?;
    let mut warnings = Vec::new();
    let answer = tokens.issue(&account, request, &mut warnings).await;
    call.request.warn_all(warnings);
    Ok(render::tree_object(StatusCode::CREATED, answer?, &call.target))
}

/// All objects of another kind in the call's namespace, as trees.
fn others(call: &Call<'_>, group: &str, version: &str, plural: &str) -> Result<Vec<Tree>, Status> {
    let resource = api::tables::resource(group, version, plural);
    let Some(cache) = resource.and_then(|row| call.server.resources.feed.cache(&row.storage_prefix)) else {
        return Ok(Vec::new());
    };
    let filter = Filter::within(call.namespace());
    cache.snapshot(0).select(&filter, "", true).map(|entry| entry.read()).collect()
}

/// The call's object as the store has it.
async fn fresh(call: &Call<'_>) -> Result<std::sync::Arc<watchcache::entry::Entry>, Status> {
    let kind = &call.cache()?.kind;
    let key = kind.key(call.namespace(), call.name());
    writes::read(call.server, kind, &key).await?.ok_or_else(|| call.not_found())
}
