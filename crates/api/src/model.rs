//! The shape of the model: resources, messages and fields. The rows are generated (`xtask codegen`)
//! from the published OpenAPI, discovery and `.proto` files; a custom resource's are made at run time,
//! which is why strings and lists are `Cow`.

mod arena;

pub use arena::{JsonFields, MessageRef, Model};

use std::borrow::Cow;

/// A string of the generated tables, or one made at run time.
pub type Text = Cow<'static, str>;

/// Where a resource's objects live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    #[default]
    Cluster,
    Namespaced,
}

/// Group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupVersionKind {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
}

/// One resource at one version, as discovery shows it.
#[derive(Clone, Debug, Default)]
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
    /// Upstream stores JSON instead of protobuf (custom resources, CRDs, APIServices).
    pub storage_json: bool,
    /// Discovery's `storageVersionHash`; empty for kinds that are never stored.
    pub storage_hash: Text,
    /// Served when no `--runtime-config` says otherwise.
    pub enabled: bool,
    /// Full name of the message, e.g. `k8s.io.api.core.v1.Pod`; see [`Message::name`].
    pub message: Text,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

/// An API group in discovery's order, with its versions, the preferred one first.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub name: Text,
    pub versions: Cow<'static, [Text]>,
}

/// A subresource: `status`, `scale`, `log`, …
#[derive(Clone, Debug, Default)]
pub struct Subresource {
    pub name: Text,
    /// The kind it takes and answers, e.g. `autoscaling/v1 Scale`.
    pub gvk: GroupVersionKind,
    pub verbs: Cow<'static, [Text]>,
}

/// A structured type.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its own place in the model; see [`Type::Message`].
    pub index: u32,
    /// The protobuf full name, `k8s.io.api.core.v1.Pod`; types that have none carry their Go package in the same form.
    pub name: Text,
    /// The OpenAPI definition's name, `io.k8s.api.core.v1.Pod`; empty where there is none.
    pub openapi: Text,
    /// In the order in which upstream writes them as JSON.
    pub fields: Cow<'static, [Field]>,
    /// Indexes of `fields` in the order of their tags; empty when they lie so already.
    pub wire_order: Cow<'static, [u16]>,
    pub leaf: Option<Leaf>,
    /// `x-kubernetes-map-type: atomic`: apply owns the whole of it or nothing.
    pub atomic: bool,
    /// A custom resource: its members lie in the order of their names, and values of a wrong type stay as they are, for the
    /// rules to report.
    pub custom: bool,
    /// `x-kubernetes-preserve-unknown-fields`: members without a field are kept.
    pub open: bool,
    /// `x-kubernetes-embedded-resource`: an object of the API, with kind, apiVersion and metadata of its own.
    pub embedded: bool,
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
    /// A schema or a list of schemas (`items`).
    PropsOrArray,
    /// A schema or a boolean (`additionalProperties`).
    PropsOrBool,
    /// A schema or a list of names (`dependencies`).
    PropsOrStringArray,
    /// A list wrapped in a message: on the wire, such as `ExtraValue` and `Verbs`, or because it lies in a list or a map.
    Items,
    /// A map wrapped in a message, because it lies in a list or a map.
    Entries,
}

#[derive(Clone, Debug, Default)]
pub struct Field {
    /// The JSON name; empty for a field whose message is inlined into its parent.
    pub json: Text,
    /// The protobuf field number; 0 for a field that is not on the wire.
    pub tag: u32,
    pub ty: Type,
    pub shape: Shape,
    /// JSON leaves it out when it has the zero value. This is what upstream's encoder does, not what its tag says:
    /// false for a structure that is not behind a pointer, which upstream always writes.
    pub omit_empty: bool,
    /// A pointer upstream: unset and zero differ, on the wire too.
    pub optional: bool,
    pub list: ListType,
    /// OpenAPI states the list's type; a list whose type is not stated is atomic all the same.
    pub list_said: bool,
    /// Keys of an associative list (`x-kubernetes-list-map-keys`).
    pub list_keys: Cow<'static, [Text]>,
    /// The key strategic merge patch uses (`x-kubernetes-patch-merge-key`); empty for none.
    pub merge_key: Text,
    pub patch: PatchStrategy,
    /// Elements say their own `kind` and `apiVersion` (claim templates): on the wire they do not, so readers add them.
    pub shows_kind: bool,
    /// OpenAPI's `required`.
    pub required: bool,
    /// `x-kubernetes-map-type: atomic` on the field itself.
    pub atomic: bool,
    /// `x-kubernetes-map-type: granular`: apply owns its parts, even where the message is atomic elsewhere.
    pub granular: bool,
    /// Upstream's name for a scalar type of its own (`v1.Protocol`), which its error messages show; after a `|`
    /// that of a list or map type. Empty for plain types.
    pub go_type: Text,
    /// OpenAPI's default, as JSON; empty for none.
    pub default: Text,
    /// Null is a value of its own (`nullable`); of other fields of custom resources it is as good as absent.
    pub nullable: bool,
}

impl Field {
    /// Its fields are its parent's in JSON.
    pub fn is_inline(&self) -> bool {
        self.json.is_empty()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
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

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Type {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Double,
    #[default]
    String,
    /// Base64 in JSON.
    Bytes,
    /// Place of the message in the field's own model.
    Message(u32),
}
