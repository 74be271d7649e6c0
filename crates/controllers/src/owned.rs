//! Who belongs to whom: objects by their managing owner, and those that nobody owns by their labels.
//!
//! Each change of an object is routed once, by the kind and uid of its owner. What has none goes to those whose
//! selectors match, who are found by one of the pairs that they ask for.

use std::sync::Arc;

use client::{Event, Index, Informer, Key, Text, View};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use crate::views::{CompiledSelector, Labels, Meta, Object};

/// Namespace, key and value of a label; key and value are empty for all of the namespace.
pub type Pair = (Text, Text, Text);

/// A view of objects that select others by labels.
pub trait Selects: Object {
    fn selector(&self) -> &CompiledSelector;
}

/// The pairs of an object's labels.
pub fn pairs(meta: &Meta) -> impl Iterator<Item = Pair> {
    meta.labels.texts().map(|(key, value)| (meta.namespace.clone(), key.clone(), value.clone()))
}

fn whole(namespace: &Text) -> Pair {
    (namespace.clone(), Text::default(), Text::default())
}

/// Where a selector is found, and those it may match: the namespace and one pair that it asks for.
fn place(namespace: &Text, selector: &CompiledSelector) -> Pair {
    match selector.pair() {
        Some((key, value)) => (namespace.clone(), key.into(), value.into()),
        None => whole(namespace),
    }
}

/// A cache of objects that belong to others. Clones share it.
pub struct Owned<V> {
    pub cache: Informer<V>,
    by_owner: Index<V, Text>,
    orphans: Index<V, Pair>,
    routes: Arc<RwLock<Routes<V>>>,
}

impl<V> Clone for Owned<V> {
    fn clone(&self) -> Self {
        Owned {
            cache: self.cache.clone(),
            by_owner: self.by_owner.clone(),
            orphans: self.orphans.clone(),
            routes: self.routes.clone(),
        }
    }
}

/// By the kind of the owners.
type Routes<V> = FxHashMap<&'static str, Vec<Route<V>>>;

type IsCurrent = Box<dyn Fn(&Key, &str) -> bool + Send + Sync>;
type Matching = Box<dyn Fn(&Meta, &mut dyn FnMut(Key)) + Send + Sync>;
type Bring<V> = Box<dyn Fn(Key, &Event<V>) + Send + Sync>;

/// Where changes of objects go that belong to owners of a kind.
pub(crate) struct Route<V> {
    kind: &'static str,
    api_version: &'static str,
    is_current: IsCurrent,
    matching: Matching,
    bring: Bring<V>,
}

impl<V> Route<V> {
    pub fn new<O: View + Selects>(
        adopters: Adopters<O>,
        bring: impl Fn(Key, &Event<V>) + Send + Sync + 'static,
    ) -> Route<V> {
        let owners = adopters.cache().clone();
        Route {
            kind: O::KIND,
            api_version: O::API_VERSION,
            is_current: Box::new(move |key, uid| owners.holds(key, uid)),
            matching: Box::new(move |meta, bring| {
                adopters.matching(meta).iter().for_each(|owner| bring(owner.meta().cache_key()));
            }),
            bring: Box::new(bring),
        }
    }

    /// The owner's key, where it is one of this route's and still there.
    fn owner(&self, meta: &Meta) -> Option<Key> {
        let owner = meta.controller()?;
        let group =
            |version: &str| version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
        if owner.kind != self.kind
            || (owner.api_version != self.api_version && group(&owner.api_version) != group(self.api_version))
        {
            return None;
        }
        let key = Key { namespace: meta.namespace.clone().into(), name: owner.name.clone().into() };
        (self.is_current)(&key, &owner.uid).then_some(key)
    }
}

