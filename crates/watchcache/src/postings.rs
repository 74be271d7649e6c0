//! Which objects carry a label, and which have a field's value: so that a list of a node's pods, or of what a selector names, costs what
//! it finds rather than what there is.

use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use rustc_hash::FxHasher;

use crate::entry::Entry;

/// Fields with about as many values as there are objects of another kind: the index is worth its memory for these.
pub const INDEXED: &[&str] = &["spec.nodeName", "involvedObject.uid", "involvedObject.name"];

/// The hash of something an object can be looked up by. Two things may share one, so what is found must still be matched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Term(u64);

impl Term {
    pub fn label(key: &str, value: &str) -> Term {
        Term::of((0usize, key, value))
    }

    /// `index` is the field's among those of its kind.
    pub fn field(index: usize, value: &str) -> Term {
        Term::of((index + 1, value))
    }

    fn of(what: impl Hash) -> Term {
        let mut hasher = FxHasher::default();
        what.hash(&mut hasher);
        Term(hasher.finish())
    }
}

/// Objects by term, and below a term by key.
#[derive(Clone, Default)]
pub struct Postings(OrdMap<(Term, Arc<str>), Arc<Entry>>);

impl Postings {
    pub fn of<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Postings {
        let mut postings = Postings::default();
        for entry in entries {
            postings.insert(entry);
        }
        postings
    }

    /// Takes over one object's change. Either is `None` where the object was not there before, or is not any more.
    pub fn replace(&mut self, previous: Option<&Entry>, now: Option<&Arc<Entry>>) {
        if let Some(previous) = previous {
            for term in
                terms(previous).filter(|old| now.is_none_or(|now| terms(now).all(|term| term != *old)))
            {
                self.0.remove(&(term, Arc::clone(&previous.key)));
            }
        }
        if let Some(now) = now {
            self.insert(now);
        }
    }

    fn insert(&mut self, entry: &Arc<Entry>) {
        for term in terms(entry) {
            self.0.insert((term, Arc::clone(&entry.key)), Arc::clone(entry));
        }
    }

    /// Entries that were posted under the term, in order of keys, from the key `start` on.
    pub fn find(&self, term: Term, start: Arc<str>) -> impl Iterator<Item = (&Arc<str>, &Arc<Entry>)> {
        self.0
            .range((Bound::Included((term, start)), Bound::Unbounded))
            .take_while(move |((posted, _), _)| *posted == term)
            .map(|((_, key), entry)| (key, entry))
    }
}

fn terms(entry: &Entry) -> impl Iterator<Item = Term> {
    let labels = entry.labels().map(|(key, value)| Term::label(key, value));
    let fields = entry.kind.indexed.iter().map(|index| (*index, entry.field(*index)));
    labels
        .chain(fields.filter(|(_, value)| !value.is_empty()).map(|(index, value)| Term::field(index, value)))
}
