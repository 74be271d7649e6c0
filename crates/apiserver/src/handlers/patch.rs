//! `patch`: JSON patch, JSON merge patch and strategic merge patch. Server-side apply is not there yet.

use api::decode::Strictness;
use api::model::{Message, Resource};
use api::status::Cause;
use api::{Status, Tree};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::options::WriteOptions;
use super::{Call, render};
use crate::body::Body;
use crate::writes;

#[derive(Clone, Copy)]
enum Kind {
    Json,
    Merge,
    Strategic,
}

const ACCEPTED: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// A patch as it came in.
pub struct Patch {
    kind: Kind,
    body: Tree,
    strictness: Strictness,
}

impl Patch {
    pub fn parse(call: &Call<'_>, body: &Bytes, strictness: Strictness) -> Result<Patch, Status> {
        let text = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Kind::Json,
            "application/merge-patch+json" => Kind::Merge,
            "application/strategic-merge-patch+json" => Kind::Strategic,
            _ => return Err(Status::unsupported_media_type(&ACCEPTED)),
        };
        let body = serde_json::from_slice(body).map_err(|error| match kind {
            Kind::Merge => Status::bad_request("invalid JSON patch"),
            _ => Status::bad_request(format!("error decoding patch: {error}")),
        })?;
        Ok(Patch { kind, body, strictness })
    }

    /// The patched object, in the model's order, with the warnings.
    pub fn apply(
        &self,
        old: &Tree,
        resource: &Resource,
        message: &'static Message,
    ) -> Result<(Tree, Vec<String>), Status> {
        let patched = match self.kind {
            Kind::Json => machinery::patch::json(old, &self.body),
            Kind::Merge => machinery::patch::merge(old, &self.body),
            Kind::Strategic => machinery::patch::strategic(old, &self.body, message),
        }?;
        let of_kind = |field: &str| patched.get(field).and_then(Tree::as_str).unwrap_or_default().to_owned();
        let (kind, api_version) = (of_kind("kind"), of_kind("apiVersion"));
        if kind != *resource.kind || api_version != resource.api_version() {
            return Err(Status::bad_request(format!(
                "{kind} in version \"{}\" cannot be handled as a {}: no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"pkg/runtime/scheme.go:111\"",
                api_version.rsplit('/').next().unwrap_or_default(),
                resource.kind
            )));
        }
        writes::reordered(&patched, resource, message, self.strictness).map_err(|error| {
            let value = Tree::from(patched.to_string()).to_string();
            let message = format!("Invalid value: {value}: {error}");
            let cause = Cause { reason: "FieldValueInvalid".to_owned(), message, field: "patch".to_owned() };
            Status::invalid("", "", "", vec![cause])
        })
    }
}

pub async fn patch(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.query, "PatchOptions")?;
    let patch = Patch::parse(call, &body, options.strictness)?;
    let message = api::tables::message_of(call.resource).ok_or_else(Status::unknown_path)?;
    let mut warnings = Vec::new();
    let noted = parking_lot::Mutex::new(Vec::new());
    let change = |old: &Tree| {
        let (tree, unknown) = patch.apply(old, call.resource, message)?;
        *noted.lock() = unknown;
        Ok(tree)
    };
    let updated = writes::update(&call.operation(options.dry_run), &change, None, &mut warnings).await?;
    let mut all = call.warnings.lock();
    if options.strictness == Strictness::Warn {
        all.extend(noted.into_inner());
    }
    all.extend(warnings);
    drop(all);
    Ok(render::object(StatusCode::OK, &updated.entry, &call.target))
}
