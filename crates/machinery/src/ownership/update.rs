//! Who owns what after a write that is no apply: the writer gets the fields that it changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use api::Tree;
use api::tree::CompactString;

use super::Set;
use super::compare::{Changes, compare};
use super::conflict::Conflicts;
use super::managers::{self, Entry, Fields, Manager, Managers, Operation};
use super::reset::Reset;
use super::stale;
use super::text::Malformed;
use super::types::{NoPath, Type};

/// Entries of updates that an object keeps; the oldest of more are merged.
const MAX_UPDATERS: usize = 10;
const OLDEST: &str = "ancient-changes";

/// Fields of metadata that nobody owns: the server sets them, or they say which object it is.
static UNOWNED: LazyLock<Set> = LazyLock::new(|| {
    let of_metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut paths: Vec<Vec<&str>> = vec![vec!["apiVersion"], vec!["kind"], vec!["metadata"]];
    paths.extend(of_metadata.iter().map(|field| vec!["metadata", field]));
    Set::of_fields(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
});

/// Fields that can be owned.
pub(super) fn ownable(set: &Set) -> Set {
    set.difference(&UNOWNED)
}

/// The versions in which an object can be shown. Managers own fields of the version in which they wrote.
pub trait Versions {
    /// The type of the objects of a version; `None` where it is not served.
    fn ty(&self, version: &str) -> Option<Type<'_>>;
    /// An object at another version.
    fn convert(&self, object: &Tree, from: &str, to: &str) -> Result<Tree, String>;
    /// Announces that these objects are about to be converted to these versions: who has to ask for that can do so at once.
    fn prepare(&self, _objects: [&Tree; 2], _from: &str, _to: &[&str]) -> Result<(), String> {
        Ok(())
    }
    /// What the strategy of the write resets.
    fn reset(&self, version: &str) -> &Reset;
}

/// A write: who, in which version, through which subresource, when.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    pub versions: &'a dyn Versions,
    /// Of the request, and of the objects that are given.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub manager: &'a str,
    /// RFC 3339 in seconds, UTC.
    pub now: &'a str,
}

/// Why it cannot be said who owns what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no corresponding type for {0}")]
    NoType(String),
    #[error(transparent)]
    Path(#[from] NoPath),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("failed to convert: {0}")]
    Conversion(String),
}

impl<'a> Write<'a> {
    pub(super) fn by(&self, operation: Operation, name: &str) -> Manager {
        Manager {
            name: if name.is_empty() { "unknown" } else { name }.into(),
            operation,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
        }
    }

    pub(super) fn ty(&self) -> Result<Type<'a>, Error> {
        self.versions.ty(self.api_version).ok_or_else(|| Error::NoType(self.api_version.to_owned()))
    }

    pub(super) fn now(&self) -> Option<CompactString> {
        Some(self.now.into())
    }
}

/// Sets the entries of an object that is about to be written in place of a live one. On an error they stay the live
/// object's.
pub fn update(live: &Tree, new: &mut Tree, write: &Write<'_>) -> Result<(), Error> {
    let stored = Managers::stored(live).unwrap_or_default();
    let managers = match () {
        // A subresource cannot be used to set the entries by hand.
        () if !write.subresource.is_empty() => stored,
        () if managers::asks_to_reset(new) => Managers::default(),
        () => match Managers::sent(new, &stored) {
            Ok(sent) if !sent.is_empty() => sent,
            _ => stored,
        },
    };
    managers::take(new);
    let uid = live.get("metadata").and_then(|metadata| metadata.get("uid"));
    let exists = uid.and_then(Tree::as_str).is_some_and(|uid| !uid.is_empty());
    if managers.is_empty() && exists {
        return Ok(());
    }
    let result = record(live, new, managers, write.manager, write);
    let (entries, result) = match result {
        Ok(managers) => (managers.into_tree(), Ok(())),
        Err(error) => {
            (live.get("metadata").and_then(|metadata| metadata.get("managedFields")).cloned(), Err(error))
        }
    };
    managers::set(new, entries);
    result
}

