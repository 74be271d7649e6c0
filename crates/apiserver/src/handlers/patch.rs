//! `patch`: JSON patch, JSON merge patch and strategic merge patch. Server-side apply is in `apply.rs`.

use api::decode::Strictness;
use api::model::{MessageRef, Resource, Shape, Type};
use api::status::{Cause, Details};
use api::tree::{CompactString, Object};
use api::{Status, Tree};
use bytes::Bytes;
use http::{Response, StatusCode};

use super::apply::Apply;
use super::{Call, render};
use crate::body::Body;
use crate::negotiate::content_type;
use crate::request::options::{Way, WriteOptions};
use crate::writes;

#[derive(Clone, Copy)]
enum Kind {
    Json,
    Merge,
    Strategic,
}

const ACCEPTED_OF_CUSTOM: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// A patch as it came in.
pub struct Patch {
    kind: Kind,
    body: Tree,
    /// Fields that the body gives twice, and members that no operation of a JSON patch has.
    duplicates: Vec<String>,
    strictness: Strictness,
}

impl Patch {
    /// The options come second: upstream looks at the type of the body first.
    pub fn parse(call: &Call<'_>, body: &Bytes) -> Result<(Patch, WriteOptions), Status> {
        let text = content_type(call.request.headers());
        let kind = match text.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Kind::Json,
            "application/merge-patch+json" => Kind::Merge,
            // There is nothing in a schema that says how its lists merge.
            "application/strategic-merge-patch+json" if call.resource.custom().is_some() => {
                return Err(Status::unsupported_media_type(&ACCEPTED_OF_CUSTOM));
            }
            "application/strategic-merge-patch+json" => Kind::Strategic,
            _ => {
                let mut refused = Status::failure(415, "UnsupportedMediaType", "415: Unsupported Media Type");
                refused.details = Some(Details::default());
                return Err(refused);
            }
        };
        let options = WriteOptions::parse(call.request, Way::Patch)?;
        let parsed = api::decode::any(body, api::decode::Format::Json)
            .map_err(|_| Status::bad_request("invalid JSON patch"))?;
        let mut duplicates = parsed.warnings;
        if matches!(kind, Kind::Json) {
            duplicates.extend(unknown_members(&parsed.tree));
            duplicates.iter_mut().for_each(|text| text.insert_str(0, "json patch "));
        }
        Ok((Patch { kind, body: parsed.tree, duplicates, strictness: options.strictness }, options))
    }

    /// The patched object, with the warnings.
    pub fn apply(
        &self,
        old: &Tree,
        resource: &Resource,
        message: MessageRef<'_>,
    ) -> Result<(Tree, Vec<String>), Status> {
        let mut seen = std::borrow::Cow::Borrowed(old);
        if api::raw::any(old) {
            match self.kind {
                Kind::Strategic => api::raw::open(seen.to_mut()),
                _ => api::raw::compact(seen.to_mut()),
            }
        }
        let old = &*seen;
        let mut patched = match self.kind {
            Kind::Json => machinery::patch::json(old, &self.body),
            Kind::Merge => machinery::patch::merge(old, &self.body),
            Kind::Strategic if self.body.is_null() => Ok(old.clone()),
            Kind::Strategic => machinery::patch::strategic(old, &self.body, message),
        }?;
        self.check_type(&mut patched, resource)?;
        self.sort(&mut patched);
        let checked = match self.strictness {
            Strictness::Strict => Strictness::Warn,
            other => other,
        };
        let kept = take_unchanged(&mut patched, old);
        let mut reordered = writes::reordered(&patched, resource, message, checked);
        if reordered.is_err() && matches!(self.kind, Kind::Strategic) {
            fit_numbers(&mut patched, message);
            reordered = writes::reordered(&patched, resource, message, checked);
        }
        let (mut tree, found) = match reordered {
            Ok(reordered) => reordered,
            Err(api::decode::Error::TooLarge) => return Err(Status::too_large_to_store()),
            Err(error) => {
                put_back(&mut patched, kept);
                return Err(self.refused(&patched, &self.worded(&error.to_string())));
            }
        };
        let mut problems = match self.strictness {
            Strictness::Ignore => Vec::new(),
            _ => self.duplicates.clone(),
        };
        problems.extend(found);
        if matches!(self.kind, Kind::Strategic) {
            problems.sort();
        }
        if self.strictness == Strictness::Strict && !problems.is_empty() {
            put_back(&mut patched, kept);
            return Err(self.refused(&patched, &format!("strict decoding error: {}", problems.join(", "))));
        }
        put_back(&mut tree, kept);
        Ok((tree, problems))
    }

    /// A strategic patch cannot change what kind of object it is about, the others can take that away but not change it.
    fn check_type(&self, patched: &mut Tree, resource: &Resource) -> Result<(), Status> {
        let Some(map) = patched.as_object_mut() else { return Ok(()) };
        let own = [("kind", resource.kind.to_string()), ("apiVersion", resource.api_version())];
        for (field, value) in &own {
            let missing = map.get(field).and_then(Tree::as_str).unwrap_or_default().is_empty();
            if missing || matches!(self.kind, Kind::Strategic) {
                map.insert((*field).to_owned(), value.as_str().into());
            }
        }
        let of = |field: &str| map.get(field).and_then(Tree::as_str).unwrap_or_default().to_owned();
        let (kind, api_version) = (of("kind"), of("apiVersion"));
        if (kind.as_str(), api_version.as_str()) == (own[0].1.as_str(), own[1].1.as_str()) {
            return Ok(());
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let error = match api::tables::kind_message(group, version, &kind) {
            None => format!(
                "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"pkg/runtime/scheme.go:111\""
            ),
            Some(other) => match api::decode::tree(patched, other, Strictness::Ignore) {
                Err(error) => error.to_string(),
                Ok(_) => format!(
                    "converting ({version}.{kind}) to ({}.{}): unknown conversion",
                    super::package_of(resource),
                    resource.kind
                ),
            },
        };
        self.sort(patched);
        Err(self.refused(patched, &error))
    }

    fn refused(&self, patched: &Tree, error: &str) -> Status {
        let value = match self.kind {
            Kind::Strategic => Tree::from(shown(&self.body)),
            _ => Tree::from(String::from_utf8_lossy(&api::json::to_vec(patched))),
        };
        let message = format!("Invalid value: {value}: {error}");
        let cause = Cause { reason: "FieldValueInvalid".to_owned(), message, field: "patch".to_owned() };
        Status::invalid("", "", "", vec![cause])
    }

    /// A wrong type in the words of who applies the patch: a strategic one is not applied to JSON.
    fn worded(&self, error: &str) -> String {
        let parsed = error.strip_prefix("json: cannot unmarshal ").and_then(|rest| {
            let (found, rest) = rest.split_once(" into Go ")?;
            Some((found, rest.rsplit_once(" of type ")?.1))
        });
        let (Kind::Strategic, Some((found, wanted))) = (self.kind, parsed) else { return error.to_owned() };
        let found = match found {
            "array" => "slice",
            "object" => "map",
            "number" => "int64",
            other => match other.strip_prefix("number ") {
                Some(number) if number.contains(['.', 'e', 'E']) => "float64",
                Some(_) => "int64",
                None => other,
            },
        };
        match (found, wanted) {
            (_, wanted) if wanted.starts_with("[]") => format!("cannot restore slice from {found}"),
            (_, wanted) if wanted.starts_with("map[") => format!("cannot restore map from {found}"),
            ("int64", "string") | ("float64", "int32" | "int64") => {
                format!("cannot convert {found} to {wanted}")
            }
            (_, "string" | "bool" | "int32" | "int64" | "float64") => format!("unrecognized type: {wanted}"),
            _ => format!("cannot restore struct from: {found}"),
        }
    }

    /// Objects that a patch opened are written in order of their keys.
    fn sort(&self, patched: &mut Tree) {
        match self.kind {
            Kind::Strategic => {}
            Kind::Merge => sort_along(patched, &self.body),
            Kind::Json => {
                patched.as_object_mut().into_iter().for_each(Object::sort_keys);
                let paths =
                    self.body.as_array().into_iter().flatten().filter_map(|one| one.get("path")?.as_str());
                for path in paths {
                    for (at, _) in path.match_indices('/').skip(1) {
                        let opened = patched.pointer_mut(&path[..at]).and_then(Tree::as_object_mut);
                        opened.into_iter().for_each(Object::sort_keys);
                    }
                }
            }
        }
    }
}

