//! What plugins need of the server.

use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree};
use async_trait::async_trait;
use jiff::Timestamp;
use machinery::labels::Selector;
use registry::Kind;

use crate::policies::{Checked, Policies};
use crate::{CallError, Called, ClientConfig, Hook, User};

/// Something else that the asking user would have to be allowed to do.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    /// Empty for what is in no namespace.
    pub namespace: &'a str,
    pub name: &'a str,
}

/// Edits a stored object, or says why it must not be.
pub type Change<'a> = &'a (dyn Fn(&mut Tree) -> Result<(), Status> + Send + Sync);

/// An object, where there is one.
pub type Found = Result<Option<Arc<Tree>>, Status>;

#[async_trait]
pub trait Services: Send + Sync {
    /// An object as the watch cache has it. One that cannot be read is an error, not absent.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Found;

    /// The objects of a namespace, or of all where it is empty.
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Arc<Tree>>, Status>;

    /// As [`Services::get`], when the cache is as new as the store.
    async fn fresh(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Found;

    /// An object that may just have been created.
    async fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Found {
        match self.get(group, plural, namespace, name) {
            Ok(None) => self.fresh(group, plural, namespace, name).await,
            found => found,
        }
    }

    /// Creates an object as the server itself.
    async fn create(&self, group: &str, plural: &str, namespace: &str, object: Tree) -> Result<Tree, Status>;

    /// Changes the status of an object, as the server itself: under the version that `change` saw, again when another write came
    /// between. Answers the object as it was stored. The request keeps its seat meanwhile, since others may wait for what it writes.
    async fn update_status(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        change: Change<'_>,
    ) -> Result<Tree, Status>;

    async fn allows(&self, user: &User<'_>, question: &Question<'_>) -> bool;

    /// What an expression asks about the user, or about a service account.
    async fn check(&self, user: &User<'_>, check: &cel::Check) -> cel::Answer;

    /// The webhooks of all configurations, in their order. `None` while they are not known.
    fn hooks(&self, mutating: bool) -> Option<Arc<[Arc<Hook>]>>;

    /// The policies that are bound. `None` while they are not known.
    fn policies(&self, mutating: bool) -> Option<Arc<Policies>>;

    /// An object of any kind, in the version of the kind. What the cache does not have is looked for when it is as new as the store.
    async fn object(&self, kind: &Kind, namespace: &str, name: &str) -> Found;

    /// Objects of any kind, of a namespace or of all where it is empty.
    async fn select(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
    ) -> Result<Vec<Arc<Tree>>, Status>;

    /// Waits for a while until hooks and policies are known; answers whether they are.
    async fn ready(&self) -> bool;

    /// Sends a review to a webhook, and waits for its answer no longer than that.
    async fn call(
        &self,
        client: &ClientConfig,
        review: Vec<u8>,
        timeout: Duration,
    ) -> Result<Tree, CallError>;

    /// Does what may take long, so that other requests go on meanwhile.
    fn aside(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// Counts a call.
    fn called(&self, called: &Called<'_>);

    /// Counts what a policy has decided.
    fn checked(&self, checked: &Checked<'_>);

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
