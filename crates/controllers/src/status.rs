//! Writing statuses.

use client::{Client, ResourceRef, View};
use serde::Serialize;
use serde_json::json;

use crate::views::{Meta, Object, Partial};

/// Writes the status of an object where it differs, under the version of the object that it was made from. Whether it was
/// written: an object that is gone needs none.
pub async fn write_status<V, S>(client: &Client, object: &V, old: &S, new: &S) -> client::Result<bool>
where
    V: View + Object,
    S: Serialize + PartialEq,
{
    if old == new { Ok(false) } else { write_status_with::<V>(client, object.meta(), new).await }
}

/// As [`write_status`], whether it differs or not, with this metadata.
pub async fn write_status_with<V: View + Object>(
    client: &Client,
    meta: &Meta,
    status: &impl Serialize,
) -> client::Result<bool> {
    let body = json!({"apiVersion": V::API_VERSION, "kind": V::KIND, "metadata": meta, "status": status});
    let resource = ResourceRef::of::<V>();
    let api = client.at(&resource);
    match api.update::<Partial>(meta.namespace(), &meta.name, Some("status"), &body).await {
        Err(error) if error.is_not_found() => Ok(false),
        result => result.map(|_| true),
    }
}
