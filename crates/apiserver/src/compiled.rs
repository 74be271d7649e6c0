//! What the objects of a kind are made into for admission: webhooks, policies. Made anew where these have changed.

use std::collections::HashMap;
use std::sync::Arc;

use api::Tree;
use parking_lot::Mutex;
use registry::Kind;

use daemon::aside;
use watchcache::resources::Resources;

pub struct Compiled<T> {
    kind: &'static Arc<Kind>,
    /// What one object is made into.
    make: fn(&Tree) -> Vec<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The revision of the last change that is in here.
    revision: i64,
    /// By object, with the version of it.
    known: HashMap<Arc<str>, (i64, Vec<Arc<T>>)>,
    all: Option<Arc<[Arc<T>]>>,
}

impl<T> Compiled<T> {
    pub fn new(kind: &'static Arc<Kind>, make: fn(&Tree) -> Vec<T>) -> Compiled<T> {
        let state = State { revision: 0, known: HashMap::new(), all: None };
        Compiled { kind, make, state: Mutex::new(state) }
    }

    /// As of now, in the order of the objects' names. `None` where one cannot be read and none were known before.
    pub fn current(&self, resources: &Resources) -> Option<Arc<[Arc<T>]>> {
        let changed = resources.changed(self.kind);
        let mut state = self.state.lock();
        if state.all.is_some() && state.revision == changed {
            return state.all.clone();
        }
        aside::aside(true, || self.renew(&mut state, resources, changed));
        state.all.clone()
    }

    fn renew(&self, state: &mut State<T>, resources: &Resources, changed: i64) {
        let objects = match resources.read_all(self.kind, None) {
            Ok(objects) => objects,
            Err(error) => {
                let kind = &*self.kind.plural;
                tracing::error!(error = %error.message, kind, "Admission goes by what was known last");
                return;
            }
        };
        let mut former = std::mem::take(&mut state.known);
        let mut all = Vec::new();
        for (entry, object) in objects {
            let (version, made) = match former.remove(&entry.key) {
                Some(known) if known.0 == entry.resource_version => known,
                _ => {
                    let made = (self.make)(&object).into_iter().map(Arc::new).collect();
                    (entry.resource_version, made)
                }
            };
            all.extend(made.iter().cloned());
            state.known.insert(Arc::clone(&entry.key), (version, made));
        }
        state.revision = changed;
        state.all = Some(all.into());
    }
}
