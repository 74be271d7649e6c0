//! Who owns the fields of an object that is written: entries of `managedFields` for updates, and objects that are applied.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;

use api::model::MessageRef;
use api::{Status, Tree};
use machinery::ownership::apply::{Configuration, Live, apply};
use machinery::ownership::reset::Reset;
use machinery::ownership::types::Type;
use machinery::ownership::update::{self, Versions};
use machinery::ownership::{managers, scale};
use registry::Kind;
use registry::conversion::Conversion;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Write, metadata};
use crate::request::Request;

/// What becomes of `managedFields` in a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Who sent the request owns what it changes.
    Record,
    /// They are part of the change, or stay as they are: an apply, a scale, a binding.
    Given,
}

/// The versions of a kind that are served.
struct Served<'a> {
    subresource: &'a str,
    kinds: BTreeMap<String, &'a Arc<Kind>>,
}

impl<'a> Served<'a> {
    fn of(request: &'a Request, kind: &'a Arc<Kind>, subresource: &'a str) -> Served<'a> {
        // entries of the same object in another group are let go
        let kinds = request.catalog.versions(kind).filter(|other| other.group == kind.group);
        let kinds = kinds.map(|kind| (kind.api_version(), kind));
        Served { subresource, kinds: kinds.collect() }
    }
}

impl Versions for Served<'_> {
    fn ty(&self, version: &str) -> Option<Type<'_>> {
        self.kinds.get(version).map(|kind| Type::of_message(kind.message()))
    }

    fn convert(&self, object: &Tree, from: &str, to: &str) -> Result<Tree, String> {
        let kind = |version: &str| self.kinds.get(version).ok_or_else(|| format!("{version} is not served"));
        let (from, to) = (kind(from)?, kind(to)?);
        let converted = match from.conversion {
            // The managers' versions are met while field sets are compared, which does not wait. A webhook is asked aside.
            Conversion::Other(_) => wait_aside(from.convert_one(to, object.clone()))?,
            _ => from.convert_at_once(to, object.clone()),
        };
        converted.map_err(|status| status.message)
    }

    fn reset(&self, version: &str) -> &Reset {
        self.kinds.get(version).map_or(&Reset::Nothing, |kind| kind.reset(self.subresource))
    }
}

/// Waits within work that does not, on a thread that others do not need meanwhile.
fn wait_aside<T>(wait: impl Future<Output = T>) -> Result<T, String> {
    let runtime = Handle::try_current().map_err(|error| error.to_string())?;
    match runtime.runtime_flavor() {
        RuntimeFlavor::MultiThread => Ok(tokio::task::block_in_place(|| runtime.block_on(wait))),
        _ => Err("no thread is left to wait for a conversion".to_owned()),
    }
}

/// A kind that is no resource of its own: `Scale`, `TokenRequest`.
#[derive(Clone, Copy)]
pub struct Lone {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub message: MessageRef<'static>,
}

impl Lone {
    pub fn of(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        api_version: &'static str,
    ) -> Option<Lone> {
        let message = api::tables::kind_message(group, version, kind)?;
        Some(Lone { api_version, kind, message })
    }

    fn empty(self) -> Tree {
        let none = Tree::Object(api::tree::Object::new());
        let decoded = api::decode::tree(&none, self.message, api::decode::Strictness::Ignore);
        let mut tree = decoded.map(|decoded| decoded.tree).unwrap_or(none);
        api::decode::put_type_meta(&mut tree, self.kind, self.api_version);
        tree
    }
}

impl Versions for Lone {
    fn ty(&self, version: &str) -> Option<Type<'_>> {
        (version == self.api_version).then(|| Type::of_message(self.message))
    }

    fn convert(&self, _: &Tree, _: &str, to: &str) -> Result<Tree, String> {
        Err(format!("{to} is not served"))
    }

    fn reset(&self, _: &str) -> &Reset {
        &Reset::Nothing
    }
}

fn record(write: &Write<'_>, versions: &dyn Versions, api_version: &str, live: &Tree, new: &mut Tree) {
    let manager = write.request.manager(write.options);
    let write = update::Write {
        versions,
        api_version,
        subresource: write.subresource,
        manager: &manager,
        now: &metadata::now(),
    };
    if let Err(error) = update::update(live, new, &write) {
        tracing::error!(%error, kind = api_version, "Failed to update managedFields, they stay as they were");
    }
}

