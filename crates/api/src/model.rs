//! The shape of the model: resources, messages and fields. The rows are generated (`xtask codegen`)
//! from the published OpenAPI, discovery and `.proto` files; a custom resource's are made at run time,
//! which is why strings and lists are `Cow`.

use std::borrow::Cow;

/// A string of the generated tables, or one made at run time.
pub type Text = Cow<'static, str>;

/// Where a resource's objects live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupVersionKind {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
}

/// One resource at one version, as discovery shows it.
#[derive(Clone, Debug)]
pub struct Resource {
    /// `""` for the core group.
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short_names: Cow<'static, [Text]>,
    pub categories: Cow<'static, [Text]>,
    pub scope: Scope,
    /// Discovery's verbs: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`.
    pub verbs: Cow<'static, [Text]>,
    pub subresources: Cow<'static, [Subresource]>,
    /// The version objects are stored in; equal to `version` for most.
    pub storage_group: Text,
    pub storage_version: Text,
    /// The prefix below `/registry` under which upstream keeps the objects: `minions`, `services/specs`,
    /// `deployments`, … Empty for kinds that are never stored (reviews).
    pub storage_prefix: Text,
    /// Full name of the message, e.g. `k8s.io.api.core.v1.Pod`; see [`Message::name`].
    pub message: Text,
}

/// A subresource: `status`, `scale`, `log`, …
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Text,
    /// The kind it takes and answers, e.g. `autoscaling/v1 Scale`.
    pub gvk: GroupVersionKind,
    pub verbs: Cow<'static, [Text]>,
}

/// A structured type.
#[derive(Clone, Debug)]
pub struct Message {
    /// The protobuf full name, `k8s.io.api.core.v1.Pod`; types that have none carry their Go package in the same form.
    pub name: Text,
    /// The OpenAPI definition's name, `io.k8s.api.core.v1.Pod`; empty where there is none.
    pub openapi: Text,
    /// In the order in which upstream writes them as JSON.
    pub fields: Cow<'static, [Field]>,
    pub leaf: Option<Leaf>,
}

/// Messages whose JSON is not an object of their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    RawExtension,
    FieldsV1,
    Json,
    /// A list wrapped in a message on the wire, such as `ExtraValue` and `Verbs`.
    Items,
}

#[derive(Clone, Debug)]
pub struct Field {
    /// The JSON name; empty for a field whose message is inlined into its parent.
    pub json: Text,
    pub tag: u32,
    pub ty: Type,
    pub shape: Shape,
    /// JSON leaves it out when it has the zero value (`omitempty`).
    pub omit_empty: bool,
    /// A pointer upstream: unset and zero are told apart, on the wire too.
    pub optional: bool,
    pub list: ListType,
    /// Keys of an associative list (`x-kubernetes-list-map-keys`).
    pub list_keys: Cow<'static, [Text]>,
    /// The key strategic merge patch uses (`x-kubernetes-patch-merge-key`); empty for none.
    pub merge_key: Text,
    pub patch: PatchStrategy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    List,
    /// A map with string keys.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// `x-kubernetes-patch-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PatchStrategy {
    #[default]
    Replace,
    Merge,
    RetainKeys,
    MergeRetainKeys,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    /// Index into the message table that holds the field's own message.
    Message(u32),
}
