//! Subresources that are more than the object seen through another strategy, and kinds that are never stored.

mod scale;

use api::{Status, Tree};
use bytes::Bytes;
use http::{Response, StatusCode};

use super::{Call, mutate, patch, read, render};
use crate::actions;
use crate::body::Body;
use crate::request::options::WriteOptions;
use crate::writes::{self, admission};

pub async fn answer(call: &Call<'_>, verb: &str, body: Bytes) -> Result<Response<Body>, Status> {
    match (call.request.info.subresource.as_str(), verb) {
        ("scale", "get") => scale::get(call).await,
        ("scale", "update") => scale::update(call, body).await,
        ("scale", "patch") => scale::patch(call, body).await,
        (_, "get") => read::get(call).await,
        (_, "update") => mutate::update(call, body).await,
        (_, "patch") => patch::patch(call, body).await,
        (_, "create") => actions::answer(call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Kinds that are answered instead of stored: reviews, and actions that are posted to the namespace.
pub async fn virtual_kind(
    call: &Call<'_>,
    tree: Tree,
    options: &WriteOptions,
) -> Result<Response<Body>, Status> {
    if actions::is_one(call.resource) {
        return actions::posted(call, tree, options).await;
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
