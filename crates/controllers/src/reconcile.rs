//! What a controller does with a key.

use std::time::Duration;

use client::{Client, Key};

use crate::Error;

/// When a key is to be reconciled again without cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Next {
    #[default]
    Done,
    After(Duration),
}

impl Next {
    /// After that time, where there is one.
    pub fn after(wait: Option<Duration>) -> Next {
        wait.map_or(Next::Done, Next::After)
    }

    /// The earlier of the two.
    pub fn or(self, other: Next) -> Next {
        match (self, other) {
            (Next::After(left), Next::After(right)) => Next::After(left.min(right)),
            (Next::Done, next) | (next, Next::Done) => next,
        }
    }
}

/// Brings the object of a key to what is asked for, from what the caches show. It may run at any time, twice, or after a
/// crash in the middle.
pub trait Reconcile: Send + Sync + 'static {
    /// What is written with `client` is waited for: the key is reconciled again only when the caches show it. A key that
    /// fails comes back later, each time later.
    fn reconcile(&self, key: &Key, client: &Client) -> impl Future<Output = Result<Next, Error>> + Send;
}
