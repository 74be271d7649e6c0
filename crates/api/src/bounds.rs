//! How many objects one object may have inside.
//!
//! A body of 3 MiB has room for a million of them (`{},{},…`). As trees, and with all that is set by default, they would take gigabytes.
//! No such object could be stored: etcd's client sends at most 2 MiB, and what is of any use takes twenty bytes there. So they are
//! counted while a request is read, and reading ends where there are too many.

/// Messages within a message, at every depth.
const MESSAGES: usize = 100_000;

/// How many more there may be.
#[derive(Clone, Copy)]
pub(crate) struct Room(usize);

impl Room {
    /// In an object that a client sends.
    pub fn of_request() -> Room {
        Room(MESSAGES)
    }

    /// In an object that is stored.
    pub fn unbounded() -> Room {
        Room(usize::MAX)
    }

    /// Takes the place of one; `false` where there is none.
    pub fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}
