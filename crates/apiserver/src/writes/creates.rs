//! Creates of custom resources that are on their way to the store. Who deletes the objects of a definition waits for them:
//! one that began before the definition's end would otherwise be stored after the last look, and stay.

use std::collections::HashMap;

use parking_lot::Mutex;

/// How many are under way, by storage prefix.
#[derive(Default)]
pub struct Creates(Mutex<HashMap<String, usize>>);

/// A create that is under way, until it is dropped.
pub struct Create<'a> {
    creates: &'a Creates,
    prefix: &'a str,
}

impl Creates {
    pub fn begin<'a>(&'a self, prefix: &'a str) -> Create<'a> {
        *self.0.lock().entry(prefix.to_owned()).or_default() += 1;
        Create { creates: self, prefix }
    }

    /// Whether none is under way.
    pub fn none(&self, prefix: &str) -> bool {
        !self.0.lock().contains_key(prefix)
    }
}

impl Drop for Create<'_> {
    fn drop(&mut self) {
        let mut counts = self.creates.0.lock();
        if let Some(count) = counts.get_mut(self.prefix) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.prefix);
            }
        }
    }
}
