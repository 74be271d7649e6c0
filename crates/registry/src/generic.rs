//! The one strategy: driven by a kind's [`Profile`] and its message's rules, with all that kinds share (metadata,
//! status, generation) done here.

use std::collections::HashMap;
use std::sync::LazyLock;

use api::Tree;
use api::model::{MessageRef, Resource};
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::meta::{self, NameFormat};
use crate::rules;
use crate::strategy::{Context, Strategy};
use crate::tree::{as_object, ensure, get, has, number, object_mut, put, same};

pub type Prepare = fn(&Context<'_>, &mut Tree, Option<&Tree>);
pub type Check = fn(&Context<'_>, &Tree, Option<&Tree>, &mut Vec<Cause>);

/// Warnings about a new object, or about a change of an old one.
pub type Warn = fn(&Tree, Option<&Tree>) -> Vec<String>;
/// The seconds an object may take to stop, of its own or as requested.
pub type GracePeriod = fn(&Tree, Option<i64>) -> Option<i64>;

/// When `metadata.generation` is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    Unset,
    /// 1 from the beginning to the end.
    One,
    /// 1 on create, raised when anything but metadata and status changes.
    Spec,
    /// As above, and when annotations change.
    SpecAndAnnotations,
    /// As with `Spec`, and when labels change.
    SpecAndLabels,
}

/// What is particular about a resource.
pub struct Profile {
    pub group: &'static str,
    pub plural: &'static str,
    pub name: NameFormat,
    /// What the beginning of a generated name must look like, where that is not what names must.
    pub generate_name: Option<NameFormat>,
    pub generation: Generation,
    /// The object has a `status` that only the status subresource may write.
    pub status: bool,
    /// A new object may bring its status, as nodes do.
    pub status_on_create: bool,
    /// The status is empty on create; its defaults come with reading.
    pub status_bare_on_create: bool,
    pub create_on_update: bool,
    /// Finalizers need not be standard ones or fully qualified.
    pub any_finalizer: bool,
    pub unconditional_update: bool,
    /// Fields that never change, and what is said of an attempt.
    pub immutable: &'static [(&'static str, &'static str)],
    /// The same, told before anything else is checked.
    pub immutable_first: &'static [(&'static str, &'static str)],
    pub prepare: Option<Prepare>,
    /// The same for the status subresource.
    pub prepare_status: Option<Prepare>,
    /// The object as the rules are to see it, where that is not as it is.
    pub view: Option<fn(&Tree) -> Tree>,
    pub check: Option<Check>,
    pub check_status: Option<Check>,
    pub warn: Option<Warn>,
    /// The same for the status subresource.
    pub warn_status: Option<Warn>,
    /// Warnings about a new object as it came, before anything is made of it.
    pub warn_first: Option<Warn>,
    pub grace_period: Option<GracePeriod>,
    /// What of the metadata an update of the status leaves as it was.
    pub status_keeps: &'static [&'static str],
    /// What depends on the object stays when it is deleted, unless the delete says otherwise.
    pub orphans: bool,
    /// Warned of when a delete does not say what becomes of dependents.
    pub unsaid_policy: Option<&'static str>,
    /// Defaults and validation are upstream's in full.
    pub full: bool,
}

impl Profile {
    /// A kind without particulars: DNS subdomain names, no generation, no status.
    pub const fn new(group: &'static str, plural: &'static str) -> Profile {
        Profile {
            group,
            plural,
            name: names::dns1123_subdomain,
            generate_name: None,
            generation: Generation::Unset,
            status: false,
            status_on_create: false,
            status_bare_on_create: false,
            create_on_update: false,
            any_finalizer: false,
            unconditional_update: true,
            immutable: &[],
            immutable_first: &[],
            prepare: None,
            prepare_status: None,
            view: None,
            check: None,
            check_status: None,
            warn: None,
            warn_status: None,
            warn_first: None,
            grace_period: None,
            status_keeps: &[],
            orphans: false,
            unsaid_policy: None,
            full: false,
        }
    }
}

/// All that an update of the status could change of the metadata.
pub const ALL_METADATA: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];

/// Makes these fields of the metadata what they were.
pub fn keep_metadata(object: &mut Tree, old: &Tree, fields: &[&str]) {
    for field in fields {
        let value = get(old, "metadata").get(*field).cloned().unwrap_or_default();
        put(ensure(object, "metadata"), field, value);
    }
}

struct Generic {
    profile: &'static Profile,
    /// Custom resources have none.
    message: Option<MessageRef<'static>>,
    /// The object itself, or its status.
    status_subresource: bool,
}

type Key = (&'static str, &'static str, &'static str);

struct Strategies {
    own: HashMap<Key, &'static Generic>,
    status: HashMap<Key, &'static Generic>,
}

static STRATEGIES: LazyLock<Strategies> = LazyLock::new(|| {
    let (mut own, mut status) = (HashMap::new(), HashMap::new());
    for resource in api::tables::all_resources() {
        let key = (&*resource.group, &*resource.version, &*resource.plural);
        let message = api::tables::message_of(resource);
        let profile =
            crate::kinds::profile(&resource.group, &resource.plural).unwrap_or_else(|| derived(resource));
        // They live as long as the process.
        let leak = |status_subresource| -> &'static Generic {
            Box::leak(Box::new(Generic { profile, message, status_subresource }))
        };
        own.insert(key, leak(false));
        status.insert(key, leak(true));
    }
    Strategies { own, status }
});

