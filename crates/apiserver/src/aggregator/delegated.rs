//! What is answered by other servers, and in which order everything is shown: a value that changes only as a whole, beside the kinds of
//! the catalog.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::request_info::decode;
use api::Tree;
use api::discovery::{Group, Version};

use super::api_service::{ApiService, Backend};
use super::connections::Connections;
use super::priorities::{OWN_GROUP, Priorities, standard};
use crate::turn::Turns;

/// A server that answers for a group and version.
pub struct Target {
    pub service: ApiService,
    pub backend: Backend,
    pub connections: Connections,
    /// Its own, so that a slow server keeps nobody but its own clients waiting.
    pub turns: Arc<Turns>,
    available: AtomicBool,
}

impl Target {
    pub fn new(service: ApiService, backend: Backend, connections: Connections, turns: Arc<Turns>) -> Target {
        let available = AtomicBool::new(service.available);
        Target { service, backend, connections, turns, available }
    }

    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Relaxed);
    }
}

/// Everything that APIServices say beyond what this server serves anyway.
#[derive(Clone, Default)]
pub struct Delegated {
    /// Those that are answered elsewhere, or shown at another place than usual.
    pub services: Vec<ApiService>,
    /// By group and version.
    pub targets: HashMap<String, HashMap<String, Arc<Target>>>,
    /// What aggregated discovery says of a version, by group and version.
    pub discovery: HashMap<(String, String), Arc<Tree>>,
    /// OpenAPI v2 documents, the more important ones first.
    pub swaggers: Vec<Arc<Tree>>,
    /// OpenAPI v3 documents of others by their paths, with their entries in the index.
    pub documents: HashMap<String, (Arc<Target>, Tree)>,
}

impl Delegated {
    /// Who answers for a path, where that is another server. It is read as authorization reads it.
    pub fn target(&self, path: &str) -> Option<&Arc<Target>> {
        if self.targets.is_empty() {
            return None;
        }
        let path = decode(path);
        let mut segments = path.strip_prefix('/')?.split('/');
        match segments.next()? {
            "api" => self.targets.get("")?.get("v1"),
            "apis" => self.targets.get(segments.next()?)?.get(segments.next()?),
            _ => None,
        }
    }

    /// Whether clients see the same of both.
    pub fn looks_like(&self, other: &Delegated) -> bool {
        self.services == other.services
            && self.discovery == other.discovery
            && self.has_swaggers_of(other)
            && self.documents.len() == other.documents.len()
            && self.documents.iter().all(|(path, (target, entry))| {
                other.documents.get(path).is_some_and(|own| Arc::ptr_eq(&own.0, target) && own.1 == *entry)
            })
    }

    pub fn has_swaggers_of(&self, other: &Delegated) -> bool {
        let same = |(one, other): (&Arc<Tree>, &Arc<Tree>)| Arc::ptr_eq(one, other);
        self.swaggers.len() == other.swaggers.len() && self.swaggers.iter().zip(&other.swaggers).all(same)
    }

    /// Every group and version, as `/apis` lists them, with the resources of those that are answered here.
    pub fn listed<'a>(&'a self, own: &[Group<'a>]) -> Vec<Group<'a>> {
        let mut all = self.all(own);
        all.sort_by(|one, other| {
            let key = |place: &Place<'_>| Reverse(place.priorities.group);
            key(one).cmp(&key(other)).then_with(|| one.name().cmp(&other.name()))
        });
        grouped(all)
    }

    /// The same in the order of aggregated discovery.
    pub fn discovered<'a>(&'a self, own: &[Group<'a>]) -> Vec<Group<'a>> {
        let all = self.all(own);
        let mut most: HashMap<&str, i64> = HashMap::new();
        for place in &all {
            let most = most.entry(place.group).or_insert(place.priorities.group);
            *most = (*most).max(place.priorities.group);
        }
        // not before a server was asked for what it serves
        let is_known = |place: &Place<'_>| {
            !place.elsewhere
                || self.discovery.contains_key(&(place.group.to_owned(), place.version.version.to_owned()))
        };
        let mut groups = grouped(all.into_iter().filter(is_known).collect());
        groups.sort_by_key(|group| (Reverse(most.get(group.name).copied()), group.name));
        groups
    }

    fn all<'a>(&'a self, own: &[Group<'a>]) -> Vec<Place<'a>> {
        let said = |group: &str, version: &str| {
            self.services.iter().find(|service| service.group == group && service.version == version)
        };
        let versions =
            own.iter().flat_map(|group| group.versions.iter().map(|version| (group.name, version)));
        let own = versions.filter(|(group, version)| {
            said(group, version.version).is_none_or(|service| service.backend.is_none())
        });
        let own = own.map(|(group, version)| {
            let is_custom = version
                .resources
                .first()
                .is_some_and(|row| api::tables::resource(&row.group, &row.version, &row.plural).is_none());
            let usual = standard(group, version.version, is_custom);
            let priorities = said(group, version.version).map_or(usual, |service| service.priorities);
            Place { group, version: version.clone(), priorities, elsewhere: false }
        });
        let others = self.services.iter().filter(|service| service.backend.is_some()).map(|service| Place {
            group: &service.group,
            version: Version { version: &service.version, resources: Vec::new() },
            priorities: service.priorities,
            elsewhere: true,
        });
        own.chain(others).collect()
    }
}

struct Place<'a> {
    group: &'a str,
    version: Version<'a>,
    priorities: Priorities,
    elsewhere: bool,
}

impl Place<'_> {
    /// An APIService's.
    fn name(&self) -> String {
        format!("{}.{}", self.version.version, self.group)
    }
}