/// The managers after an update by one of them.
pub(super) fn record(
    live: &Tree,
    new: &Tree,
    mut managers: Managers,
    name: &str,
    write: &Write<'_>,
) -> Result<Managers, Error> {
    refresh(&mut managers, write.versions)?;
    let own = write.by(Operation::Update, name);
    let changed = match settle(live, new, &mut managers, &own, true, write)? {
        Ok(changed) => changed,
        Err(_) => unreachable!("an update is never refused"),
    };
    if !changed.is_empty() {
        let fields = match managers.remove(&own) {
            None => Fields::Set(changed),
            Some(previous) if previous.fields.within(&changed)? == changed => previous.fields,
            Some(previous) => Fields::Set(previous.fields.set()?.union(&changed)),
        };
        managers.put(Entry { manager: own, time: write.now(), fields });
    }
    cap(&mut managers)?;
    Ok(managers)
}

/// Drops entries of versions that are not served, and brings those of another schema up to date.
pub(super) fn refresh(managers: &mut Managers, versions: &dyn Versions) -> Result<(), Malformed> {
    let mut result = Ok(());
    managers.0.retain_mut(|entry| {
        let Some(ty) = versions.ty(&entry.manager.api_version) else { return false };
        match &mut entry.fields {
            Fields::Set(set) => drop(stale::refresh(set, ty)),
            Fields::Text(text) => match stale::is_stale(text, ty) {
                Ok(false) => {}
                Ok(true) => match Set::parse(text) {
                    Ok(mut set) => {
                        stale::refresh(&mut set, ty);
                        entry.fields = Fields::Set(set);
                    }
                    Err(malformed) => result = Err(malformed),
                },
                Err(malformed) => result = Err(malformed),
            },
        }
        true
    });
    result
}

/// Changes at one version.
struct Compared {
    version: CompactString,
    changes: Changes,
    /// Fields with a new value.
    changed: Set,
}

impl Compared {
    fn of(old: &Tree, new: &Tree, version: &str, versions: &dyn Versions) -> Result<Compared, Error> {
        let ty = versions.ty(version).ok_or_else(|| Error::NoType(version.to_owned()))?;
        let changes = compare(old, new, ty)?;
        let reset = versions.reset(version);
        let filter = |set: Set| reset.filter(if set.is_empty() { set } else { ownable(&set) });
        let changes = Changes {
            removed: filter(changes.removed),
            modified: filter(changes.modified),
            added: filter(changes.added),
        };
        Ok(Compared { version: version.into(), changed: changes.set(), changes })
    }
}

/// Takes the fields that a write changes from those who own them, and from everyone those that it removes. Answers
/// the changed fields, or the conflicts with others where the write does not force them. The fields of `own` stay, but
/// for removed ones of an update.
pub(super) fn settle(
    old: &Tree,
    new: &Tree,
    managers: &mut Managers,
    own: &Manager,
    force: bool,
    write: &Write<'_>,
) -> Result<Result<Set, Conflicts>, Error> {
    let mut compared = vec![Compared::of(old, new, write.api_version, write.versions)?];
    let differ = !compared[0].changes.is_empty() || old != new;
    let is_passed_over = |manager: &Manager| !differ || (manager == own && own.operation == Operation::Apply);
    let compared_with =
        managers.0.iter().map(|entry| &entry.manager).filter(|manager| !is_passed_over(manager));
    let others: BTreeSet<&str> = compared_with.map(|manager| manager.api_version.as_str()).collect();
    let others: Vec<&str> = others.into_iter().filter(|version| *version != write.api_version).collect();
    if !others.is_empty() {
        write.versions.prepare([old, new], write.api_version, &others).map_err(Error::Conversion)?;
    }
    let mut taken = Vec::with_capacity(managers.0.len());
    for entry in &managers.0 {
        let is_own = entry.manager == *own;
        if is_passed_over(&entry.manager) {
            taken.push((Set::default(), Set::default()));
            continue;
        }
        let version = &entry.manager.api_version;
        let place = match compared.iter().position(|known| known.version == *version) {
            Some(place) => place,
            None => {
                let at = |object| {
                    write.versions.convert(object, write.api_version, version).map_err(Error::Conversion)
                };
                compared.push(Compared::of(&at(old)?, &at(new)?, version, write.versions)?);
                compared.len() - 1
            }
        };
        let Compared { changes, changed, .. } = &compared[place];
        let within = |set: &Set| match set.nodes.is_empty() {
            true => Ok(Set::default()),
            false => entry.fields.within(set),
        };
        let conflicting = if is_own { Set::default() } else { within(changed)? };
        taken.push((conflicting, within(&changes.removed)?));
    }
    if !force && taken.iter().any(|(conflicting, _)| !conflicting.is_empty()) {
        let owned = managers.0.iter().zip(taken).filter(|(_, (conflicting, _))| !conflicting.is_empty());
        let owned = owned.map(|(entry, (conflicting, _))| (entry.manager.clone(), conflicting));
        return Ok(Err(Conflicts::of(owned.collect())));
    }
    for (entry, (conflicting, removed)) in managers.0.iter_mut().zip(&taken) {
        if !conflicting.is_empty() || !removed.is_empty() {
            let left = entry.fields.set()?.difference(conflicting).difference(removed);
            entry.fields = Fields::Set(left);
        }
    }
    managers.0.retain(|entry| match &entry.fields {
        Fields::Text(text) => text != "{}",
        Fields::Set(set) => !set.is_empty(),
    });
    Ok(Ok(compared.swap_remove(0).changed))
}

