//! The admission chain over a request: what it is shown, and what its plugins may use of the server.

mod services;

use std::sync::Arc;

use admission::{Attributes, Context, Gvk, Operation, Plan, Round};
use api::model::Resource;
use api::{Status, Tree, json};
use registry::Kind;

pub use services::{Recent, ServerServices};

use super::Write;
use super::delete::DeleteOptions;
use crate::request::Request;

/// What the chain sees of a write.
#[derive(Clone, Copy)]
pub enum Sees {
    /// The object as it is stored, or what the request has in its place.
    Object,
    /// Another that stands for it.
    View(&'static View),
    /// Nothing: it has seen what was sent, of which this write is a consequence.
    Nothing,
}

/// A form in which a subresource shows an object.
pub struct View {
    pub subresource: &'static str,
    pub show: fn(&Kind, &Tree) -> Tree,
    /// Takes over what was changed in the form.
    pub apply: fn(&Kind, &Tree, &mut Tree),
}

/// A request as the chain gets it.
struct Asked<'a> {
    write: &'a Write<'a>,
    plan: Arc<Plan>,
    subresource: &'a str,
    operation: Operation,
    shown: &'a Arc<Kind>,
    round: Round,
}

impl<'a> Asked<'a> {
    /// `shown`: the version in which the object is. `None` where the chain has nothing to do with the request.
    fn of(write: &'a Write<'a>, operation: Operation, shown: &'a Arc<Kind>) -> Option<Asked<'a>> {
        let subresource = match write.admission {
            Sees::Object => write.subresource,
            Sees::View(view) => view.subresource,
            Sees::Nothing => return None,
        };
        let plan = write.request.catalog.plan(&write.server.admission, write.resource);
        let idle = plan.is_idle(subresource, operation);
        let round = Round::default();
        (!idle).then_some(Asked { write, plan, subresource, operation, shown, round })
    }

    fn attributes<'b>(
        &'b self,
        old: Option<&'b Tree>,
        generate_name: &'b str,
        options: &'b (dyn Fn() -> Tree + Send + Sync),
    ) -> Attributes<'b> {
        let Asked { write, subresource, operation, shown, .. } = self;
        let Request { user, info, .. } = write.request;
        // one of many that go together is not named
        let named = info.verb != "deletecollection";
        Attributes {
            user: admission::User {
                name: &user.name,
                uid: &user.uid,
                groups: &user.groups,
                extra: &user.extra,
            },
            operation: *operation,
            resource: write.resource,
            subresource,
            kind: kind_of(write.resource, subresource),
            shown,
            // a namespace's requests are in itself
            namespace: if write.resource.profile.is_scope { write.name } else { write.namespace },
            name: if named { write.name } else { "" },
            generate_name,
            old,
            options,
            dry_run: write.options.dry_run,
            context: write.request,
            round: &self.round,
        }
    }

    fn options_kind(&self) -> &'static str {
        match self.operation {
            Operation::Update => "UpdateOptions",
            _ => "CreateOptions",
        }
    }

    async fn admit(&self, tree: &mut Tree, old: Option<&Tree>) -> Result<(), Status> {
        let unnamed = self.write.name.is_empty();
        let generate_name = match tree.pointer("/metadata/generateName").and_then(Tree::as_str) {
            Some(prefix) if unnamed => prefix.to_owned(),
            _ => String::new(),
        };
        let options = || self.write.options.tree(self.options_kind());
        let attributes = self.attributes(old, &generate_name, &options);
        self.write.server.admission.admit(&self.plan, &attributes, tree).await
    }

    async fn validate(&self, tree: &Tree, old: Option<&Tree>) -> Result<(), Status> {
        let options = || self.write.options.tree(self.options_kind());
        let attributes = self.attributes(old, "", &options);
        self.write.server.admission.validate(&self.plan, &attributes, tree).await
    }
}

/// What a resource or subresource takes.
fn kind_of<'a>(resource: &'a Resource, subresource: &str) -> Gvk<'a> {
    match resource.subresource(subresource).map(|found| &found.gvk) {
        Some(gvk) if !gvk.kind.is_empty() => {
            Gvk { group: &gvk.group, version: &gvk.version, kind: &gvk.kind }
        }
        _ => Gvk::of(resource),
    }
}

fn operation_of(write: &Write<'_>) -> Operation {
    match write.old {
        Some(_) => Operation::Update,
        None => Operation::Create,
    }
}