/// Records who owns what after an update, or after a create where there is no live object. Both are at the request's
/// version, with defaults.
pub fn record_update(write: &Write<'_>, live: Option<&Tree>, new: &mut Tree) {
    if write.owners == Owners::Given {
        return;
    }
    let versions = Served::of(write.request, write.resource, write.subresource);
    let live = live.unwrap_or_else(|| write.resource.empty());
    let version = write.resource.api_version();
    let Some(completed) = write.resource.profile.owned.and_then(|owned| owned(new)) else {
        return record(write, &versions, &version, live, new);
    };
    let mut completed = completed;
    record(write, &versions, &version, live, &mut completed);
    managers::set(new, managers::take(&mut completed));
}

/// The same for an object of a kind that is no resource of its own.
pub fn record_lone(write: &Write<'_>, lone: Lone, live: Option<&Tree>, new: &mut Tree) {
    let empty;
    let live = match live {
        Some(live) => live,
        None => {
            empty = lone.empty();
            &empty
        }
    };
    record(write, &lone, lone.api_version, live, new);
}

fn applied(
    write: &Write<'_>,
    versions: &dyn Versions,
    api_version: &str,
    live: Live<'_>,
    config: &Tree,
) -> Result<Tree, Status> {
    let manager = write.request.manager(write.options);
    let owner = update::Write {
        versions,
        api_version,
        subresource: write.subresource,
        manager: &manager,
        now: &metadata::now(),
    };
    let config = Configuration { object: config, force: write.options.force };
    Ok(apply(live, config, &owner)?)
}

/// Merges an applied configuration into a live object, which is at the request's version.
pub fn apply_to(write: &Write<'_>, live: Option<&Tree>, config: &Tree) -> Result<Tree, Status> {
    let kind = write.resource;
    let versions = Served::of(write.request, kind, write.subresource);
    let empty = kind.empty();
    let live = Live { object: live.unwrap_or(empty), empty, kind: &kind.kind };
    applied(write, &versions, &kind.api_version(), live, config)
}

/// The same for an object of a kind that is no resource of its own.
pub fn apply_to_lone(write: &Write<'_>, lone: Lone, live: &Tree, config: &Tree) -> Result<Tree, Status> {
    let live = Live { object: live, empty: &lone.empty(), kind: lone.kind };
    applied(write, &lone, lone.api_version, live, config)
}

/// Where `replicas` is in the versions of a kind, those of definitions where each says.
fn replicas(write: &Write<'_>) -> impl Fn(&str) -> Option<Option<Vec<String>>> {
    let place = |path: &str| path.trim_start_matches('.').split('.').map(str::to_owned).collect();
    let own = |kind: &Kind| match kind.custom() {
        None => Some(place("spec.replicas")),
        Some(custom) => custom.scale.as_ref().map(|scale| place(&scale.spec_replicas)),
    };
    let versions: HashMap<String, Option<Vec<String>>> =
        write.request.catalog.versions(write.resource).map(|kind| (kind.api_version(), own(kind))).collect();
    move |version| versions.get(version).cloned()
}

/// Entries for the `Scale` of an object.
pub fn to_scale(write: &Write<'_>, object: &Tree) -> Result<Option<Tree>, Status> {
    scale::to_scale(object, &replicas(write)).map_err(|error| Status::failure(500, "", error.to_string()))
}

/// Puts the entries of a `Scale` into those of its object.
pub fn from_scale(write: &Write<'_>, scale: &Tree, object: &mut Tree) -> Result<(), Status> {
    let version = write.resource.api_version();
    let entries = scale::to_parent(object, scale, &version, &replicas(write))
        .map_err(|error| Status::failure(500, "", error.to_string()))?;
    managers::set(object, entries);
    Ok(())
}

/// Takes back new times of entries where nothing else is different: that is no change.
pub fn keep_times(new: &mut Tree, old: &Tree) {
    if !managers::differ_in_times_only(old, new) {
        return;
    }
    let entries = managers::take(new);
    managers::set(new, old.get("metadata").and_then(|metadata| metadata.get("managedFields")).cloned());
    if new != old {
        managers::set(new, entries);
    }
}

/// Entries before admission, and what they are to be again where a plugin made them unreadable.
pub struct Before(Option<Tree>);

impl Before {
    pub fn of(object: &Tree) -> Before {
        Before(object.get("metadata").and_then(|metadata| metadata.get("managedFields")).cloned())
    }

    /// Puts them back where they were made unreadable. Answers the warning about it.
    pub fn check(self, object: &mut Tree) -> Option<String> {
        let now = object.get("metadata").and_then(|metadata| metadata.get("managedFields"));
        if now == self.0.as_ref() {
            return None;
        }
        let error = managers::Managers::sent(object, &managers::Managers::default()).err()?;
        managers::set(object, self.0);
        Some(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {error}"
        ))
    }
}
