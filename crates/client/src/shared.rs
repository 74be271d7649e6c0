//! Parts of objects that come from one template, kept once.

use std::any::{Any, TypeId};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Deserializer};

/// A value of which the process keeps one copy, however many objects have it: the pods of a workload share their
/// containers. Making one costs a look-up under a lock; two are compared by their address.
pub struct Shared<T>(Arc<T>);

/// By type, and by the hash of the value.
type Table = FxHashMap<(TypeId, u64), Vec<Weak<dyn Any + Send + Sync>>>;

#[derive(Default)]
struct Values {
    table: Table,
    /// Size at which entries of values that are no longer in use are removed.
    full: usize,
}

static VALUES: LazyLock<Mutex<Values>> = LazyLock::new(Mutex::default);
const SMALLEST: usize = 1024;

impl<T: Hash + Eq + Send + Sync + 'static> Shared<T> {
    pub fn new(value: T) -> Shared<T> {
        let place = (TypeId::of::<T>(), FxBuildHasher.hash_one(&value));
        let mut values = VALUES.lock();
        let known = values.table.get(&place).into_iter().flatten().find_map(|known| {
            let known = known.upgrade()?.downcast::<T>().ok()?;
            (*known == value).then_some(known)
        });
        if let Some(known) = known {
            return Shared(known);
        }
        if values.table.len() >= values.full {
            values.table.retain(|_, entry| {
                entry.retain(|value| value.strong_count() > 0);
                !entry.is_empty()
            });
            values.full = (values.table.len() * 2).max(SMALLEST);
        }
        let value = Arc::new(value);
        let any: Arc<dyn Any + Send + Sync> = value.clone();
        values.table.entry(place).or_default().push(Arc::downgrade(&any));
        Shared(value)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T: Default + Hash + Eq + Send + Sync + 'static> Default for Shared<T> {
    fn default() -> Self {
        Shared::new(T::default())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Equal values are one.
impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(Arc::as_ptr(&self.0) as usize);
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<T: Hash + Eq + Send + Sync + 'static> From<T> for Shared<T> {
    fn from(value: T) -> Shared<T> {
        Shared::new(value)
    }
}

/// `null` is the default, as Go's decoder has it.
impl<'de, T> Deserialize<'de> for Shared<T>
where
    T: Deserialize<'de> + Default + Hash + Eq + Send + Sync + 'static,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Shared::new(Option::<T>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_go_with_their_last_user() {
        let read = |text: &str| serde_json::from_str::<Shared<Vec<u8>>>(text).unwrap();
        let (first, second, other) = (read("[1,2,3,201]"), read("[1,2,3,201]"), read("[1]"));
        assert_eq!(first, second);
        assert!(first != other && read("null").is_empty());
        let weak = Arc::downgrade(&first.0);
        drop((first, second));
        assert!(weak.upgrade().is_none());
        assert_eq!(*read("[1,2,3,201]"), [1, 2, 3, 201]);
    }
}
