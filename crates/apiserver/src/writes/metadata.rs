//! What the server itself does to `metadata` on the way in.

use api::status::Cause;
use api::tree::Object;
use api::{Status, Tree};
use registry::strategy::Strategy;
use watchcache::entry::Entry;

use super::Write;

/// A text field of `metadata`, empty when it is not there.
pub fn text<'t>(tree: &'t Tree, field: &str) -> &'t str {
    tree.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Tree::as_str).unwrap_or_default()
}

fn metadata(tree: &mut Tree) -> Option<&mut Object> {
    let object = tree.as_object_mut()?;
    let metadata = object.entry("metadata").or_insert_with(|| Object::new().into());
    if metadata.is_null() {
        *metadata = Object::new().into();
    }
    metadata.as_object_mut()
}

fn set(tree: &mut Tree, field: &str, value: impl Into<Tree>) {
    if let Some(metadata) = metadata(tree) {
        metadata.insert(field.to_owned(), value.into());
    }
}

pub fn unset(tree: &mut Tree, field: &str) {
    if let Some(metadata) = metadata(tree) {
        metadata.remove(field);
    }
}

/// The object's namespace is the request's; it may leave it out. What stands in no namespace loses one that it names.
pub fn check_namespace(tree: &mut Tree, namespace: &str, namespaced: bool) -> Result<(), Status> {
    let namespace = if namespaced { namespace } else { "" };
    let own = text(tree, "namespace");
    if own == namespace {
        return Ok(());
    }
    if namespace.is_empty() {
        unset(tree, "namespace");
        return Ok(());
    }
    if own.is_empty() {
        set(tree, "namespace", namespace);
        return Ok(());
    }
    Err(Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// An update names the object that the path names.
pub fn check_name(tree: &mut Tree, name: &str) -> Result<(), Status> {
    let own = text(tree, "name");
    if own == name {
        return Ok(());
    }
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    Err(Status::bad_request(format!(
        "the name of the object ({own}) does not match the name on the URL ({name})"
    )))
}

/// Makes the name from `generateName` where it is not given; with neither there is none, which the rules refuse.
pub fn name_for_create(tree: &mut Tree) -> String {
    let name = text(tree, "name").to_owned();
    let base = text(tree, "generateName").to_owned();
    if !name.is_empty() || base.is_empty() {
        return name;
    }
    let name = machinery::names::generate_name(&base, rand::random::<u32>);
    set(tree, "name", name.as_str());
    name
}

/// RFC 3339 in seconds, as `metav1.Time` is written.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Removes the metadata that only the server may set.
pub fn wipe(tree: &mut Tree) {
    for field in ["uid", "selfLink", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        unset(tree, field);
    }
}

/// Sets the metadata that only the server may set.
pub fn fill_for_create(tree: &mut Tree) {
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        unset(tree, field);
    }
    set(tree, "uid", uuid::Uuid::new_v4().to_string());
    set(tree, "creationTimestamp", now());
}

/// Removes owners that are named twice. Returns the warning about them.
pub fn owners_once(tree: &mut Tree, after_admission: bool) -> Option<String> {
    let repeated = registry::meta::one_of_each_owner(tree);
    let when = if after_admission { " after mutating admission happens" } else { "" };
    (!repeated.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        )
    })
}

/// The update is of the version that the client saw.
pub fn check_version(
    write: &Write<'_>,
    strategy: Strategy<'_>,
    tree: &mut Tree,
    entry: &Entry,
) -> Result<(), Status> {
    let own = text(tree, "resourceVersion");
    let version = match own {
        "" => 0,
        own => own.parse::<u64>().map_err(|_| {
            Status::failure(500, "", format!("strconv.ParseUint: parsing {own:?}: invalid syntax"))
        })?,
    };
    if version == 0 {
        if !strategy.allow_unconditional_update() {
            let custom = write.resource.custom().is_some();
            let cause = Cause {
                reason: "FieldValueInvalid".to_owned(),
                message: format!(
                    "Invalid value: {}: must be specified for an update",
                    if own.is_empty() && !custom { "0x0" } else { "0" }
                ),
                field: "metadata.resourceVersion".to_owned(),
            };
            return Err(match custom {
                true => {
                    Status::invalid(&write.resource.group, &write.resource.plural, write.name, vec![cause])
                }
                false => write.invalid(write.name, vec![cause]),
            });
        }
        set(tree, "resourceVersion", entry.resource_version.to_string());
        return Ok(());
    }
    if i64::try_from(version) != Ok(entry.resource_version) {
        return Err(write.conflict(api::status::MODIFIED));
    }
    Ok(())
}

/// The update is of the object that the client saw, not of a later one of the same name.
pub fn check_uid(write: &Write<'_>, tree: &mut Tree, entry: &Entry, key: &str) -> Result<(), Status> {
    let own = text(tree, "uid");
    if own == &*entry.uid {
        return Ok(());
    }
    if own.is_empty() {
        set(tree, "uid", &*entry.uid);
        return Ok(());
    }
    Err(write.conflict(&wrong_uid(key, own, &entry.uid)))
}

/// Why an object is not the one that was meant.
pub fn wrong_uid(key: &str, asked: &str, own: &str) -> String {
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {asked}, UID in object meta: {own}"
    )
}

/// Why an object is not of the version that was meant.
pub fn wrong_version(key: &str, asked: &str, own: &str) -> String {
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {own}"
    )
}

/// What an update cannot change.
pub fn carry_over(tree: &mut Tree, old: &Tree) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match old.get("metadata").and_then(|metadata| metadata.get(field)) {
            Some(value) => set(tree, field, value.clone()),
            None if field == "generation" => unset(tree, field),
            // to set what only a delete sets is refused, not forgotten
            None => {}
        }
    }
    unset(tree, "selfLink");
    if text(tree, "creationTimestamp").is_empty() {
        set(tree, "creationTimestamp", text(old, "creationTimestamp"));
    }
}
