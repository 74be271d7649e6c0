//! Extension points of the write path: allocation, escalation checks. The modules that are about a kind implement them and hand them to [`crate::handlers::Server`].

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::handlers::Server;
use crate::writes::Write;

/// Runs on every create, update and delete between the strategy's preparation and validation: allocates service addresses,
/// checks for privilege escalation. Update attempts may repeat (conflicts); each is finished on its own.
#[async_trait]
pub trait Hook: Send + Sync {
    /// May change the object or refuse. On delete the object is the stored one and changes are ignored.
    /// What it reserves is in the reservation, which is finished at most once.
    async fn begin(
        &self,
        write: &Write<'_>,
        object: &mut Tree,
    ) -> Result<Option<Box<dyn Reservation>>, Status>;

    /// An object is gone from the store (after the delete's transaction).
    async fn deleted(&self, _server: &Arc<Server>, _resource: &Resource, _object: &Tree) {}
}

/// How a write attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is in the store.
    Committed,
    /// It is not, and will not be.
    Refused,
    /// The store did not say.
    Unknown,
}

impl Outcome {
    /// The outcome of a write that failed in the store with this error.
    pub fn after(error: &store::Error) -> Outcome {
        match error {
            store::Error::Unavailable(_) | store::Error::Other(_) => Outcome::Unknown,
            store::Error::Compacted { .. } | store::Error::TooLarge | store::Error::NoSpace => {
                Outcome::Refused
            }
        }
    }
}

/// What a hook reserves for one write attempt. It is dropped unfinished when the outcome of the attempt is unknown: its request was
/// abandoned, or the store does not answer. The hook then has to find out itself.
#[async_trait]
pub trait Reservation: Send + Sync {
    /// `committed`: the object is in the store. Otherwise everything taken is given back.
    async fn finish(self: Box<Self>, committed: bool);
}