/// Mutating admission. The object is of this version.
pub async fn mutate(write: &Write<'_>, shown: &Arc<Kind>, tree: &mut Tree) -> Result<(), Status> {
    let Some(asked) = Asked::of(write, operation_of(write), shown) else { return Ok(()) };
    let Sees::View(view) = write.admission else { return asked.admit(tree, write.old).await };
    let show = |tree: &Tree| (view.show)(write.resource, tree);
    let (form, old) = (show(tree), write.old.map(show));
    let mut changed = form.clone();
    asked.admit(&mut changed, old.as_ref()).await?;
    if changed != form {
        (view.apply)(write.resource, &changed, tree);
    }
    Ok(())
}

/// Validating admission.
pub async fn validate(write: &Write<'_>, shown: &Arc<Kind>, tree: &Tree) -> Result<(), Status> {
    let Some(asked) = Asked::of(write, operation_of(write), shown) else { return Ok(()) };
    let Sees::View(view) = write.admission else { return asked.validate(tree, write.old).await };
    let show = |tree: &Tree| (view.show)(write.resource, tree);
    asked.validate(&show(tree), write.old.map(show).as_ref()).await
}

/// Both, of a delete.
pub async fn delete(write: &Write<'_>, shown: &Arc<Kind>, deletion: &DeleteOptions) -> Result<(), Status> {
    let Some(asked) = Asked::of(write, Operation::Delete, shown) else { return Ok(()) };
    let options = || deletion.tree(write.options.dry_run);
    let attributes = asked.attributes(write.old, "", &options);
    write.server.admission.admit(&asked.plan, &attributes, &mut Tree::Null).await?;
    write.server.admission.validate(&asked.plan, &attributes, &Tree::Null).await
}

/// Both, of a connection to what the object stands for. The options of the connection are the object.
pub async fn connect(write: &Write<'_>) -> Result<(), Status> {
    let Some(asked) = Asked::of(write, Operation::Connect, write.resource) else { return Ok(()) };
    let mut options = connection(write);
    let attributes = asked.attributes(None, "", &|| Tree::Null);
    write.server.admission.admit(&asked.plan, &attributes, &mut options).await?;
    write.server.admission.validate(&asked.plan, &attributes, &options).await
}

/// `PodExecOptions` and the like: the parameters of the query, and the path behind a proxy's own.
fn connection(write: &Write<'_>) -> Tree {
    let kind = kind_of(write.resource, write.subresource);
    let mut options = json!({"kind": kind.kind, "apiVersion": kind.version});
    let Some(message) = api::tables::kind_message(kind.group, kind.version, kind.kind) else {
        return options;
    };
    for (name, value) in access::request_info::parameters(write.request.query()) {
        let Some(field) = message.fields.iter().find(|field| field.json == name) else { continue };
        options[name.as_ref()] = field_value(field, &value, &options[name.as_ref()]);
    }
    if write.subresource == "proxy" {
        let behind = write.request.info.parts.get(3..).unwrap_or_default();
        if !behind.is_empty() {
            options["path"] = format!("/{}", behind.join("/")).into();
        }
    }
    options
}

/// A parameter as its field; one that may be repeated is added to those before it.
fn field_value(field: &api::model::Field, text: &str, before: &Tree) -> Tree {
    use api::model::{Shape, Type};
    let one = match field.ty {
        Type::Bool => crate::request::options::truth(text).into(),
        Type::Int32 | Type::Int64 => text.parse::<i64>().map_or(Tree::Null, Tree::from),
        _ => text.into(),
    };
    match (field.shape, before) {
        (Shape::List, Tree::Array(all)) => Tree::Array(all.iter().cloned().chain([one]).collect()),
        (Shape::List, _) => Tree::Array(vec![one]),
        (_, Tree::Null) => one,
        (_, before) => before.clone(),
    }
}

impl Context for Request {
    fn versions(&self, resource: &Kind) -> Vec<Arc<Kind>> {
        self.catalog.other_versions(resource)
    }

    fn kind(&self, gvk: &Gvk<'_>) -> Option<Arc<Kind>> {
        self.catalog.named(gvk.group, gvk.version, gvk.kind).cloned()
    }

    fn warn(&self, text: String) {
        Request::warn(self, text);
    }

    fn annotate(&self, key: String, value: String) {
        Request::annotate(self, key, value);
    }
}
