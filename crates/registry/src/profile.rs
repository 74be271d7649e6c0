//! What is particular about the objects of a resource, as data; with small pure functions where data is not enough.

use api::Tree;
use api::status::Cause;
use machinery::names;

use crate::meta::NameFormat;
use crate::strategy::Context;

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
    /// Absent on create, raised when anything but metadata and status changes.
    Changes,
    /// 1 on create, raised when anything but metadata and status changes.
    Spec,
    /// 1 on create, raised when anything but metadata changes.
    SpecAndStatus,
    /// Like `Spec`, and when annotations change.
    SpecAndAnnotations,
    /// Like `Spec`, and when labels change.
    SpecAndLabels,
}

/// What is particular about a resource.
#[derive(Clone)]
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
    /// The same, reported before anything else is checked.
    pub immutable_first: &'static [(&'static str, &'static str)],
    pub prepare: Option<Prepare>,
    /// The same for the status subresource.
    pub prepare_status: Option<Prepare>,
    /// The object as its author is taken to have written it, where more is made of it than defaults.
    pub owned: Option<fn(&Tree) -> Option<Tree>>,
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
    /// Marks an object that is deleted for the first time.
    pub prepare_delete: Option<fn(&mut Tree, jiff::Timestamp)>,
    /// Metadata fields that a status update does not change.
    pub status_keeps: &'static [&'static str],
    /// Dependents are orphaned when the object is deleted, unless the delete says otherwise.
    pub orphans: bool,
    /// Warned of when a delete does not say what becomes of dependents.
    pub unsaid_policy: Option<&'static str>,
    /// Its objects are what others are in: namespaces. A request for one is in that one.
    pub is_scope: bool,
    /// Objects last a while only: they expire, and the garbage collector does not look at them.
    pub passing: bool,
    /// Objects are made when they are asked for, and never stored.
    pub reported: bool,
    /// Objects are stored without defaults that they are read with, so that each has to be looked into.
    pub completed_on_read: bool,
    /// A delete answers the object, not a status.
    pub answers_deleted: bool,
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
            owned: None,
            view: None,
            check: None,
            check_status: None,
            warn: None,
            warn_status: None,
            warn_first: None,
            grace_period: None,
            prepare_delete: None,
            status_keeps: &[],
            orphans: false,
            unsaid_policy: None,
            is_scope: false,
            passing: false,
            reported: false,
            completed_on_read: false,
            answers_deleted: false,
            full: false,
        }
    }
}

/// All that an update of the status could change of the metadata.
pub const ALL_METADATA: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];