/// Groups in the order in which they occur first, versions by their priorities and then by how stable they are.
fn grouped(all: Vec<Place<'_>>) -> Vec<Group<'_>> {
    let mut groups: Vec<(&str, Vec<Place<'_>>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for place in all {
        let at = *places.entry(place.group).or_insert(groups.len());
        match groups.get_mut(at) {
            Some((_, versions)) => versions.push(place),
            None => groups.push((place.group, vec![place])),
        }
    }
    let groups = groups.into_iter().map(|(name, mut places)| {
        places.sort_by(|one, other| {
            let by_priority = other.priorities.version.cmp(&one.priorities.version);
            by_priority.then_with(|| machinery::versions::compare(other.version.version, one.version.version))
        });
        Group { name, versions: places.into_iter().map(|place| place.version).collect() }
    });
    groups.collect()
}

/// Whether an APIService may say who answers: nobody else answers for APIServices.
pub fn may_delegate(service: &ApiService) -> bool {
    service.backend.is_some() && service.group != OWN_GROUP
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(version: &str, group: &str, priorities: (i64, i64), remote: bool) -> ApiService {
        let backend = Backend {
            namespace: "n".to_owned(),
            service: "s".to_owned(),
            port: 443,
            insecure: true,
            authority: Vec::new(),
        };
        ApiService {
            name: format!("{version}.{group}"),
            group: group.to_owned(),
            version: version.to_owned(),
            priorities: Priorities { group: priorities.0, version: priorities.1 },
            backend: remote.then_some(backend),
            available: true,
        }
    }

    fn shown(groups: &[Group<'_>]) -> Vec<String> {
        let versions = |group: &Group<'_>| {
            group.versions.iter().map(|version| version.version).collect::<Vec<_>>().join(",")
        };
        groups.iter().map(|group| format!("{} {}", group.name, versions(group))).collect()
    }

    #[test]
    fn what_is_built_in_is_shown_as_it_always_was() {
        let mut own = api::discovery::built_in();
        own.retain(|group| !group.name.is_empty());
        let delegated = Delegated::default();
        assert_eq!(shown(&delegated.discovered(&own)), shown(&own));
        assert_eq!(shown(&delegated.listed(&own)), shown(&own));
    }

    #[test]
    fn priorities_decide_and_then_names() {
        let own = api::discovery::built_in();
        let own: Vec<Group<'_>> = own.into_iter().filter(|group| group.name == "apps").collect();
        let delegated = Delegated {
            services: vec![
                service("v1", "b.io", (1000, 10), true),
                service("v1alpha1", "a.io", (1000, 20), true),
                service("v2", "a.io", (900, 10), true),
                service("v1", "a.io", (900, 10), true),
                service("v1", "first.io", (19000, 1), true),
                service("v2", "apps", (2000, 15), true),
            ],
            ..Delegated::default()
        };
        assert_eq!(shown(&delegated.discovered(&own)), ["apps v1"]);
        let key = |service: &ApiService| (service.group.clone(), service.version.clone());
        let discovery = delegated.services.iter().map(|service| (key(service), Arc::default())).collect();
        let delegated = Delegated { discovery, ..delegated };
        let listed = ["first.io v1", "apps v2,v1", "b.io v1", "a.io v1alpha1,v2,v1"];
        assert_eq!(shown(&delegated.listed(&own)), listed);
        let discovered = ["first.io v1", "apps v2,v1", "a.io v1alpha1,v2,v1", "b.io v1"];
        assert_eq!(shown(&delegated.discovered(&own)), discovered);
    }

    #[test]
    fn a_version_that_is_answered_elsewhere_has_no_resources_here() {
        let own = api::discovery::built_in();
        let delegated = |service| Delegated { services: vec![service], ..Delegated::default() };
        let resources = |delegated: &Delegated| {
            let groups = delegated.listed(&own);
            groups.into_iter().find(|group| group.name == "apps").unwrap().versions[0].resources.len()
        };
        assert!(resources(&delegated(service("v1", "apps", (9, 9), false))) > 0);
        assert_eq!(resources(&delegated(service("v1", "apps", (9, 9), true))), 0);
    }
}
