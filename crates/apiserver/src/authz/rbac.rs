//! Role-based access control over the roles and bindings of the watch cache, indexed by subject: a question costs what
//! the asker's own bindings cost, however many there are in the cluster.

mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::RwLock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rules::Rule;
use super::{Answer, Attributes, follow};
use crate::cache::event::EventType;
use crate::kinds;
use crate::resources::Resources;
use crate::user::User;
use state::State;
pub use state::{RoleReference, role_rules};

/// Roles and bindings as of now.
#[derive(Default)]
pub struct Policy {
    state: RwLock<State>,
    /// A bit per resource that has been read.
    seen: AtomicU8,
}

impl Policy {
    /// Follows the watch cache; the tasks end with `shutdown`.
    pub fn run(
        self: &Arc<Self>,
        resources: &Arc<Resources>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        let all =
            [kinds::cluster_roles(), kinds::roles(), kinds::cluster_role_bindings(), kinds::role_bindings()];
        for (bit, resource) in all.into_iter().enumerate() {
            let (reset, change) = (self.clone(), self.clone());
            tasks.spawn(follow(
                resources.clone(),
                resource,
                shutdown.clone(),
                move |draft: &mut State, entry| {
                    draft.put(&resource.plural, &entry.namespace, &entry.name, &entry.tree());
                },
                move |draft| {
                    reset.state.write().replace(&resource.plural, draft);
                    reset.seen.fetch_or(1 << bit, Ordering::AcqRel);
                },
                move |event| {
                    let entry = &event.entry;
                    match event.event_type {
                        EventType::Deleted => {
                            change.state.write().remove(&resource.plural, &entry.namespace, &entry.name);
                        }
                        _ => {
                            let object = entry.tree();
                            change.state.write().put(
                                &resource.plural,
                                &entry.namespace,
                                &entry.name,
                                &object,
                            );
                        }
                    }
                },
            ));
        }
    }

    pub fn synced(&self) -> bool {
        self.seen.load(Ordering::Acquire) == 0b1111
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