/// Numbers as a conversion between Go's types leaves them, by which a strategic patch reaches its object: whole ones without their
/// fraction, and those that are too large for their field without the upper bits.
fn fit_numbers(object: &mut Tree, message: MessageRef<'_>) {
    for (name, value) in object.as_object_mut().into_iter().flatten() {
        let Some(field) = message.fields().iter().find(|field| field.json == name.as_str()) else { continue };
        let mut values: Vec<&mut Tree> = match (field.shape, value) {
            (Shape::One, value) => vec![value],
            (_, Tree::Array(items)) => items.iter_mut().collect(),
            (_, Tree::Object(entries)) => entries.iter_mut().map(|(_, value)| value).collect(),
            _ => continue,
        };
        match field.ty {
            Type::Message(index) => {
                values.into_iter().for_each(|value| fit_numbers(value, message.at(index)));
            }
            Type::Int32 | Type::Int64 => values.iter_mut().for_each(|value| fit_number(value, &field.ty)),
            _ => {}
        }
    }
}

fn fit_number(value: &mut Tree, ty: &Type) {
    let Tree::Number(number) = &*value else { return };
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
        Some(float as i64)
    });
    let Some(whole) = whole else { return };
    *value = match ty {
        Type::Int32 => Tree::from(i64::from(whole as i32)),
        _ => Tree::from(whole),
    };
}

