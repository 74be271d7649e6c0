//! What is created below an object and is no part of it: it is done, and not stored. Each is about one kind.

mod binding;
mod eviction;
mod token;

use api::model::Resource;
use api::{Status, Tree};
use bytes::Bytes;
use http::Response;
use watchcache::filter::Filter;

use crate::body::Body;
use crate::handlers::Call;
use crate::request::options::WriteOptions;
use crate::writes;

pub async fn answer(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    match (&*call.resource.group, &*call.resource.plural, call.request.info.subresource.as_str()) {
        ("", "pods", "binding") => binding::bind(call, body).await,
        ("", "pods", "eviction") => eviction::evict(call, body).await,
        ("", "serviceaccounts", "token") => token::issue(call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Whether the kind is an action by itself, beside the subresource.
pub fn is_one(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "bindings"
}

/// What was posted as such a kind.
pub async fn posted(call: &Call<'_>, tree: Tree, options: &WriteOptions) -> Result<Response<Body>, Status> {
    binding::bind_tree(call, tree, options).await
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