/// The profile of a built-in kind that has none of its own.
fn derived(resource: &'static Resource) -> &'static Profile {
    let status = resource.subresource("status").is_some();
    let generation = if status { Generation::Spec } else { Generation::Unset };
    Box::leak(Box::new(Profile { status, generation, ..Profile::new(&resource.group, &resource.plural) }))
}

static CUSTOM: Profile = Profile {
    status: true,
    generation: Generation::Spec,
    unconditional_update: false,
    status_keeps: ALL_METADATA,
    ..Profile::new("", "")
};
static CUSTOM_OWN: Generic = Generic { profile: &CUSTOM, message: None, status_subresource: false };
static CUSTOM_STATUS: Generic = Generic { profile: &CUSTOM, message: None, status_subresource: true };

/// The strategy of a resource, or of one of its subresources. Of these, `status` and those that write the object
/// itself (`ephemeralcontainers`, `resize`, `finalize`, `approval`) matter; others take the object's.
pub fn strategy_for(resource: &Resource, subresource: Option<&str>) -> &'static dyn Strategy {
    let key = (&*resource.group, &*resource.version, &*resource.plural);
    let status = subresource == Some("status");
    let strategies = &*STRATEGIES;
    let table = if status { &strategies.status } else { &strategies.own };
    match table.get(&key).copied() {
        Some(strategy) => strategy,
        None if status => &CUSTOM_STATUS,
        None => &CUSTOM_OWN,
    }
}

/// Kinds served by default, and whether their rules are complete.
pub fn coverage() -> Vec<(&'static Resource, bool)> {
    let full = |resource: &Resource| {
        crate::kinds::profile(&resource.group, &resource.plural).is_some_and(|profile| profile.full)
    };
    api::tables::resources().iter().map(|resource| (resource, full(resource))).collect()
}

