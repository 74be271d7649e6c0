//! `scale`: the number of replicas of whatever has one, as `autoscaling/v1 Scale`.

use api::decode::Expected;
use api::json;
use api::model::Scope;
use api::status::Cause;
use api::tree::Object;
use api::{Status, Tree};
use bytes::Bytes;
use http::{Response, StatusCode};
use machinery::labels::Selector;
use machinery::ownership::managers;
use registry::Kind;
use watchcache::converted;

use super::super::apply::Apply;
use super::super::mutate::decode;
use super::super::patch::Patch;
use super::super::{Call, read, render};
use crate::body::Body;
use crate::request::options::{Way, WriteOptions};
use crate::writes::admission::{Sees, View};
use crate::writes::ownership::{self, Lone, Owners};
use crate::writes::{self, Write};

const EXPECTED: Expected<'static> = Expected::built_in("autoscaling", "v1", "Scale");

pub async fn get(call: &Call<'_>) -> Result<Response<Body>, Status> {
    read::wait_for(call, None).await?;
    let entry = call.cache()?.find(call.namespace(), call.name())?.ok_or_else(|| call.not_found())?;
    let object = converted::again(&entry, call.resource).await?;
    check_replicas(call.resource, &object)?;
    Ok(render::tree_object(StatusCode::OK, scale_of(call.resource, &object), &call.target))
}

/// A custom resource without a number of replicas has no scale.
fn check_replicas(kind: &Kind, object: &Tree) -> Result<(), Status> {
    let Some(scale) = kind.custom().and_then(|custom| custom.scale.as_ref()) else { return Ok(()) };
    let missing = || format!("the spec replicas field {:?} does not exist", scale.spec_replicas);
    object.pointer(&pointer(&scale.spec_replicas)).map(|_| ()).ok_or_else(|| Status::internal(missing()))
}

/// A path such as `.spec.replicas` as a pointer.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

pub async fn update(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.request, Way::Update)?;
    let mut scale = decode(call, &body, EXPECTED, &options)?;
    writes::check_name(&mut scale, call.name())?;
    change(call, &options, &|_, _| Ok(scale.clone())).await
}

pub async fn patch(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    if let Some(apply) = Apply::parse(call, &body)? {
        let merged = |write: &Write<'_>, old: &Tree| apply.scale(write, lone()?, old);
        return change(call, &apply.options, &merged).await;
    }
    let (patch, options) = Patch::parse(call, &body)?;
    let resource = api::model::Resource {
        group: "autoscaling".into(),
        version: "v1".into(),
        kind: "Scale".into(),
        ..api::model::Resource::default()
    };
    let message = api::tables::kind_message("autoscaling", "v1", "Scale").ok_or_else(Status::unknown_path)?;
    let scaled = |_: &Write<'_>, old: &Tree| {
        let (scale, _) = patch.apply(old, &resource, message)?;
        let uid = |scale: &Tree| text(scale, "uid").to_owned();
        if !uid(&scale).is_empty() && uid(&scale) != uid(old) {
            let what = format!("{}/scale", call.resource.plural);
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                uid(&scale),
                uid(old)
            );
            return Err(Status::conflict(&call.resource.group, &what, call.name(), &why));
        }
        Ok(scale)
    };
    change(call, &options, &scaled).await
}

/// What admission sees of an object that is scaled.
static VIEW: View = View { subresource: "scale", show: scale_of, apply };

/// Takes over the number of replicas, and of what object and version the scale says it is.
fn apply(kind: &Kind, scale: &Tree, object: &mut Tree) {
    let replicas = scale.pointer("/spec/replicas").and_then(Tree::as_i64).unwrap_or_default();
    if let Some(paths) = kind.custom().and_then(|custom| custom.scale.as_ref()) {
        let mut steps = paths.spec_replicas.trim_start_matches('.').split('.');
        let place = steps.try_fold(&mut *object, |object, step| {
            if object.is_null() {
                *object = Tree::Object(Object::new());
            }
            Some(object.as_object_mut()?.entry(step).or_insert(Tree::Null))
        });
        if let Some(place) = place {
            *place = replicas.into();
        }
    } else if let Some(spec) = object.get_mut("spec").and_then(Tree::as_object_mut) {
        spec.insert("replicas", replicas.into());
    }
    let said = |field: &str| text(scale, field);
    if let Some(metadata) = object.get_mut("metadata").and_then(Tree::as_object_mut) {
        metadata.insert("resourceVersion", said("resourceVersion").into());
        if !said("uid").is_empty() {
            metadata.insert("uid", said("uid").into());
        }
    }
}

