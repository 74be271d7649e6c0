//! What is served: kinds by their names, and what discovery and OpenAPI say of them. A catalog never changes: another one takes
//! its place, and who has the former goes on with it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use admission::{Chain, Plan};
use api::discovery;
use api::model::Text;
use registry::Kind;

use crate::aggregator::Delegated;
use crate::discovery::Documents;
use crate::served::Served;

/// The kinds that requests find.
#[derive(Default)]
pub struct Catalog {
    /// In discovery's order.
    groups: Vec<Group>,
    /// By plural; few share one.
    by_plural: HashMap<String, Vec<Found>>,
    pub documents: Documents,
    /// What other servers answer.
    pub delegated: Arc<Delegated>,
}

/// A kind that is served, and what admission has to do with it.
struct Found {
    kind: Arc<Kind>,
    plan: OnceLock<Arc<Plan>>,
}

struct Group {
    name: Text,
    /// The preferred one first.
    versions: Vec<Version>,
}

struct Version {
    name: Text,
    kinds: Vec<Arc<Kind>>,
}

impl Catalog {
    /// The built-in kinds that are served.
    pub fn built_in(served: &Served) -> Catalog {
        registry::kind::all().iter().filter(|kind| served.includes(kind)).cloned().collect()
    }

    fn add(&mut self, kind: Arc<Kind>) {
        let group = match self.groups.iter().position(|group| group.name == kind.group) {
            Some(place) => &mut self.groups[place],
            None => {
                self.groups.push(Group { name: kind.group.clone(), versions: Vec::new() });
                self.groups.last_mut().expect("it was just put there")
            }
        };
        let version = match group.versions.iter().position(|version| version.name == kind.version) {
            Some(place) => &mut group.versions[place],
            None => {
                group.versions.push(Version { name: kind.version.clone(), kinds: Vec::new() });
                group.versions.last_mut().expect("it was just put there")
            }
        };
        version.kinds.push(Arc::clone(&kind));
        self.by_plural
            .entry(kind.plural.to_string())
            .or_default()
            .push(Found { kind, plan: OnceLock::new() });
    }

