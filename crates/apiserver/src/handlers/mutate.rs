//! `create`, `update` and `delete` of one object.

use api::decode::{Expected, Format, Object};
use api::{Status, Tree};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::options::{WriteOptions, check_dry_run, invalid};
use super::{Call, render};
use crate::body::Body;
use crate::negotiate::{self, status_response};
use crate::request_info::parameters;
use crate::writes::{self, delete as deletion};

/// How a body says it is encoded.
pub fn format(call: &Call<'_>) -> Result<Format, Status> {
    let text = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim() {
        "" | "*/*" | negotiate::JSON => Ok(Format::Json),
        negotiate::YAML => Ok(Format::Yaml),
        negotiate::PROTOBUF => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&[negotiate::JSON, negotiate::YAML, negotiate::PROTOBUF])),
    }
}

/// The body as an object of a kind; warnings go to the answer.
pub fn decode(call: &Call<'_>, body: &Bytes, expected: Expected<'_>, options: &WriteOptions) -> Result<Tree, Status> {
    let Object { tree, warnings } = api::decode::object(body, format(call)?, expected, options.strictness)?;
    if options.strictness == api::decode::Strictness::Warn {
        call.warnings.lock().extend(warnings);
    }
    Ok(tree)
}

/// The resource's own kind.
pub fn own_kind<'a>(call: &Call<'a>) -> Expected<'a> {
    let resource = call.resource;
    Expected { group: &resource.group, version: &resource.version, kind: &resource.kind }
}

pub async fn create(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let tree = decode(call, &body, own_kind(call), &options)?;
    if call.resource.storage_prefix.is_empty() {
        return super::subresources::virtual_kind(call, tree, &options).await;
    }
    let mut warnings = Vec::new();
    let entry = writes::create(&call.operation(options.dry_run), tree, &mut warnings).await?;
    call.warnings.lock().extend(warnings);
    Ok(render::object(StatusCode::CREATED, &entry, &call.target))
}

pub async fn update(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let tree = decode(call, &body, own_kind(call), &options)?;
    let mut warnings = Vec::new();
    let operation = call.operation(options.dry_run);
    let upsert = call.info.subresource.is_empty().then_some(&tree);
    let updated = writes::update(&operation, &|_| Ok(tree.clone()), upsert, &mut warnings).await?;
    call.warnings.lock().extend(warnings);
    let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(render::object(code, &updated.entry, &call.target))
}

pub async fn delete(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let (options, dry_run) = delete_options(call, &body)?;
    let operation = call.operation(dry_run);
    match deletion::delete(&operation, &options).await? {
        deletion::Deleted::Pending(entry) => Ok(render::object(StatusCode::OK, &entry, &call.target)),
        deletion::Deleted::Gone(entry) if answers_object(call) => {
            Ok(render::object(StatusCode::OK, &entry, &call.target))
        }
        deletion::Deleted::Gone(entry) => {
            Ok(status_response(call.headers, &deletion::success(&operation, &entry)))
        }
    }
}

/// Kinds whose delete answers with the object instead of a `Status`.
fn answers_object(call: &Call<'_>) -> bool {
    call.resource.group.is_empty()
        && matches!(
            call.resource.plural.as_ref(),
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "resourcequotas"
                | "podtemplates"
        )
}

/// `DeleteOptions` from the body, or else from the query.
pub fn delete_options(call: &Call<'_>, body: &Bytes) -> Result<(deletion::DeleteOptions, bool), Status> {
    let mut options = deletion::DeleteOptions::default();
    let mut dry_run = Vec::new();
    let mut policy = String::new();
    if body.is_empty() {
        for (name, value) in parameters(call.query) {
            match name.as_ref() {
                "gracePeriodSeconds" if !value.is_empty() => {
                    options.grace_period = Some(value.parse().map_err(|_| {
                        Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
                    })?);
                }
                "propagationPolicy" => policy = value.into_owned(),
                "orphanDependents" if !value.is_empty() => {
                    let orphan = value != "false" && value != "0";
                    options.propagation =
                        Some(if orphan { deletion::Propagation::Orphan } else { deletion::Propagation::Background });
                }
                "dryRun" => dry_run.push(value.into_owned()),
                _ => {}
            }
        }
    } else {
        let expected = Expected { group: "", version: "v1", kind: "DeleteOptions" };
        let tree = delete_body(call, body, expected)?;
        options.grace_period = tree.get("gracePeriodSeconds").and_then(Tree::as_i64);
        policy = tree.get("propagationPolicy").and_then(Tree::as_str).unwrap_or_default().to_owned();
        if let Some(orphan) = tree.get("orphanDependents").and_then(Tree::as_bool) {
            options.propagation =
                Some(if orphan { deletion::Propagation::Orphan } else { deletion::Propagation::Background });
        }
        let precondition = |field: &str| {
            tree.pointer(&format!("/preconditions/{field}")).and_then(Tree::as_str).map(str::to_owned)
        };
        options.uid = precondition("uid");
        options.resource_version = precondition("resourceVersion");
        let listed = tree.get("dryRun").and_then(Tree::as_array).into_iter().flatten();
        dry_run.extend(listed.filter_map(Tree::as_str).map(str::to_owned));
        if dry_run.is_empty() {
            let asked = parameters(call.query).filter(|(name, _)| name == "dryRun");
            dry_run.extend(asked.map(|(_, value)| value.into_owned()));
        }
    }
    match policy.as_str() {
        "" => {}
        "Foreground" => options.propagation = Some(deletion::Propagation::Foreground),
        "Background" => options.propagation = Some(deletion::Propagation::Background),
        "Orphan" => options.propagation = Some(deletion::Propagation::Orphan),
        other => {
            let message = format!(
                "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            );
            return Err(invalid("DeleteOptions", "FieldValueNotSupported", "propagationPolicy", message));
        }
    }
    if options.grace_period.is_some_and(|grace| grace < 0) {
        // upstream takes a negative period for the shortest there is
        options.grace_period = Some(1);
    }
    Ok((options, check_dry_run(&dry_run, "DeleteOptions")?))
}

/// The options may say that they are of the resource's own group, as old clients do.
fn delete_body(call: &Call<'_>, body: &Bytes, expected: Expected<'_>) -> Result<Tree, Status> {
    let format = format(call)?;
    let strictness = api::decode::Strictness::Ignore;
    match api::decode::object(body, format, expected, strictness) {
        Ok(object) => Ok(object.tree),
        Err(first) => {
            let own = Expected { group: &call.resource.group, version: &call.resource.version, ..expected };
            let meta = Expected { group: "meta.k8s.io", ..expected };
            api::decode::object(body, format, own, strictness)
                .or_else(|_| api::decode::object(body, format, meta, strictness))
                .map(|object| object.tree)
                .map_err(|_| first)
        }
    }
}
