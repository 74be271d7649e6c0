//! Extension points of the write path and the virtual kinds: reviews, tokens, allocation, escalation checks.
//! The modules that face clients implement them and hand them to [`crate::handlers::Server`].

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::handlers::Server;
use crate::user::User;
use crate::writes::Write;

/// Answers kinds that are never stored: `TokenReview`, `SubjectAccessReview` and its relatives,
/// `SelfSubjectReview`. The object comes in and goes out at the request's version.
#[async_trait]
pub trait Reviews: Send + Sync {
    async fn review(
        &self,
        resource: &Resource,
        user: &User,
        namespace: &str,
        object: Tree,
    ) -> Result<Tree, Status>;
}

/// Issues service account tokens (`serviceaccounts/token`). The service account is as stored.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Checks a `TokenRequest` and completes what it leaves out.
    fn prepare(&self, service_account: &Tree, request: Tree) -> Result<Tree, Status>;

    /// Answers the prepared request with its status.
    async fn issue(
        &self,
        service_account: &Tree,
        request: Tree,
        warnings: &mut Vec<String>,
    ) -> Result<Tree, Status>;
}

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
