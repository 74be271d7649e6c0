//! `deletecollection`.

use api::Status;
use bytes::Bytes;
use futures::StreamExt as _;
use http::Response;

use super::options::ListOptions;
use super::{Call, delete_options, read, render};
use crate::body::Body;
use crate::writes::Operation;
use crate::writes::delete::{self as deletion};

/// Deletes under way at once, where the flag does not ask for more: the time of each is mostly the store's.
const AT_ONCE: usize = 32;

/// Deletes what a list with the same parameters would show, and answers with that list.
pub async fn delete(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let (options, dry_run) = delete_options::of_request(call, &body)?;
    super::mutate::warn_of_dependents(call, &options);
    let list = ListOptions::parse(call.query, false)?;
    let filter = read::filter(call, &list)?;
    let (entries, meta) = read::select(call, &list, &filter).await?;
    let options = &options;
    let deletes: Vec<_> = entries
        .iter()
        .map(|entry| async move {
            let operation =
                Operation { name: &entry.name, namespace: &entry.namespace, ..call.operation(dry_run) };
            match deletion::delete(&operation, options).await {
                // someone else was quicker
                Err(status) if status.code == 404 => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .collect();
    let mut deletes = futures::stream::iter(deletes)
        .buffer_unordered(call.server.settings.delete_collection_workers.max(AT_ONCE));
    while let Some(deleted) = deletes.next().await {
        deleted?;
    }
    drop(deletes);
    Ok(render::list(entries, &meta, &call.target))
}
