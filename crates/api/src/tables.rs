//! The built-in kinds: rows and messages, looked up by name.
//!
//! The facts are in `tables/generated.txt`, written by `cargo xtask codegen`; they are read once, at first
//! use, in about a millisecond. Every string borrows from that text.

mod parse;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::model::{Group, Message, MessageRef, Model, Resource};

static TABLES: LazyLock<Tables> =
    LazyLock::new(|| Tables::index(parse::parse(include_str!("tables/generated.txt"))));

type Triple = (&'static str, &'static str, &'static str);

struct Tables {
    groups: &'static [Group],
    resources: &'static [Resource],
    enabled: Vec<Resource>,
    messages: &'static [Message],
    by_plural: HashMap<Triple, &'static Resource>,
    by_kind: HashMap<Triple, &'static Resource>,
    kinds: HashMap<Triple, u32>,
    by_name: HashMap<&'static str, u32>,
}

impl Tables {
    fn index(rows: parse::Rows) -> Self {
        // the tables live as long as the process
        let resources: &'static [Resource] = rows.resources.leak();
        let mut messages = rows.messages;
        (0..).zip(&mut messages).for_each(|(index, message)| message.index = index);
        let messages: &'static [Message] = messages.leak();
        let mut by_plural = HashMap::new();
        let mut by_kind = HashMap::new();
        for resource in resources {
            by_plural.insert((&*resource.group, &*resource.version, &*resource.plural), resource);
            by_kind.entry((&*resource.group, &*resource.version, &*resource.kind)).or_insert(resource);
        }
        Self {
            groups: rows.groups.leak(),
            enabled: resources.iter().filter(|resource| resource.enabled).cloned().collect(),
            resources,
            messages,
            by_plural,
            by_kind,
            kinds: rows
                .kinds
                .into_iter()
                .map(|kind| ((kind.group, kind.version, kind.kind), kind.message))
                .collect(),
            by_name: (0..).zip(messages).map(|(index, message)| (&*message.name, index)).collect(),
        }
    }
}

/// API groups in discovery's order, the core group (`""`) first, with all their versions.
pub fn groups() -> &'static [Group] {
    TABLES.groups
}

/// The resources served by default, in discovery's order of groups and versions.
pub fn resources() -> &'static [Resource] {
    &TABLES.enabled
}

/// Every resource, also of the alpha and beta versions that are off by default.
pub fn all_resources() -> &'static [Resource] {
    TABLES.resources
}

/// A resource by its plural name.
pub fn resource(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    TABLES.by_plural.get(&(group, version, plural)).copied()
}

/// A resource by its kind.
pub fn kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    TABLES.by_kind.get(&(group, version, kind)).copied()
}

/// The message of any kind, also of those that are no resource: lists, options, reviews, `Status`, `Table`.
/// Kinds of `meta.k8s.io` that upstream registers in every group (`DeleteOptions`, `Status`, …) are found in any.
pub fn kind_message(group: &str, version: &str, kind: &str) -> Option<MessageRef<'static>> {
    let tables = &*TABLES;
    let index = tables.kinds.get(&(group, version, kind)).or_else(|| {
        let everywhere = matches!(
            kind,
            "DeleteOptions"
                | "ListOptions"
                | "GetOptions"
                | "CreateOptions"
                | "UpdateOptions"
                | "PatchOptions"
                | "Status"
                | "WatchEvent"
        );
        everywhere.then(|| tables.kinds.get(&("", "v1", kind))).flatten()
    })?;
    Some(message_at(*index))
}

/// Every kind known: group, version, kind and message index.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str, u32)> {
    TABLES.kinds.iter().map(|((group, version, kind), message)| (*group, *version, *kind, *message))
}

/// A message by its full name, `k8s.io.api.core.v1.Pod`.
pub fn message(name: &str) -> Option<MessageRef<'static>> {
    message_index(name).map(message_at)
}

/// The index of a message, as in [`crate::model::Type::Message`].
pub fn message_index(name: &str) -> Option<u32> {
    TABLES.by_name.get(name).copied()
}

/// The message a field refers to.
///
/// # Panics
/// On an index that did not come out of these tables.
pub fn message_at(index: u32) -> MessageRef<'static> {
    Model::built_in().at(index)
}

/// Every message.
pub fn messages() -> &'static [Message] {
    TABLES.messages
}

/// The message of a resource's objects.
pub fn message_of(resource: &Resource) -> Option<MessageRef<'static>> {
    message(&resource.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ListType, PatchStrategy, Scope, Type};

    #[test]
    fn rows_are_what_discovery_says() {
        let pods = resource("", "v1", "pods").unwrap();
        assert_eq!((&*pods.kind, pods.scope, &*pods.short_names[0]), ("Pod", Scope::Namespaced, "po"));
        let eviction = pods.subresource("eviction").unwrap();
        assert_eq!(
            (&*eviction.gvk.group, &*eviction.gvk.version, &*eviction.gvk.kind),
            ("policy", "v1", "Eviction")
        );
        let nodes = kind("", "v1", "Node").unwrap();
        assert_eq!((&*nodes.storage_prefix, nodes.scope), ("minions", Scope::Cluster));
        let scaler = resource("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        assert_eq!(&*scaler.storage_version, "v2");
        assert!(resources().len() < all_resources().len());
        assert!(resources().iter().all(|resource| message_of(resource).is_some()));
    }

    #[test]
    fn fields_carry_their_facts() {
        let spec = message("k8s.io.api.core.v1.ServiceSpec").unwrap();
        let ports = &spec.fields()[0];
        assert_eq!(
            (&*ports.json, ports.tag, ports.list, ports.patch),
            ("ports", 1, ListType::Map, PatchStrategy::Merge)
        );
        assert_eq!((&*ports.merge_key, &*ports.list_keys[1]), ("port", "protocol"));
        let Type::Message(port) = ports.ty else { panic!("a message") };
        assert_eq!(message_at(port).short_name(), "ServicePort");
        assert!(kind_message("apps", "v1", "DeleteOptions").is_some());
        assert!(kind_message("apps", "v1", "DeploymentList").is_some());
    }
}