    /// All kinds, in discovery's order.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| &version.kinds)
    }

    /// The kind of this name.
    pub fn kind(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.find(group, version, plural).map(|found| &found.kind)
    }

    fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Found> {
        let same = |found: &&Found| found.kind.group == group && found.kind.version == version;
        self.by_plural.get(plural)?.iter().find(same)
    }

    /// The kind whose objects are called so.
    pub fn named(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let group = self.groups.iter().find(|own| own.name == group)?;
        let version = group.versions.iter().find(|own| own.name == version)?;
        version.kinds.iter().find(|own| own.kind == kind)
    }

    /// The other versions of a resource, in whatever group: those that are stored as the same.
    pub fn other_versions(&self, kind: &Kind) -> Vec<Arc<Kind>> {
        let alike = self.by_plural.get(&*kind.plural).into_iter().flatten().map(|found| &found.kind);
        let same =
            |other: &&Arc<Kind>| other.storage_prefix == kind.storage_prefix && !other.is_same_version(kind);
        alike.filter(same).cloned().collect()
    }

    /// Which plugins have to do with what is done to a kind: found out when it is first asked for.
    pub fn plan(&self, chain: &Chain, kind: &Kind) -> Arc<Plan> {
        let make = || Arc::new(chain.plan(kind));
        match self.find(&kind.group, &kind.version, &kind.plural) {
            Some(found) => Arc::clone(found.plan.get_or_init(make)),
            // the server's own business, which is not served
            None => make(),
        }
    }

    /// The versions of a kind, in whatever groups its objects are served.
    pub fn versions<'c>(&'c self, kind: &'c Kind) -> impl Iterator<Item = &'c Arc<Kind>> {
        let named = self.by_plural.get(&*kind.plural).into_iter().flatten();
        let kinds = named.map(|found| &found.kind);
        kinds.filter(|other| other.storage_prefix == kind.storage_prefix && other.kind == kind.kind)
    }

    /// Whether the group is served and none of definitions alone: these answer by page what they do not have.
    pub fn has_built_in(&self, group: &str) -> bool {
        self.kinds().any(|kind| kind.group == group && kind.custom().is_none())
    }

    /// Whether a definition may have the kind served: everything below the path of a group that is built in is answered by that alone.
    fn has_place(&self, kind: &Kind) -> bool {
        kind.custom().is_none() || !(self.has_built_in(&kind.group) || kind.has_built_in_storage())
    }

    /// A catalog with these kinds, of which those that are enabled are served, in place of all that are stored where they are. Those
    /// that definitions make come last: groups and plurals by their names, versions by how stable they are. None of these takes the place
    /// of a built-in one.
    pub fn with(&self, kinds: &[Arc<Kind>]) -> Catalog {
        let kinds: Vec<&Arc<Kind>> = kinds.iter().filter(|kind| self.has_place(kind)).collect();
        let mut new: HashMap<_, _> = kinds.iter().map(|kind| (name(kind), *kind)).collect();
        let replaced: HashSet<&str> = kinds.iter().map(|kind| &*kind.storage_prefix).collect();
        let mut all: Vec<&Arc<Kind>> = self
            .kinds()
            .filter_map(|kind| match new.remove(&name(kind)) {
                Some(new) => Some(new),
                None => (!replaced.contains(&*kind.storage_prefix)).then_some(kind),
            })
            .collect();
        all.extend(kinds.into_iter().filter(|kind| new.contains_key(&name(kind))));
        all.retain(|kind| kind.enabled);
        all.sort_by(|one, other| match (one.custom(), other.custom()) {
            (Some(_), Some(_)) => {
                let versions = || machinery::versions::compare(&other.version, &one.version);
                one.group.cmp(&other.group).then_with(versions).then_with(|| one.plural.cmp(&other.plural))
            }
            (one, other) => one.is_some().cmp(&other.is_some()),
        });
        self.of(all.into_iter().cloned())
    }

    /// Other kinds beside what is delegated.
    fn of(&self, kinds: impl Iterator<Item = Arc<Kind>>) -> Catalog {
        Catalog { delegated: Arc::clone(&self.delegated), ..kinds.collect() }
    }

    /// The same kinds beside what is delegated now.
    pub fn delegating(&self, delegated: Arc<Delegated>) -> Catalog {
        let same = delegated.has_swaggers_of(&self.delegated);
        let documents = self.documents.of_same_kinds(same);
        Catalog { documents, delegated, ..self.kinds().cloned().collect() }
    }

    /// Without those that match.
    pub fn without(&self, matches: impl Fn(&Kind) -> bool) -> Catalog {
        self.of(self.kinds().filter(|kind| !matches(kind)).cloned())
    }

    /// As discovery's documents are made from it.
    pub fn groups(&self) -> Vec<discovery::Group<'_>> {
        fn version(version: &Version) -> discovery::Version<'_> {
            let resources = version.kinds.iter().map(|kind| &***kind).collect();
            discovery::Version { version: &version.name, resources }
        }
        fn group(group: &Group) -> discovery::Group<'_> {
            discovery::Group { name: &group.name, versions: group.versions.iter().map(version).collect() }
        }
        self.groups.iter().map(group).collect()
    }
}

fn name(kind: &Kind) -> (&str, &str, &str) {
    (&kind.group, &kind.version, &kind.plural)
}

impl FromIterator<Arc<Kind>> for Catalog {
    fn from_iter<I: IntoIterator<Item = Arc<Kind>>>(kinds: I) -> Catalog {
        let mut catalog = Catalog::default();
        kinds.into_iter().for_each(|kind| catalog.add(kind));
        catalog
    }
}
