//! Values that many objects have in common, because they come from one template: the process keeps one copy of each,
//! and compares them by address.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

/// A value of which the process has one copy.
pub struct Shared<T>(Arc<T>);

/// All values of a type that are in use, and until the next clearing those that no longer are.
pub struct Pool<T> {
    values: FxHashSet<Arc<T>>,
    /// Size at which the values that are no longer in use are removed.
    full: usize,
}

/// A type whose values are kept once.
pub trait Pooled: Hash + Eq + Sized + 'static {
    fn pool() -> &'static Mutex<Pool<Self>>;
}

const SMALLEST: usize = 256;

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool { values: FxHashSet::default(), full: SMALLEST }
    }
}

impl<T: Hash + Eq> Pool<T> {
    fn get(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.values.get(&value) {
            return known.clone();
        }
        if self.values.len() >= self.full {
            // The pool's own reference is one.
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.full = (self.values.len() * 2).max(SMALLEST);
        }
        let new = Arc::new(value);
        self.values.insert(new.clone());
        new
    }
}

impl<T: Pooled> Shared<T> {
    pub fn new(value: T) -> Shared<T> {
        Shared(T::pool().lock().get(value))
    }
}

impl<T: Pooled + Default> Default for Shared<T> {
    fn default() -> Self {
        Shared::new(T::default())
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_once_and_while_they_are_used() {
        let mut pool = Pool::default();
        let kept: Vec<Arc<usize>> = (0..10).map(|value| pool.get(value)).collect();
        for value in 10..100 * SMALLEST {
            pool.get(value);
        }
        assert!(pool.values.len() <= SMALLEST + kept.len());
        assert!(kept.iter().all(|value| Arc::ptr_eq(value, &pool.get(**value))));
    }
}