impl<V: View + Object> Owned<V> {
    pub(crate) fn new(cache: Informer<V>) -> Owned<V> {
        let routes: Arc<RwLock<Routes<V>>> = Arc::default();
        let own = routes.clone();
        cache.on_event(move |event| route(&own.read(), event));
        Owned {
            by_owner: cache.index(|object| object.meta().controller().map(|owner| owner.uid.clone())),
            orphans: cache.index(|object| {
                let meta = object.meta();
                let orphan = meta.controller().is_none();
                let all = orphan.then(|| whole(&meta.namespace));
                all.into_iter().chain(orphan.then(|| pairs(meta)).into_iter().flatten()).collect::<Vec<_>>()
            }),
            cache,
            routes,
        }
    }

    pub(crate) fn route(&self, route: Route<V>) {
        self.routes.write().entry(route.kind).or_default().push(route);
    }

    /// The objects of the owner with this uid.
    pub fn of(&self, uid: &str) -> Vec<Arc<V>> {
        self.by_owner.get(uid)
    }

    pub fn count_of(&self, uid: &str) -> usize {
        self.by_owner.count(uid)
    }

    pub fn any_of(&self, uid: &str, is: impl Fn(&V) -> bool) -> bool {
        self.by_owner.any(uid, is)
    }

    /// The objects of a namespace that match and that nobody owns.
    pub fn orphans(&self, namespace: &Text, selector: &CompiledSelector) -> Vec<Arc<V>> {
        let mut found = self.orphans.get(&place(namespace, selector));
        found.retain(|object| selector.matches(&object.meta().labels));
        found
    }
}

fn route<V: Object>(routes: &Routes<V>, event: &Event<V>) {
    let to_owner = |meta: &Meta| {
        let Some(owner) = meta.controller() else { return };
        for route in routes.get(&*owner.kind).into_iter().flatten() {
            if let Some(key) = route.owner(meta) {
                (route.bring)(key, event);
            }
        }
    };
    let to_adopters = |meta: &Meta| {
        for route in routes.values().flatten() {
            (route.matching)(meta, &mut |key| (route.bring)(key, event));
        }
    };
    let new = event.object().meta();
    match event {
        Event::Added(_) if new.controller().is_none() => to_adopters(new),
        Event::Added(_) | Event::Deleted(_) => to_owner(new),
        Event::Modified { old, .. } => {
            let old = old.meta();
            let taken = old.controller() != new.controller();
            if taken {
                to_owner(old);
            }
            if new.controller().is_some() {
                to_owner(new);
            } else if taken || old.labels != new.labels {
                to_adopters(new);
            }
        }
    }
}

/// A cache of objects that select others, by one of the pairs that each asks for. Clones share it.
pub struct Adopters<O> {
    cache: Informer<O>,
    by_pair: Index<O, Pair>,
}

impl<O> Clone for Adopters<O> {
    fn clone(&self) -> Self {
        Adopters { cache: self.cache.clone(), by_pair: self.by_pair.clone() }
    }
}

impl<O: View + Selects> Adopters<O> {
    pub(crate) fn new(cache: Informer<O>) -> Adopters<O> {
        let by_pair = cache.index(|owner| [place(&owner.meta().namespace, owner.selector())]);
        Adopters { cache, by_pair }
    }

    pub fn cache(&self) -> &Informer<O> {
        &self.cache
    }

    /// Those whose selectors match an object.
    pub fn matching(&self, meta: &Meta) -> Vec<Arc<O>> {
        self.of_labels(&meta.namespace, &meta.labels)
    }

    pub fn of_labels(&self, namespace: &Text, labels: &Labels) -> Vec<Arc<O>> {
        if labels.is_empty() {
            return Vec::new();
        }
        let pair = |(key, value): (&Text, &Text)| (namespace.clone(), key.clone(), value.clone());
        let places = labels.texts().map(pair).chain([whole(namespace)]);
        let mut found: Vec<_> = places.flat_map(|place| self.by_pair.get(&place)).collect();
        found.retain(|owner| owner.selector().matches(labels));
        found
    }
}
