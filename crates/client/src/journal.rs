//! What a client's requests changed: for who must not act again before the cache shows it.

use std::borrow::Cow;

use serde::Deserialize;

use crate::resource::HeadMetadata;
use crate::{Key, ResourceRef};

/// Is informed of each write of a client that succeeded, or may have; see [`Client::with_journal`](crate::Client::with_journal).
pub trait Journal: Send + Sync {
    /// An object was written; it is of this revision now, or still.
    fn wrote(&self, resource: &ResourceRef, revision: u64);

    /// An object is gone. No revision says since when.
    fn deleted(&self, resource: &ResourceRef, key: &Key, uid: &str);

    /// A write may have happened, or may happen yet: there was no answer, or one that does not say. The name is empty where
    /// the server was to choose it.
    fn doubted(&self, resource: &ResourceRef, key: &Key);
}

/// What is read of an answer to a write: an object, or the status of a deletion.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    metadata: HeadMetadata<'a>,
    #[serde(borrow, default)]
    details: Option<Details<'a>>,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
}

/// Reports the answer to a write of `key`.
pub(crate) fn report(journal: &dyn Journal, resource: &ResourceRef, key: &Key, answer: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(answer) else { return };
    if answer.kind == "Status" {
        let uid = answer.details.map(|details| details.uid).unwrap_or_default();
        journal.deleted(resource, key, &uid);
    } else if let Ok(revision) = answer.metadata.resource_version.parse() {
        journal.wrote(resource, revision);
    }
}