/// Everything but these is what `generation` counts changes of.
fn spec_changed(object: &Tree, old: &Tree) -> bool {
    let empty = api::tree::Object::new();
    let (new, old) = (object.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let counted = |key: &str| !matches!(key, "metadata" | "status" | "kind" | "apiVersion");
    let keys = new.keys().chain(old.keys()).filter(|key| counted(key));
    let null = Tree::Null;
    keys.into_iter().any(|key| !same(new.get(key).unwrap_or(&null), old.get(key).unwrap_or(&null)))
}

/// Of an approval nothing is taken but the conditions, and metadata.
fn prepare_approval(object: &mut Tree, old: &Tree) {
    let conditions = get(object, "status.conditions").clone();
    let mut result = old.clone();
    if let Some(metadata) = object.get("metadata") {
        as_object(&mut result).insert("metadata", metadata.clone());
    }
    put(ensure(&mut result, "status"), "conditions", conditions);
    *object = result;
}

impl Generic {
    fn check_rules(&self, object: &Tree, errors: &mut Vec<Cause>) {
        let Some(message) = self.message else { return };
        let view = self.profile.view.map(|view| view(object));
        rules::validate(view.as_ref().unwrap_or(object), message, &["metadata", "status"], errors);
    }

    fn set_generation(&self, object: &mut Tree, generation: i64) {
        let metadata = ensure(object, "metadata");
        if generation == 0 {
            metadata.remove("generation");
        } else {
            metadata.insert("generation", generation.into());
        }
    }

    fn prepare_status(&self, context: &Context<'_>, object: &mut Tree, old: &Tree) {
        // Metadata may change but for what is the server's; everything else is the old object's. What is equal stays as it is:
        // a spec is large, and seldom sent with a change.
        let (object_fields, empty) = (as_object(object), api::tree::Object::new());
        let old_fields = old.as_object().unwrap_or(&empty);
        object_fields.retain(|key, value| match key.as_str() {
            "metadata" => true,
            "status" => !value.is_null(),
            key => old_fields.contains_key(key),
        });
        for (key, value) in old_fields {
            let own = object_fields.get(key);
            let taken = match key.as_str() {
                "status" => true,
                "metadata" => own.is_some(),
                _ => own == Some(value),
            };
            if !taken {
                object_fields.insert(key.clone(), value.clone());
            }
        }
        keep_metadata(object, old, self.profile.status_keeps);
        self.set_generation(object, number(old, "metadata.generation"));
        if let Some(prepare) = self.profile.prepare_status {
            prepare(context, object, Some(old));
        }
    }
}

impl Strategy for Generic {
    fn default(&self, object: &mut Tree) {
        if let Some(message) = self.message {
            rules::default(object, message);
        }
    }

    fn prepare_for_create(&self, context: &Context<'_>, object: &mut Tree) {
        if self.profile.status && !self.profile.status_on_create {
            as_object(object).remove("status");
        }
        if context.resource.scope == api::model::Scope::Cluster {
            ensure(object, "metadata").remove("namespace");
        }
        meta::one_of_each_owner(object);
        // a kind that does not count its changes keeps the number it came with
        if self.profile.generation != Generation::Unset {
            self.set_generation(object, 1);
        }
        if let Some(prepare) = self.profile.prepare {
            prepare(context, object, None);
        }
        self.default(object);
        if self.profile.status_bare_on_create {
            put(as_object(object), "status", api::json!({}));
        }
    }

    fn prepare_for_update(&self, context: &Context<'_>, object: &mut Tree, old: &Tree) {
        for field in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            if !has(object, &format!("metadata.{field}")) && has(old, &format!("metadata.{field}")) {
                let value = get(old, &format!("metadata.{field}")).clone();
                ensure(object, "metadata").insert(field.to_owned(), value);
            }
        }
        meta::one_of_each_owner(object);
        let created = get(old, "metadata.creationTimestamp").clone();
        if let Some(metadata) = object_mut(object, "metadata") {
            put(metadata, "creationTimestamp", created);
            metadata.remove("selfLink");
        }
        if self.status_subresource {
            self.prepare_status(context, object, old);
            return;
        }
        if context.subresource == Some("approval") {
            prepare_approval(object, old);
            if let Some(prepare) = self.profile.prepare {
                prepare(context, object, Some(old));
            }
            return;
        }
        // a binding is the server's own work, and says in the status that the pod has its node
        if self.profile.status && context.subresource != Some("binding") {
            let status = old.get("status").cloned().unwrap_or_default();
            put(as_object(object), "status", status);
        }
        if let Some(prepare) = self.profile.prepare {
            prepare(context, object, Some(old));
        }
        let generation = number(old, "metadata.generation");
        let changed = |path: &str| !same(get(object, path), get(old, path));
        let raised = match self.profile.generation {
            Generation::Unset | Generation::One => false,
            // where a pod runs is not of its owner's making
            _ if context.subresource == Some("binding") => false,
            Generation::Spec => spec_changed(object, old),
            Generation::SpecAndAnnotations => spec_changed(object, old) || changed("metadata.annotations"),
            Generation::SpecAndLabels => spec_changed(object, old) || changed("metadata.labels"),
        };
        self.set_generation(object, generation + i64::from(raised));
    }

    fn validate(&self, context: &Context<'_>, object: &Tree) -> Vec<Cause> {
        let mut errors = Vec::new();
        let name = self.profile.name;
        let generated = self.profile.generate_name.unwrap_or(name);
        meta::validate(context.resource, object, name, generated, &mut errors);
        if !self.profile.any_finalizer {
            meta::validate_finalizers(object, &mut errors);
        }
        self.check_rules(object, &mut errors);
        if let Some(check) = self.profile.check {
            check(context, object, None, &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, object: &Tree, old: &Tree) -> Vec<Cause> {
        let mut errors = Vec::new();
        meta::validate_update(object, old, &mut errors);
        if !self.profile.any_finalizer {
            meta::validate_finalizers(object, &mut errors);
        }
        if self.status_subresource {
            if let Some(check) = self.profile.check_status {
                check(context, object, Some(old), &mut errors);
            }
            return errors;
        }
        let fixed = |fields: &[(&str, &str)], errors: &mut Vec<Cause>| {
            for (path, detail) in fields.iter().filter(|(path, _)| !same(get(object, path), get(old, path))) {
                errors.push(Path::new(path).invalid(get(object, path), detail));
            }
        };
        fixed(self.profile.immutable_first, &mut errors);
        self.check_rules(object, &mut errors);
        fixed(self.profile.immutable, &mut errors);
        if let Some(check) = self.profile.check {
            check(context, object, Some(old), &mut errors);
        }
        errors
    }

    fn warnings(&self, context: &Context<'_>, object: &Tree, old: Option<&Tree>) -> Vec<String> {
        // what a subresource writes is not its author's object
        let warn = match (self.status_subresource, context.subresource) {
            (true, _) => self.profile.warn_status,
            (false, None | Some("scale" | "finalize")) => self.profile.warn,
            (false, Some(_)) => None,
        };
        warn.map(|warn| warn(object, old)).unwrap_or_default()
    }

    fn first_warnings(&self, object: &Tree) -> Vec<String> {
        self.profile.warn_first.map(|warn| warn(object, None)).unwrap_or_default()
    }

    fn allow_create_on_update(&self) -> bool {
        self.profile.create_on_update && !self.status_subresource
    }

    fn allow_unconditional_update(&self) -> bool {
        self.profile.unconditional_update
    }

    fn grace_period(&self, object: &Tree, requested: Option<i64>) -> Option<i64> {
        self.profile.grace_period.and_then(|period| period(object, requested))
    }

    fn orphans_dependents(&self) -> bool {
        self.profile.orphans
    }

    fn unsaid_policy(&self) -> Option<&'static str> {
        self.profile.unsaid_policy
    }
}
