//! Where the graph hears of a resource's objects, and what it reads of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use client::{Informer, ResourceRef, Text};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::graph::Seen;
use crate::views::{self, OwnerReference as Owner, Pod};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// What the graph needs of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) metadata: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    name: Box<str>,
    namespace: Text,
    uid: Text,
    resource_version: Box<str>,
    deletion_timestamp: Option<IgnoredAny>,
    finalizers: Box<[Text]>,
    owner_references: Box<[Owner]>,
}

/// Where the graph hears of a resource's objects.
pub(super) enum Monitor {
    /// The flag says whether the informer is followed: it may be in the middle of an event when it is stopped.
    Metadata(Informer<Object>, Arc<AtomicBool>),
    /// Pods are cached whole for other controllers already, and there are more of them than of all else.
    Pods(Informer<Pod>),
}

impl Monitor {
    pub(super) async fn synced(&self) {
        match self {
            Monitor::Metadata(informer, _) => informer.synced().await,
            Monitor::Pods(informer) => informer.synced().await,
        }
    }
}

/// What is read of metadata, in either form.
macro_rules! read {
    ($name:ident, $meta:ty) => {
        pub(super) fn $name<'a>(resource: &Arc<ResourceRef>, meta: &'a $meta) -> Seen<'a> {
            let has = |wanted: &str| meta.finalizers.iter().any(|name| **name == *wanted);
            Seen {
                resource: resource.clone(),
                name: &meta.name,
                namespace: &meta.namespace,
                uid: &meta.uid,
                version: &meta.resource_version,
                owners: &meta.owner_references,
                deleting: meta.deletion_timestamp.is_some(),
                foreground: has(FOREGROUND),
                orphan: has(ORPHAN),
            }
        }
    };
}

read!(seen, Meta);
read!(pod_seen, views::Meta);