/// The entry of a version that takes in those of its oldest updaters.
struct Oldest {
    place: usize,
    /// What it takes in, and the time of the last of that.
    sets: Vec<Set>,
    time: Option<CompactString>,
}

/// Merges the oldest updaters of each version until there are few enough.
fn cap(managers: &mut Managers) -> Result<(), Malformed> {
    let updaters = managers.0.iter().enumerate();
    let updaters = updaters.filter(|(_, entry)| entry.manager.operation == Operation::Update);
    let mut updaters: Vec<usize> = updaters.map(|(place, _)| place).collect();
    let mut length = updaters.len();
    if length <= MAX_UPDATERS {
        return Ok(());
    }
    updaters.sort_by_cached_key(|place| {
        let entry = &managers.0[*place];
        (entry.time.clone(), entry.manager.identifier())
    });
    let oldest_of = |api_version: &CompactString| Manager {
        name: OLDEST.into(),
        operation: Operation::Update,
        api_version: api_version.clone(),
        subresource: "".into(),
    };
    let before: HashMap<Manager, usize> =
        updaters.iter().map(|place| (managers.0[*place].manager.clone(), *place)).collect();
    let mut entries: Vec<Option<Entry>> = std::mem::take(&mut managers.0).into_iter().map(Some).collect();
    let mut versions: HashMap<CompactString, Oldest> = HashMap::new();
    for place in updaters {
        if length <= MAX_UPDATERS {
            break;
        }
        let Some(entry) = entries[place].take() else { continue };
        let version = &entry.manager.api_version;
        let Some(oldest) = versions.get_mut(version) else {
            // The first of a version stays, and takes in the others where none does so from before.
            let taker = before.get(&oldest_of(version)).copied().unwrap_or(place);
            versions.insert(version.clone(), Oldest { place: taker, sets: Vec::new(), time: None });
            entries[place] = Some(entry);
            continue;
        };
        length -= 1;
        oldest.time = entry.time.clone();
        match place == oldest.place {
            true => entries[place] = Some(entry),
            false => oldest.sets.push(entry.fields.set()?.into_owned()),
        }
    }
    for (version, Oldest { place, mut sets, time }) in versions {
        let Some(entry) = entries[place].as_mut().filter(|_| !sets.is_empty()) else { continue };
        // Of one element that was written in two ways, the newest counts.
        sets.reverse();
        sets.push(entry.fields.set()?.into_owned());
        *entry = Entry { manager: oldest_of(&version), time, fields: Fields::Set(Set::union_of(sets)) };
    }
    managers.0 = entries.into_iter().flatten().collect();
    Ok(())
}
