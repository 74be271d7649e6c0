//! Role-based access control over the roles and bindings of the watch cache, indexed by subject: a question costs what
//! the asker's own bindings cost, however many there are in the cluster.

mod state;
#[cfg(test)]
mod tests;

use parking_lot::RwLock;
use registry::Kind;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rules::Rule;
use super::{Answer, Attributes};
use crate::kinds;
use crate::user::User;
use state::State;
pub use state::{RoleReference, role_rules};
use watchcache::event::EventType;
use watchcache::follow::follow;
use watchcache::resources::Resources;

/// The revision up to which each resource's objects are in the policy, once they have been read.
type Applied = [Option<i64>; 4];

/// Roles and bindings as of now.
#[derive(Default)]
pub struct Policy {
    state: RwLock<State>,
    applied: watch::Sender<Applied>,
}

/// In the order of [`Applied`].
fn resources() -> [&'static Arc<Kind>; 4] {
    [kinds::cluster_roles(), kinds::roles(), kinds::cluster_role_bindings(), kinds::role_bindings()]
}

impl Policy {
    /// Follows the watch cache; the tasks end with `shutdown`.
    pub fn run(
        self: &Arc<Self>,
        resources: &Arc<Resources>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        for (place, resource) in self::resources().into_iter().enumerate() {
            let (reset, change) = (self.clone(), self.clone());
            tasks.spawn(follow(
                resources.clone(),
                resource,
                shutdown.clone(),
                move |(draft, newest): &mut (State, i64), entry| {
                    // what cannot be read grants nothing
                    if let Ok(object) = entry.read() {
                        draft.put(&resource.plural, &entry.namespace, &entry.name, &object);
                    }
                    *newest = entry.resource_version.max(*newest);
                },
                move |(draft, newest)| {
                    reset.state.write().replace(&resource.plural, draft);
                    reset.applied.send_modify(|applied| applied[place] = Some(newest));
                },
                move |event| {
                    let entry = &event.entry;
                    let stays = event.event_type != EventType::Deleted;
                    let object = stays.then(|| entry.read().ok()).flatten();
                    let mut state = change.state.write();
                    let (plural, namespace, name) = (&resource.plural, &entry.namespace, &entry.name);
                    match object {
                        Some(object) => state.put(plural, namespace, name, &object),
                        None => state.remove(plural, namespace, name),
                    }
                    drop(state);
                    change.applied.send_modify(|applied| applied[place] = Some(event.revision()));
                },
            ));
        }
    }

    pub fn synced(&self) -> bool {
        self.applied.borrow().iter().all(Option::is_some)
    }

    /// Waits until the policy has all that the caches have now.
    pub async fn caught_up(&self, resources: &Resources) {
        let newest = self::resources().map(|resource| {
            resources.list(resource, None).iter().map(|entry| entry.resource_version).max().unwrap_or(0)
        });
        let has = |applied: &Applied| {
            applied
                .iter()
                .zip(newest)
                .all(|(applied, newest)| applied.is_some_and(|applied| applied >= newest))
        };
        // The sender lives as long as the policy.
        let _ = self.applied.subscribe().wait_for(has).await;
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Answer {
        let state = self.state.read();
        let mut errors = Vec::new();
        let namespace = if attributes.is_resource { attributes.namespace } else { "" };
        for grant in state.grants(attributes.user, namespace) {
            match state.rules(grant.role()) {
                Some(rules) if rules.iter().any(|rule| rule.matches(attributes)) => {
                    return Answer::allow(format!("RBAC: allowed by {grant}"));
                }
                Some(_) => {}
                None => errors.push(state::missing(grant.role())),
            }
        }
        errors.sort();
        errors.dedup();
        Answer::no_opinion(match errors.as_slice() {
            [] => String::new(),
            [only] => format!("RBAC: {only}"),
            all => format!("RBAC: [{}]", all.join(", ")),
        })
    }

    /// Everything the user may do in a namespace (empty: cluster-wide grants alone), and what could not be resolved.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let state = self.state.read();
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for grant in state.grants(user, namespace) {
            match state.rules(grant.role()) {
                Some(found) => rules.extend(found.iter().cloned()),
                None => errors.push(state::missing(grant.role())),
            }
        }
        (rules, errors)
    }

    /// The rules of a role that a binding in `namespace` refers to.
    pub fn role(&self, role: &RoleReference) -> Result<Vec<Rule>, String> {
        self.state.read().rules(role).map(|rules| rules.to_vec()).ok_or_else(|| state::missing(role))
    }
}
