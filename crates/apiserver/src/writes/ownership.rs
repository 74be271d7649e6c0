//! Who owns the fields of an object that is written: entries of `managedFields` for updates, and objects that are applied.

use std::collections::{BTreeMap, HashMap};
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

use super::conversions::Conversions;
use super::{Write, metadata};

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
    conversions: &'a Conversions,
}

impl<'a> Served<'a> {
    fn of(write: &Write<'a>, conversions: &'a Conversions) -> Served<'a> {
        let Write { request, resource, subresource, .. } = *write;
        // entries of the same object in another group are let go
        let kinds = request.catalog.versions(resource).filter(|other| other.group == resource.group);
        let kinds = kinds.map(|kind| (kind.api_version(), kind));
        Served { subresource, kinds: kinds.collect(), conversions }
    }

    fn kind(&self, version: &str) -> Result<&'a Arc<Kind>, String> {
        self.kinds.get(version).copied().ok_or_else(|| format!("{version} is not served"))
    }
}

impl Versions for Served<'_> {
    fn ty(&self, version: &str) -> Option<Type<'_>> {
        self.kinds.get(version).map(|kind| Type::of_message(kind.message()))
    }

    fn convert(&self, object: &Tree, from: &str, to: &str) -> Result<Tree, String> {
        let (from, to) = (self.kind(from)?, self.kind(to)?);
        match from.conversion {
            Conversion::Other(_) => self.conversions.get(object, from, to),
            _ => from.convert_at_once(to, object.clone()).map_err(|status| status.message),
        }
    }

    fn prepare(&self, objects: [&Tree; 2], from: &str, to: &[&str]) -> Result<(), String> {
        let from = self.kind(from)?;
        let Conversion::Other(_) = from.conversion else { return Ok(()) };
        let to: Vec<&Arc<Kind>> = to.iter().map(|version| self.kind(version)).collect::<Result<_, _>>()?;
        self.conversions.prepare(objects, from, &to)
    }

    fn reset(&self, version: &str) -> &Reset {
        self.kinds.get(version).map_or(&Reset::Nothing, |kind| kind.reset(self.subresource))
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

fn record(
    write: &Write<'_>,
    versions: &dyn Versions,
    api_version: &str,
    live: &Tree,
    new: &mut Tree,
) -> Result<(), update::Error> {
    let manager = write.request.manager(write.options);
    let write = update::Write {
        versions,
        api_version,
        subresource: write.subresource,
        manager: &manager,
        now: &metadata::now(),
    };
    update::update(live, new, &write)
}

fn log_failure(result: Result<(), update::Error>, api_version: &str) {
    if let Err(error) = result {
        tracing::error!(%error, kind = api_version, "Failed to update managedFields, they stay as they were");
    }
}

/// Records who owns what after an update, or after a create where there is no live object. Both are at the request's
/// version, with defaults.
pub async fn record_update(write: &Write<'_>, live: Option<&Tree>, new: &mut Tree) {
    if write.owners == Owners::Given {
        return;
    }
    let live = live.unwrap_or_else(|| write.resource.empty());
    let version = write.resource.api_version();
    if let Some(mut completed) = write.resource.profile.owned.and_then(|owned| owned(new)) {
        record_at(write, &version, live, &mut completed).await;
        managers::set(new, managers::take(&mut completed));
    } else {
        record_at(write, &version, live, new).await;
    }
}

async fn record_at(write: &Write<'_>, version: &str, live: &Tree, new: &mut Tree) {
    let conversions = Conversions::default();
    // an attempt takes the entries that were sent
    let sent = matches!(write.resource.conversion, Conversion::Other(_)).then(|| Before::of(new));
    let attempt = || {
        if let Some(Before(sent)) = &sent {
            managers::set(new, sent.clone());
        }
        record(write, &Served::of(write, &conversions), version, live, new)
    };
    log_failure(conversions.complete(attempt).await, version);
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
    log_failure(record(write, &lone, lone.api_version, live, new), lone.api_version);
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
pub fn apply_to(
    write: &Write<'_>,
    live: Option<&Tree>,
    config: &Tree,
    conversions: &Conversions,
) -> Result<Tree, Status> {
    let kind = write.resource;
    let versions = Served::of(write, conversions);
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
