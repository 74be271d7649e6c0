//! `metadata`: the rules that every kind shares.

use std::hash::{Hash, Hasher};

use api::Tree;
use api::model::{Resource, Scope};
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{labels, names};

use crate::tree::{ensure, get, has, list, number, object_mut, put, same, text, texts};

/// What a kind's names must look like.
pub type NameFormat = fn(&str) -> Vec<String>;

/// Makes these fields of the metadata what they were.
pub fn keep(object: &mut Tree, old: &Tree, fields: &[&str]) {
    for field in fields {
        let value = get(old, "metadata").get(field).cloned().unwrap_or_default();
        put(ensure(object, "metadata"), field, value);
    }
}

/// Whether an update changes nothing but what the garbage collector changes before an object goes: owners and finalizers.
pub fn only_collection(new: &Tree, old: &Tree) -> bool {
    let rest = |tree: &Tree| {
        let mut tree = tree.clone();
        if let Some(metadata) = object_mut(&mut tree, "metadata") {
            for field in ["ownerReferences", "finalizers", "selfLink", "managedFields"] {
                metadata.remove(field);
            }
        }
        tree
    };
    same(&rest(new), &rest(old))
}

static METADATA: Path<'static> = Path::new("metadata");
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Checks the metadata of an object about to be created.
pub fn validate(
    resource: &Resource,
    object: &Tree,
    format: NameFormat,
    generated: NameFormat,
    errors: &mut Vec<Cause>,
) {
    let metadata = get(object, "metadata");
    let generate = text(metadata, "generateName");
    if !generate.is_empty() {
        // The server's suffix after a trailing dash is valid.
        let masked = generate.strip_suffix('-').map(|base| format!("{base}-a"));
        for problem in generated(masked.as_deref().unwrap_or(generate)) {
            errors.push(METADATA.field("generateName").invalid(generate, &problem));
        }
    }
    let name = text(metadata, "name");
    if name.is_empty() {
        errors.push(METADATA.field("name").required("name or generateName is required"));
    } else {
        errors.extend(format(name).iter().map(|problem| METADATA.field("name").invalid(name, problem)));
    }
    let namespace = text(metadata, "namespace");
    match (resource.scope, namespace.is_empty()) {
        (Scope::Namespaced, true) => errors.push(METADATA.field("namespace").required("")),
        (Scope::Namespaced, false) => {
            let problems = names::dns1123_label(namespace);
            errors.extend(problems.iter().map(|p| METADATA.field("namespace").invalid(namespace, p)));
        }
        (Scope::Cluster, false) => {
            errors.push(METADATA.field("namespace").forbidden("not allowed on this type"))
        }
        (Scope::Cluster, true) => {}
    }
    crate::rules::not_negative(number(metadata, "generation"), &METADATA.field("generation"), errors);
    validate_always(metadata, &METADATA, errors);
}

/// Checks the metadata of an object about to be updated.
pub fn validate_update(object: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    let (metadata, before) = (get(object, "metadata"), get(old, "metadata"));
    let known: Seen<&str> = texts(before, "finalizers").collect();
    let added: Vec<&str> = texts(metadata, "finalizers").filter(|name| !known.contains(name)).collect();
    if has(before, "deletionTimestamp") && !added.is_empty() {
        let shown: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
        errors.push(METADATA.field("finalizers").forbidden(&format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            shown.join(", ")
        )));
    }
    for (field, detail) in [
        ("name", "field is immutable"),
        ("namespace", "field is immutable"),
        ("uid", "field is immutable"),
        ("creationTimestamp", "field is immutable"),
        ("deletionTimestamp", "field is immutable"),
        ("deletionGracePeriodSeconds", "field is immutable"),
    ] {
        if get(metadata, field) != get(before, field) {
            errors.push(METADATA.field(field).invalid(get(metadata, field), detail));
        }
    }
    if number(metadata, "generation") < number(before, "generation") {
        let generation = number(metadata, "generation");
        errors.push(METADATA.field("generation").invalid(generation, "must not be decremented"));
    }
    validate_always(metadata, &METADATA, errors);
}

/// Checks the metadata of an object inside another one, which stands at `path`. It may lack a name.
pub fn validate_embedded(object: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (metadata, at) = (get(object, "metadata"), path.field("metadata"));
    let generate = text(metadata, "generateName");
    if !generate.is_empty() {
        let problems = names::path_segment_prefix(generate);
        errors.extend(problems.iter().map(|p| at.field("generateName").invalid(generate, p)));
    }
    let name = text(metadata, "name");
    if !name.is_empty() {
        errors.extend(names::path_segment(name).iter().map(|p| at.field("name").invalid(name, p)));
    }
    let namespace = text(metadata, "namespace");
    if !namespace.is_empty() {
        let problems = names::dns1123_label(namespace);
        errors.extend(problems.iter().map(|p| at.field("namespace").invalid(namespace, p)));
    }
    crate::rules::not_negative(number(metadata, "generation"), &at.field("generation"), errors);
    validate_always(metadata, &at, errors);
}

