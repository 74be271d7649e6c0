//! What a plugin is shown of a request, but for its object.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use registry::Kind;

use crate::Round;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As refusals and reviews of admission name it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Operation::Create | Operation::Update)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    pub name: &'a str,
    pub uid: &'a str,
    pub groups: &'a [String],
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// Group, version and kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gvk<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl<'a> Gvk<'a> {
    pub fn of(resource: &'a Resource) -> Gvk<'a> {
        Gvk { group: &resource.group, version: &resource.version, kind: &resource.kind }
    }
}

/// The request that an object came with: what is served for it, and where plugins leave what clients and the audit log are to see.
pub trait Context: Send + Sync {
    /// The other versions of a resource that are served.
    fn versions(&self, resource: &Kind) -> Vec<Arc<Kind>>;

    /// What is served of a kind.
    fn kind(&self, gvk: &Gvk<'_>) -> Option<Arc<Kind>>;

    /// A text for a `Warning` header.
    fn warn(&self, text: String);

    /// An annotation of the request's audit event. The first value of a key stays.
    fn annotate(&self, key: String, value: String);
}

/// The request, but for the object.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    pub user: User<'a>,
    pub operation: Operation,
    /// The resource that the request names.
    pub resource: &'a Arc<Kind>,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// What the request's object is: of the resource's kind, or a `Scale`, a `Binding`, a `PodExecOptions`…
    pub kind: Gvk<'a>,
    /// The version in which the object and the old one are shown, where it is another than the request's.
    pub shown: &'a Arc<Kind>,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    pub name: &'a str,
    /// The object's `generateName`, where it has no name yet.
    pub generate_name: &'a str,
    /// The stored object, for updates and deletes.
    pub old: Option<&'a Tree>,
    /// Makes the `CreateOptions`, `DeleteOptions`, …
    pub options: &'a (dyn Fn() -> Tree + Send + Sync),
    pub dry_run: bool,
    pub context: &'a dyn Context,
    pub round: &'a Round,
}

impl Attributes<'_> {
    /// The resource itself, of this group.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// Whether the object is of the resource's own kind, and so has its versions.
    pub fn is_own_kind(&self) -> bool {
        self.kind == Gvk::of(self.resource)
    }

    /// `why` as the refusal of this request.
    pub fn forbid(&self, why: &str) -> Status {
        let name = [self.name, self.generate_name].into_iter().find(|name| !name.is_empty());
        Status::forbidden(&self.resource.group, &self.resource.plural, name.unwrap_or("Unknown"), why)
    }
}