fn unknown_members(patch: &Tree) -> Vec<String> {
    let mut unknown = Vec::new();
    for (index, operation) in patch.as_array().into_iter().flatten().enumerate() {
        for (name, _) in operation.as_object().into_iter().flatten() {
            if !matches!(name.as_str(), "op" | "path" | "from" | "value") {
                unknown.push(format!("unknown field \"[{index}].{name}\""));
            }
        }
    }
    unknown
}

fn text<'t>(tree: &'t Tree, field: &str) -> &'t str {
    tree.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Tree::as_str).unwrap_or_default()
}

/// Takes out the parts that are as they were: they have been checked when they came in.
fn take_unchanged(patched: &mut Tree, old: &Tree) -> Vec<(CompactString, Tree)> {
    let (Some(patched), Some(old)) = (patched.as_object_mut(), old.as_object()) else { return Vec::new() };
    let unchanged = |(key, value): &(&CompactString, &mut Tree)| {
        (value.is_object() || value.is_array()) && old.get(key.as_str()) == Some(&**value)
    };
    patched.iter_mut().filter(unchanged).map(|(key, value)| (key.clone(), value.take())).collect()
}

fn put_back(tree: &mut Tree, parts: Vec<(CompactString, Tree)>) {
    if let Some(map) = tree.as_object_mut() {
        map.extend(parts);
    }
}

fn sort_along(tree: &mut Tree, patch: &Tree) {
    let (Some(map), Some(patch)) = (tree.as_object_mut(), patch.as_object()) else { return };
    map.sort_keys();
    for (key, inner) in patch {
        map.get_mut(key).into_iter().for_each(|tree| sort_along(tree, inner));
    }
}

/// A patch as upstream's messages show it: `map[a:1 b:[x y]]`.
fn shown(tree: &Tree) -> String {
    match tree {
        Tree::Object(map) => {
            let mut entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
        Tree::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Tree::String(text) => text.to_string(),
        Tree::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

pub async fn patch(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    if let Some(apply) = Apply::parse(call, &body)? {
        return apply.run(call).await;
    }
    let (patch, options) = Patch::parse(call, &body)?;
    let message = call.resource.message();
    let change = |old: &Tree, _: &writes::Conversions| {
        let (tree, unknown) = patch.apply(old, call.resource, message)?;
        same_uid(call.resource, &tree, old)?;
        if options.strictness == Strictness::Warn {
            call.request.warn_all(unknown);
        }
        Ok(tree)
    };
    let updated = writes::update(&call.write(&options), &change, None).await?;
    Ok(render::object(StatusCode::OK, &updated.entry, &call.target).await)
}

pub(super) fn same_uid(resource: &Resource, tree: &Tree, old: &Tree) -> Result<(), Status> {
    let uid = text(tree, "uid");
    if uid == text(old, "uid") || uid.is_empty() {
        return Ok(());
    }
    let message = format!("Invalid value: {}: field is immutable", Tree::from(uid));
    let cause = Cause { reason: "FieldValueInvalid".to_owned(), message, field: "metadata.uid".to_owned() };
    Err(Status::invalid(&resource.group, &resource.kind, text(old, "name"), vec![cause]))
}
