//! Requests that wait for somebody else's server. They take memory while they have no turn, so there is a bound, of which no
//! one server's requests take more than a part.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Crowded;

/// Bytes of the requests that wait at once: an object takes fifty times as much while it is changed.
const ALL: usize = 24 << 20;
/// Of these, those that wait for one server.
const EACH: usize = ALL / 3;
/// What each counts at least.
const LEAST: usize = 4 << 10;

/// The bytes that wait, by server.
#[derive(Default)]
pub struct Absent(Mutex<HashMap<String, usize>>);

pub struct Absence<'a> {
    absent: &'a Absent,
    whom: String,
    bytes: usize,
}

impl Absent {
    /// Counts a request of so many bytes until the absence is dropped.
    pub fn begin(&self, whom: &str, bytes: usize, may_be_refused: bool) -> Result<Absence<'_>, Crowded> {
        let bytes = bytes.max(LEAST);
        let mut counts = self.0.lock();
        let all: usize = counts.values().sum();
        let own = counts.get(whom).copied().unwrap_or_default();
        // A first one waits however large it is.
        let is_full = own > 0 && (own + bytes > EACH || all + bytes > ALL);
        if may_be_refused && is_full {
            return Err(Crowded(whom.to_owned()));
        }
        counts.insert(whom.to_owned(), own + bytes);
        Ok(Absence { absent: self, whom: whom.to_owned(), bytes })
    }
}

impl Drop for Absence<'_> {
    fn drop(&mut self) {
        let mut counts = self.absent.0.lock();
        if let Some(count) = counts.get_mut(&self.whom) {
            *count -= self.bytes;
            if *count == 0 {
                counts.remove(&self.whom);
            }
        }
    }
}
