//! What differs from resource to resource on the one write path.

use api::Tree;
use api::model::Resource;
use api::status::Cause;

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

/// The write-path rules of one resource (or of one of its subresources). Small, mostly data, without I/O.
///
/// Order on create: [`Strategy::default`] → mutating admission → [`Strategy::prepare_for_create`] →
/// [`Strategy::validate`] → validating admission → store. On update the same with the old object.
pub trait Strategy: Send + Sync {
    /// Fills unset fields as upstream's defaulting does. Runs on every decoded body and on objects read from storage.
    fn default(&self, object: &mut Tree);

    /// Drops what a client may not set (status), sets generation 1, and the like.
    fn prepare_for_create(&self, context: &Context<'_>, object: &mut Tree);

    /// Carries over what an update may not change (status, or everything but status for the status
    /// subresource) and raises `metadata.generation` when the spec changed.
    fn prepare_for_update(&self, context: &Context<'_>, object: &mut Tree, old: &Tree);

    /// Upstream's field errors; empty when the object is fine.
    fn validate(&self, context: &Context<'_>, object: &Tree) -> Vec<Cause>;

    fn validate_update(&self, context: &Context<'_>, object: &Tree, old: &Tree) -> Vec<Cause>;

    /// Texts for `Warning` headers.
    fn warnings(&self, _context: &Context<'_>, _object: &Tree, _old: Option<&Tree>) -> Vec<String> {
        Vec::new()
    }

    /// Texts for `Warning` headers about a new object as it came, before [`Strategy::prepare_for_create`].
    fn first_warnings(&self, _object: &Tree) -> Vec<String> {
        Vec::new()
    }

    /// Whether PUT of a name that does not exist creates it (leases, services' endpoints, …).
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion is accepted.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// The grace period, in seconds, of a delete: `Some(0)` deletes now, `None` means the kind has no graceful deletion.
    /// Pods answer by their spec, node and phase.
    fn grace_period(&self, _object: &Tree, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether a delete that names no propagation policy leaves what depends on the object.
    fn orphans_dependents(&self) -> bool {
        false
    }

    /// The warning for a delete that names no propagation policy.
    fn unsaid_policy(&self) -> Option<&'static str> {
        None
    }
}
