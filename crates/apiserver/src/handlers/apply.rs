//! Server-side apply: a patch that states what its manager wants of an object.

use api::decode::{self, Format, Strictness};
use api::{Status, Tree};
use bytes::Bytes;
use http::{Response, StatusCode};

use super::patch::same_uid;
use super::{Call, render};
use crate::body::Body;
use crate::negotiate::content_type;
use crate::request::options::{Way, WriteOptions};
use crate::writes::ownership::{self, Lone};
use crate::writes::{self, Conversions, Write};

/// A configuration as it came in.
pub struct Apply {
    config: Tree,
    /// Keys that the body gives twice, with the line of each.
    duplicates: Vec<String>,
    pub options: WriteOptions,
}

impl Apply {
    /// `None` where the body is another sort of patch.
    pub fn parse(call: &Call<'_>, body: &Bytes) -> Result<Option<Apply>, Status> {
        let text = content_type(call.request.headers());
        if text.split(';').next().unwrap_or_default().trim() != "application/apply-patch+yaml" {
            return Ok(None);
        }
        let options = WriteOptions::parse(call.request, Way::Apply)?;
        // JSON is YAML, and the simpler of the two.
        let parsed = match decode::any(body, Format::Json) {
            Ok(parsed) => parsed,
            Err(_) => decode::any(body, Format::Yaml)
                .map_err(|error| Status::bad_request(format!("error encoding patch: {error}")))?,
        };
        let kind = match &parsed.tree {
            Tree::Object(_) => None,
            Tree::Null => None,
            Tree::Array(_) => Some("array"),
            Tree::String(_) => Some("string"),
            Tree::Number(_) => Some("number"),
            Tree::Bool(_) => Some("bool"),
        };
        if let Some(kind) = kind {
            return Err(Status::bad_request(format!(
                "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            )));
        }
        let config = match parsed.tree {
            Tree::Null => Tree::Object(api::tree::Object::new()),
            tree => tree,
        };
        let duplicates = match parsed.warnings.is_empty() {
            true => Vec::new(),
            false => decode::repeated_keys(body),
        };
        Ok(Some(Apply { config, duplicates, options }))
    }

    /// Refuses keys that are given twice, or warns of them, once the configuration was merged.
    fn check_duplicates(&self, call: &Call<'_>) -> Result<(), Status> {
        match self.options.strictness {
            Strictness::Strict if !self.duplicates.is_empty() => {
                let lines: String = self.duplicates.iter().map(|line| format!("\n  {line}")).collect();
                Err(Status::bad_request(format!(
                    "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:{lines}"
                )))
            }
            Strictness::Warn => {
                call.request.warn_all(self.duplicates.iter().cloned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub async fn run(&self, call: &Call<'_>) -> Result<Response<Body>, Status> {
        let write = call.write(&self.options);
        let change = |old: &Tree, conversions: &Conversions| {
            let live = (!old.is_null()).then_some(old);
            let tree = self.merged(&write, live, conversions)?;
            self.check_duplicates(call)?;
            match live {
                Some(old) => same_uid(call.resource, &tree, old)?,
                None => no_uid(&write, &tree)?,
            }
            if live.is_none() {
                let mut tree = tree;
                writes::check_name(&mut tree, write.name)?;
                return Ok(tree);
            }
            Ok(tree)
        };
        let upsert = write.subresource.is_empty().then_some(&change as writes::Change<'_>);
        let updated = writes::update(&write, &change, upsert).await?;
        let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(render::object(code, &updated.entry, &call.target).await)
    }

    fn merged(
        &self,
        write: &Write<'_>,
        live: Option<&Tree>,
        conversions: &Conversions,
    ) -> Result<Tree, Status> {
        let merged = ownership::apply_to(write, live, &self.config, conversions)?;
        let kind = write.resource;
        let decoded = writes::reordered(&merged, kind, kind.message(), Strictness::Ignore);
        decoded.map(|(tree, _)| tree).map_err(|error| match error {
            decode::Error::TooLarge => Status::too_large_to_store(),
            error => misfit(&merged, &kind.kind, &kind.api_version(), &error.to_string()),
        })
    }

    /// Merges the configuration of a `Scale` into the live one.
    pub fn scale(&self, write: &Write<'_>, lone: Lone, live: &Tree) -> Result<Tree, Status> {
        let merged = ownership::apply_to_lone(write, lone, live, &self.config)?;
        let mut decoded = decode::tree(&merged, lone.message, Strictness::Ignore)
            .map_err(|error| misfit(&merged, lone.kind, lone.api_version, &error.to_string()))?
            .tree;
        decode::put_type_meta(&mut decoded, lone.kind, lone.api_version);
        Ok(decoded)
    }
}

/// A value that passes for its type and is none.
fn misfit(object: &Tree, kind: &str, api_version: &str, error: &str) -> Status {
    let text = |field: &str| {
        let value = object.get("metadata").and_then(|metadata| metadata.get(field));
        value.and_then(Tree::as_str).unwrap_or_default().to_owned()
    };
    let error = match error
        .strip_prefix("json: cannot unmarshal number ")
        .and_then(|rest| rest.rsplit_once(" of type "))
    {
        Some((found, wanted)) if found.contains('.') => format!("cannot convert float64 to {wanted}"),
        _ if error.starts_with("illegal base64") => format!("error decoding from json: {error}"),
        _ => error.to_owned(),
    };
    let slash = if api_version.contains('/') { "" } else { "/" };
    let type_text = format!("{slash}{api_version}, Kind={kind}");
    let (namespace, name) = (text("namespace"), text("name"));
    Status::failure(
        500,
        "",
        format!(
            "failed to convert new object ({namespace}/{name}; {type_text}) to proper version: unable to convert unstructured object to {type_text}: {error}"
        ),
    )
}

/// An object that is made by an apply has no uid yet.
fn no_uid(write: &Write<'_>, tree: &Tree) -> Result<(), Status> {
    let uid = tree.get("metadata").and_then(|metadata| metadata.get("uid")).and_then(Tree::as_str);
    match uid {
        None | Some("") => Ok(()),
        Some(uid) => Err(write.conflict(&format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        ))),
    }
}