/// `scaled` makes the new scale out of the old one.
async fn change(
    call: &Call<'_>,
    options: &WriteOptions,
    scaled: &(dyn Fn(&Write<'_>, &Tree) -> Result<Tree, Status> + Send + Sync),
) -> Result<Response<Body>, Status> {
    // the strategy of the object itself: only its spec changes
    let owners = Owners::Given;
    let write = Write { subresource: "", admission: Sees::View(&VIEW), owners, ..call.write(options) };
    let owner = Write { subresource: "scale", ..write };
    let change = |old: &Tree, _: &writes::Conversions| {
        let mut old_scale = scale_of(call.resource, old);
        managers::set(&mut old_scale, ownership::to_scale(&owner, old)?);
        let mut scale = scaled(&owner, &old_scale)?;
        if options.way != Way::Apply {
            ownership::record_lone(&owner, lone()?, Some(&old_scale), &mut scale);
        }
        writes::check_name(&mut scale, call.name())?;
        let namespaced = call.resource.scope == Scope::Namespaced;
        writes::check_namespace(&mut scale, call.namespace(), namespaced)?;
        let replicas = scale.pointer("/spec/replicas").and_then(Tree::as_i64).unwrap_or_default();
        if replicas < 0 {
            let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
            let cause =
                Cause { reason: "FieldValueInvalid".to_owned(), message, field: "spec.replicas".to_owned() };
            return Err(Status::invalid("autoscaling", "Scale", call.name(), vec![cause]));
        }
        let mut new = old.clone();
        apply(call.resource, &scale, &mut new);
        ownership::from_scale(&owner, &scale, &mut new)?;
        Ok(new)
    };
    let updated = writes::update(&write, &change, None).await?;
    let updated = converted::one(&updated.entry, call.resource).await?;
    let scale = scale_of(call.resource, &updated);
    Ok(render::tree_object(StatusCode::OK, scale, &call.target))
}

/// The kind of what is read and written here.
fn lone() -> Result<Lone, Status> {
    Lone::of("autoscaling", "v1", "Scale", "autoscaling/v1").ok_or_else(Status::unknown_path)
}

/// A text field of `metadata`.
fn text<'t>(tree: &'t Tree, field: &str) -> &'t str {
    tree.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Tree::as_str).unwrap_or_default()
}

fn scale_of(kind: &Kind, tree: &Tree) -> Tree {
    let at = |pointer: &str| tree.pointer(pointer).cloned();
    let custom = kind.custom().and_then(|custom| custom.scale.as_ref());
    let (spec_replicas, status_replicas) = match custom {
        Some(paths) => (pointer(&paths.spec_replicas), pointer(&paths.status_replicas)),
        None => ("/spec/replicas".to_owned(), "/status/replicas".to_owned()),
    };
    let mut metadata = Object::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = at(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value);
        }
    }
    let mut spec = Object::new();
    if let Some(replicas) = at(&spec_replicas).filter(|replicas| replicas.as_i64() != Some(0)) {
        spec.insert("replicas", replicas);
    }
    let mut status = json!({"replicas": at(&status_replicas).unwrap_or_else(|| 0.into())});
    let own = custom.map(|paths| paths.selector.as_deref().map(pointer));
    let selector = match at("/spec/selector") {
        _ if own.is_some() => {
            let selector = own.flatten().and_then(|place| at(&place));
            selector.as_ref().and_then(Tree::as_str).unwrap_or_default().to_owned()
        }
        Some(selector)
            if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() =>
        {
            Selector::from_label_selector(&selector).map(|selector| selector.to_string()).unwrap_or_default()
        }
        // a replication controller's selector is a plain map
        Some(selector) if selector.is_object() => Selector::from_map(&selector).to_string(),
        _ => String::new(),
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}
