//! What a cache knows of its kind: where the objects lie in the store, how they are encoded, what they can be selected by.

use std::sync::Arc;

use api::model::{MessageRef, Scope};
use registry::Kind;

use crate::scan::Path;
use crate::{metrics, postings};

/// A kind at its storage version.
pub struct Stored {
    /// The resource at its storage version.
    pub resource: Arc<Kind>,
    /// `apps/v1`.
    pub api_version: String,
    /// Field labels beyond `metadata.name` and `metadata.namespace`, and where they stand.
    pub fields: Vec<(String, Path)>,
    /// Indexes into `fields` of those that objects are indexed by.
    pub indexed: Vec<usize>,
    /// Stored as JSON rather than protobuf.
    pub json: bool,
    /// Prefix of the keys: `/registry/pods/`.
    pub prefix: String,
}

/// Field labels of a kind beyond `metadata.name` and `metadata.namespace`, and where they stand.
pub fn selectable(kind: &Kind) -> Vec<(String, Path)> {
    registry::selectable::fields(kind)
        .iter()
        .filter(|(label, _)| !label.starts_with("metadata."))
        .filter_map(|(label, path)| Some(((*label).to_owned(), Path::compile(kind.message(), path)?)))
        .collect()
}

impl Stored {
    /// The kind that stores this resource's objects. `None` for what is never stored.
    /// `json`: stored so even where protobuf is the custom.
    pub fn of(resource: &Arc<Kind>, json: bool) -> Option<Arc<Stored>> {
        if resource.storage_prefix.is_empty() {
            return None;
        }
        let built_in = resource.custom().is_none().then(registry::kind::all).unwrap_or_default();
        let stored = built_in.iter().find(|kind| {
            kind.storage_prefix == resource.storage_prefix
                && kind.group == resource.storage_group
                && kind.version == resource.storage_version
        });
        let stored = Arc::clone(stored.unwrap_or(resource));
        let fields = selectable(&stored);
        let indexed = (0..fields.len())
            .filter(|index| postings::INDEXED.contains(&fields[*index].0.as_str()))
            .collect();
        Some(Arc::new(Stored {
            api_version: stored.api_version(),
            fields,
            indexed,
            json: json || stored.storage_json,
            prefix: format!("/registry/{}/", stored.storage_prefix),
            resource: stored,
        }))
    }

    pub fn message(&self) -> MessageRef<'_> {
        self.resource.message()
    }

    pub fn is_namespaced(&self) -> bool {
        self.resource.scope == Scope::Namespaced
    }

    /// The object's key in the store.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.is_namespaced() {
            format!("{}{namespace}/{name}", self.prefix)
        } else {
            format!("{}{name}", self.prefix)
        }
    }

    /// Reports an object that the store has and that cannot be read.
    pub fn report_unreadable(&self, error: &crate::entry::Error) {
        metrics::unreadable(&self.resource.group, &self.resource.plural);
        tracing::error!(%error, "A stored object cannot be read");
    }

    /// The index of a field label.
    pub fn field(&self, label: &str) -> Option<usize> {
        self.fields.iter().position(|(own, _)| *own == label)
    }
}