fn validate_always(metadata: &Tree, at: &Path<'_>, errors: &mut Vec<Cause>) {
    labels::validate_labels(get(metadata, "labels"), &at.field("labels"), errors);
    validate_annotations(get(metadata, "annotations"), &at.field("annotations"), errors);
    validate_owners(metadata, at, errors);
    let path = at.field("finalizers");
    for finalizer in texts(metadata, "finalizers") {
        if is_full(errors) {
            break;
        }
        for problem in names::qualified_name(finalizer) {
            errors.push(path.invalid(finalizer, &problem));
        }
    }
    let both = ["orphan", "foregroundDeletion"];
    if both.iter().all(|one| texts(metadata, "finalizers").any(|finalizer| finalizer == *one)) {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(path.invalid(get(metadata, "finalizers"), detail));
    }
    validate_managers(metadata, errors);
}

const MANAGER_MAX: usize = 128;
const SUBRESOURCE_MAX: usize = 256;

/// Checks the entries of who owns which fields; the server makes their other parts.
fn validate_managers(metadata: &Tree, errors: &mut Vec<Cause>) {
    let path = METADATA.field("managedFields");
    for (index, entry) in get(metadata, "managedFields").as_array().into_iter().flatten().enumerate() {
        let path = path.index(index);
        let manager = text(entry, "manager");
        if manager.len() > MANAGER_MAX {
            errors.push(path.field("manager").too_long(MANAGER_MAX));
        } else if let Some((at, c)) = manager.char_indices().find(|(_, c)| c.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            errors.push(path.field("manager").invalid(manager, &detail));
        }
        if text(entry, "subresource").len() > SUBRESOURCE_MAX {
            errors.push(path.field("subresource").too_long(SUBRESOURCE_MAX));
        }
        if is_full(errors) {
            break;
        }
    }
}

/// Checks whose finalizers they are.
pub fn validate_finalizers(object: &Tree, errors: &mut Vec<Cause>) {
    let (metadata, path) = (get(object, "metadata"), METADATA.field("finalizers"));
    for (index, finalizer) in texts(metadata, "finalizers").enumerate() {
        if is_full(errors) {
            break;
        }
        let standard = matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion");
        if !finalizer.contains('/') && !standard {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(path.index(index).invalid(finalizer, detail));
        }
    }
}

/// The field errors of a map of annotations.
pub fn validate_annotations(annotations: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        if is_full(errors) {
            break;
        }
        for problem in names::qualified_name(&key.to_lowercase()) {
            errors.push(path.invalid(key, &problem));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        errors.push(path.too_long(ANNOTATIONS_MAX));
    }
}

/// An owner as a key. Beside these texts it has two flags: few differ of those that share a hash.
#[derive(PartialEq, Eq)]
struct Owner<'t>(&'t Tree);

impl Hash for Owner<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ["apiVersion", "kind", "name", "uid"]
            .map(|field| self.0.get(field).and_then(Tree::as_str))
            .hash(state);
    }
}

/// Owners that are named twice are named once. Answers the UIDs of those that went.
pub fn one_of_each_owner(object: &mut Tree) -> Vec<String> {
    let Some(owners) = object_mut(object, "metadata")
        .and_then(|metadata| metadata.get_mut("ownerReferences"))
        .and_then(Tree::as_array_mut)
    else {
        return Vec::new();
    };
    let all = std::mem::take(owners);
    let mut seen = Seen::new();
    let repeated: Vec<bool> = all.iter().map(|owner| seen.repeats(Owner(owner))).collect();
    let mut repeats = Vec::new();
    for (owner, repeated) in all.into_iter().zip(repeated) {
        match repeated {
            true => repeats.push(text(&owner, "uid").to_owned()),
            false => owners.push(owner),
        }
    }
    repeats
}

fn validate_owners(metadata: &Tree, at: &Path<'_>, errors: &mut Vec<Cause>) {
    let path = at.field("ownerReferences");
    let mut controller: Option<String> = None;
    for (index, owner) in list(metadata, "ownerReferences").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = path.index(index);
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.push(at.field(field).required("must not be empty"));
            }
        }
        let version = text(owner, "apiVersion");
        if version.matches('/').count() > 1 {
            errors.push(at.field("apiVersion").invalid(version, "must be <group>/<version> or <version>"));
        }
        if text(owner, "kind") == "Event" && matches!(text(owner, "apiVersion"), "v1" | "events.k8s.io/v1") {
            let version = text(owner, "apiVersion");
            let slash = if version.contains('/') { "" } else { "/" };
            let detail = format!("{slash}{version}, Kind=Event is disallowed from being an owner");
            errors.push(at.invalid(owner, &detail));
        }
        if crate::tree::flag(owner, "controller") {
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}/{}",
                    text(owner, "kind"),
                    text(owner, "name")
                );
                errors.push(path.invalid(get(metadata, "ownerReferences"), &detail));
            }
            controller = Some(format!("{}/{}", text(owner, "kind"), text(owner, "name")));
        }
    }
}
