//! The write path's rules: what all kinds share (metadata, status, generation), driven by the kind's [`Profile`] and by
//! the rules of its messages. Pure; the clock is passed in.
//!
//! [`Profile`]: crate::profile::Profile

use api::Tree;
use api::model::Resource;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::kind::Kind;
use crate::profile::Generation;
use crate::rules::DefaultsTooLarge;
use crate::tree::{as_object, ensure, equal, get, has, number, object_mut, put, same};
use crate::{declared, gated, meta, rules};

/// What a strategy may know of the request. The clock is passed in.
pub struct Context<'a> {
    pub now: jiff::Timestamp,
    pub resource: &'a Resource,
    /// `None` for the object itself, else `status`, `scale`, `binding`, …
    pub subresource: Option<&'a str>,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    pub name: &'a str,
}

/// The rules of a kind, for its objects or for one of their subresources.
///
/// Order on create: [`Strategy::default`] → mutating admission → [`Strategy::prepare_for_create`] →
/// [`Strategy::validate`] → validating admission → store. On update the same with the old object.
#[derive(Clone, Copy)]
pub struct Strategy<'k> {
    pub(crate) kind: &'k Kind,
    /// Whether this is the strategy of the status subresource.
    pub(crate) status: bool,
}

impl Strategy<'_> {
    /// Fills unset fields as upstream's defaulting does. Runs on every decoded body and on objects read from storage.
    pub fn default(&self, object: &mut Tree) -> Result<(), DefaultsTooLarge> {
        rules::default(object, self.kind.message(), self.kind.rules())
    }

    /// Drops what a client may not set (status), sets generation 1, and the like.
    pub fn prepare_for_create(
        &self,
        context: &Context<'_>,
        object: &mut Tree,
    ) -> Result<(), DefaultsTooLarge> {
        if self.kind.profile.status && !self.kind.profile.status_on_create {
            as_object(object).remove("status");
        }
        if context.resource.scope == api::model::Scope::Cluster {
            ensure(object, "metadata").remove("namespace");
        }
        gated::drop_fields(object, None, self.kind.message());
        meta::one_of_each_owner(object);
        // a kind that does not count its changes keeps the number it came with
        if !matches!(self.kind.profile.generation, Generation::Unset | Generation::Changes) {
            self.set_generation(object, 1);
        }
        if let Some(prepare) = self.kind.profile.prepare {
            prepare(context, object, None);
        }
        self.default(object)?;
        if self.kind.profile.status_bare_on_create {
            put(as_object(object), "status", api::json!({}));
        }
        Ok(())
    }

    /// Carries over what an update may not change (status, or everything but status for the status
    /// subresource) and raises `metadata.generation` when the spec changed.
    pub fn prepare_for_update(&self, context: &Context<'_>, object: &mut Tree, old: &Tree) {
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
        if self.status {
            self.prepare_status(context, object, old);
            return;
        }
        gated::drop_fields(object, Some(old), self.kind.message());
        if context.subresource == Some("approval") {
            prepare_approval(object, old);
            if let Some(prepare) = self.kind.profile.prepare {
                prepare(context, object, Some(old));
            }
            return;
        }
        // a binding is the server's own work, and says in the status that the pod has its node
        if self.kind.profile.status && context.subresource != Some("binding") {
            let status = old.get("status").cloned().unwrap_or_default();
            put(as_object(object), "status", status);
        }
        // counted before a field that is no longer written is dropped
        let labelled = self.kind.profile.generation == Generation::SpecAndLabels
            && (spec_changed(object, old)
                || !same(get(object, "metadata.labels"), get(old, "metadata.labels")));
        if let Some(prepare) = self.kind.profile.prepare {
            prepare(context, object, Some(old));
        }
        let generation = number(old, "metadata.generation");
        let changed = |path: &str| !same(get(object, path), get(old, path));
        let raised = match self.kind.profile.generation {
            Generation::Unset | Generation::One => false,
            // a binding sets the node, which is no change of the pod's wanted state
            _ if context.subresource == Some("binding") => false,
            Generation::Spec | Generation::Changes => spec_changed(object, old),
            Generation::SpecAndStatus => spec_changed(object, old) || changed("status"),
            Generation::SpecAndAnnotations => spec_changed(object, old) || changed("metadata.annotations"),
            Generation::SpecAndLabels => labelled,
        };
        self.set_generation(object, generation + i64::from(raised));
    }

    /// Upstream's field errors; empty when the object is fine.
    pub fn validate(&self, context: &Context<'_>, object: &Tree) -> Vec<Cause> {
        let mut errors = Vec::new();
        let name = self.kind.profile.name;
        let generated = self.kind.profile.generate_name.unwrap_or(name);
        meta::validate(context.resource, object, name, generated, &mut errors);
        if !self.kind.profile.any_finalizer {
            meta::validate_finalizers(object, &mut errors);
        }
        self.check_rules(object, None, &mut errors);
        if let Some(check) = self.kind.profile.check {
            check(context, object, None, &mut errors);
        }
        declared::validate(object, None, self.kind.message(), &mut errors);
        errors
    }

    pub fn validate_update(&self, context: &Context<'_>, object: &Tree, old: &Tree) -> Vec<Cause> {
        let mut errors = Vec::new();
        meta::validate_update(object, old, &mut errors);
        if !self.kind.profile.any_finalizer {
            meta::validate_finalizers(object, &mut errors);
        }
        if self.status {
            if self.kind.custom().is_some() {
                self.check_rules(object, Some(old), &mut errors);
            }
            if let Some(check) = self.kind.profile.check_status {
                check(context, object, Some(old), &mut errors);
            }
            declared::validate(object, Some(old), self.kind.message(), &mut errors);
            return errors;
        }
        let fixed = |fields: &[(&str, &str)], errors: &mut Vec<Cause>| {
            for (path, detail) in fields.iter().filter(|(path, _)| !same(get(object, path), get(old, path))) {
                errors.push(Path::new(path).invalid(get(object, path), detail));
            }
        };
        fixed(self.kind.profile.immutable_first, &mut errors);
        self.check_rules(object, Some(old), &mut errors);
        fixed(self.kind.profile.immutable, &mut errors);
        if let Some(check) = self.kind.profile.check {
            check(context, object, Some(old), &mut errors);
        }
        declared::validate(object, Some(old), self.kind.message(), &mut errors);
        errors
    }

    /// Texts for `Warning` headers.
    pub fn warnings(&self, context: &Context<'_>, object: &Tree, old: Option<&Tree>) -> Vec<String> {
        // the author of a subresource's write did not write the object
        let warn = match (self.status, context.subresource) {
            (true, _) => self.kind.profile.warn_status,
            (false, None | Some("scale" | "finalize")) => self.kind.profile.warn,
            (false, Some(_)) => None,
        };
        warn.map(|warn| warn(object, old)).unwrap_or_default()
    }

    /// Texts for `Warning` headers about a new object as it came, before [`Strategy::prepare_for_create`].
    pub fn first_warnings(&self, object: &Tree) -> Vec<String> {
        self.kind.profile.warn_first.map(|warn| warn(object, None)).unwrap_or_default()
    }

    /// Whether PUT of a name that does not exist creates it (leases, services' endpoints, …).
    pub fn allow_create_on_update(&self) -> bool {
        self.kind.profile.create_on_update && !self.status
    }

    /// Whether an update without resourceVersion is accepted.
    pub fn allow_unconditional_update(&self) -> bool {
        self.kind.profile.unconditional_update
    }

    /// The grace period, in seconds, of a delete: `Some(0)` deletes now, `None` means the kind has no graceful deletion.
    /// Pods answer by their spec, node and phase.
    pub fn grace_period(&self, object: &Tree, requested: Option<i64>) -> Option<i64> {
        self.kind.profile.grace_period.and_then(|period| period(object, requested))
    }

    /// Marks an object that is deleted for the first time, where its kind has a way of its own; whether it has.
    pub fn prepare_for_delete(&self, object: &mut Tree, now: jiff::Timestamp) -> bool {
        let prepare = self.kind.profile.prepare_delete;
        prepare.inspect(|prepare| prepare(object, now)).is_some()
    }

    /// Whether a delete that names no propagation policy leaves what depends on the object.
    pub fn orphans_dependents(&self) -> bool {
        self.kind.profile.orphans
    }

    /// The warning for a delete that names no propagation policy.
    pub fn unsaid_policy(&self) -> Option<&'static str> {
        self.kind.profile.unsaid_policy
    }

    fn check_rules(&self, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
        let view = |object: &Tree| self.kind.profile.view.map(|view| view(object));
        let (shown, before) = (view(object), old.and_then(view));
        rules::validate(
            shown.as_ref().unwrap_or(object),
            before.as_ref().or(old),
            self.kind.message(),
            self.kind.rules(),
            rules::Scope { skip: &["metadata", "status"], status: self.status },
            errors,
        );
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
        meta::keep(object, old, self.kind.profile.status_keeps);
        self.set_generation(object, number(old, "metadata.generation"));
        if let Some(prepare) = self.kind.profile.prepare_status {
            prepare(context, object, Some(old));
        }
    }
}

/// Everything but these is what `generation` counts changes of.
fn spec_changed(object: &Tree, old: &Tree) -> bool {
    let empty = api::tree::Object::new();
    let (new, old) = (object.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let counted = |key: &str| !matches!(key, "metadata" | "status" | "kind" | "apiVersion");
    let keys = new.keys().chain(old.keys()).filter(|key| counted(key));
    let null = Tree::Null;
    keys.into_iter().any(|key| !equal(new.get(key).unwrap_or(&null), old.get(key).unwrap_or(&null)))
}

/// Takes only the conditions and the metadata from an approval.
fn prepare_approval(object: &mut Tree, old: &Tree) {
    let conditions = get(object, "status.conditions").clone();
    let mut result = old.clone();
    if let Some(metadata) = object.get("metadata") {
        as_object(&mut result).insert("metadata", metadata.clone());
    }
    put(ensure(&mut result, "status"), "conditions", conditions);
    *object = result;
}
