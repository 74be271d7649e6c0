//! `deletecollection`.

use std::sync::Arc;

use api::Status;
use bytes::Bytes;
use futures::StreamExt as _;
use http::Response;
use watchcache::entry::Entry;

use super::options::ListOptions;
use super::{Call, delete_options, read, render};
use crate::body::Body;
use crate::writes::Write;
use crate::writes::delete::{self as deletion, DeleteOptions};

/// Deletes under way at once, where the flag does not ask for more: the time of each is mostly the store's.
const AT_ONCE: usize = 32;

/// Objects that are listed, and so deleted, at once.
const PAGE: i64 = 10_000;

/// Deletes what a list with the same parameters would show, and answers with that list. Where no limit is given it is read
/// in pages, which are pages of the one state that a resource version names.
pub async fn delete(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let mut list = ListOptions::parse(call.request.query())?;
    let filter = read::filter(call, &list)?;
    let (deletion, options) = delete_options::of_request(call, &body)?;
    if deletion.ignore_read_error {
        let why = "is not allowed with DELETECOLLECTION, try again after removing the option";
        return Err(delete_options::unreadable_refused(why));
    }
    super::mutate::warn_of_dependents(call, &deletion);
    let write = call.write(&options);
    let paged = list.limit == 0;
    if paged {
        list.limit = PAGE;
    }
    let (mut entries, mut meta) = read::select(call, &list, &filter).await?;
    delete_all(&write, &entries, &deletion).await?;
    while paged && !meta.continue_token.is_empty() {
        list.continue_token = std::mem::take(&mut meta.continue_token);
        list.given_version.clear();
        meta.remaining = None;
        let (more, next) = read::select(call, &list, &filter).await?;
        delete_all(&write, &more, &deletion).await?;
        meta.continue_token = next.continue_token;
        entries.extend(more);
    }
    Ok(render::list(entries, &meta, &call.target).await)
}

async fn delete_all(
    write: &Write<'_>,
    entries: &[Arc<Entry>],
    options: &DeleteOptions,
) -> Result<(), Status> {
    let deletes: Vec<_> = entries
        .iter()
        .map(|entry| async move {
            let write = Write { name: &entry.name, namespace: &entry.namespace, ..*write };
            match deletion::delete(&write, options).await {
                // someone else was quicker
                Err(status) if status.code == 404 => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .collect();
    let mut deletes = futures::stream::iter(deletes)
        .buffer_unordered(write.server.settings.delete_collection_workers.max(AT_ONCE));
    while let Some(deleted) = deletes.next().await {
        deleted?;
    }
    Ok(())
}
