//! `create`, `update` and `delete` of one object.

use api::decode::{Expected, Format, Object};
use api::{Status, Tree};
use bytes::Bytes;
use http::{Response, StatusCode};
use parking_lot::Mutex;

use super::{Call, delete_options, render};
use crate::body::Body;
use crate::negotiate::{self, content_type, status_response};
use crate::request::options::{Way, WriteOptions};
use crate::writes::{self, Conversions, delete as deletion};

/// How a body says it is encoded.
pub fn format(call: &Call<'_>) -> Result<Format, Status> {
    let text = content_type(call.request.headers());
    let mut parts = text.split(';');
    let media = parts.next().unwrap_or_default().trim();
    let well_formed = parts.all(|parameter| {
        parameter.contains('=') || parameter.trim().is_empty() && text.matches(';').count() == 1
    });
    match media.to_ascii_lowercase().as_str() {
        "" | negotiate::JSON if well_formed => Ok(Format::Json),
        negotiate::YAML if well_formed => Ok(Format::Yaml),
        negotiate::PROTOBUF if well_formed => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&[negotiate::JSON, negotiate::YAML, negotiate::PROTOBUF])),
    }
}

/// The body as an object of a kind; warnings go to the answer.
pub fn decode(
    call: &Call<'_>,
    body: &Bytes,
    expected: Expected<'_>,
    options: &WriteOptions,
) -> Result<Tree, Status> {
    let Object { tree, warnings } = api::decode::object(body, format(call)?, expected, options.strictness)?;
    if options.strictness == api::decode::Strictness::Warn {
        call.request.warn_all(warnings);
    }
    Ok(tree)
}

/// The resource's own kind.
pub fn own_kind<'a>(call: &Call<'a>) -> Expected<'a> {
    let resource = call.resource;
    Expected {
        group: &resource.group,
        version: &resource.version,
        kind: &resource.kind,
        message: Some(resource.message()),
    }
}

pub async fn create(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.request, Way::Create)?;
    let tree = decode(call, &body, own_kind(call), &options)?;
    if call.resource.storage_prefix.is_empty() {
        return super::subresources::virtual_kind(call, tree, &options).await;
    }
    let created = writes::create(&call.write(&options), tree).await?;
    Ok(render::object(StatusCode::CREATED, &created, &call.target).await)
}

pub async fn update(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.request, Way::Update)?;
    let read = || {
        let mut tree = decode(call, &body, own_kind(call), &options)?;
        call.request.warn_all(writes::owners_once(&mut tree, false));
        Ok(tree)
    };
    let mut tree = read()?;
    // name and namespace are checked before the object's existence
    writes::check_name(&mut tree, call.name())?;
    writes::check_namespace(&mut tree, call.namespace(), call.cache()?.kind.is_namespaced())?;
    // the first attempt takes it, and mostly there is no other
    let first = Mutex::new(Some(tree));
    let change = |_: &Tree, _: &Conversions| first.lock().take().map_or_else(read, Ok);
    let upsert = call.request.info.subresource.is_empty().then_some(&change as writes::Change<'_>);
    let updated = writes::update(&call.write(&options), &change, upsert).await?;
    let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(render::object(code, &updated.entry, &call.target).await)
}

pub async fn delete(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let (deletion, options) = delete_options::of_request(call, &body)?;
    warn_of_dependents(call, &deletion);
    let write = call.write(&options);
    if deletion.ignore_read_error {
        let done = writes::unreadable::delete(&write).await?;
        return Ok(status_response(call.request.headers(), &done));
    }
    match deletion::delete(&write, &deletion).await? {
        deletion::Deleted::Pending(entry) => Ok(render::object(StatusCode::OK, &entry, &call.target).await),
        deletion::Deleted::Gone(entry) if call.resource.profile.answers_deleted => {
            Ok(render::object(StatusCode::OK, &entry, &call.target).await)
        }
        deletion::Deleted::Gone(entry) => {
            Ok(status_response(call.request.headers(), &deletion::success(&write, &entry)))
        }
    }
}

/// Warns who leaves open what becomes of dependents, where that is not what they may think.
pub fn warn_of_dependents(call: &Call<'_>, options: &deletion::DeleteOptions) {
    if options.propagation.is_none() {
        let warning = call.resource.strategy(None).unsaid_policy();
        call.request.warn_all(warning.map(str::to_owned));
    }
}
