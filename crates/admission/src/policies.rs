//! Admission policies: expressions of the cluster's administrators about requests. A policy acts through its bindings; it is compiled
//! once, and requests for resources that no policy names cost a look-up.

mod mutating;
mod parameters;
mod patch;
mod policy;
mod request;
#[cfg(test)]
mod tests;
mod validating;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::Status;

pub(crate) use mutating::Invoked;
pub use mutating::MutatingAdmissionPolicy;
pub use policy::{Binding, Policy};
pub use validating::ValidatingAdmissionPolicy;

use crate::{Attributes, Point, Services};

/// The policies that are bound, in the order of their names.
#[derive(Debug, Default)]
pub struct Policies {
    all: Vec<Bound>,
    /// Places of those that name the plural of a resource.
    by_plural: HashMap<String, Vec<usize>>,
    /// Places of those that may be about any resource.
    any: Vec<usize>,
}

/// A policy with its bindings.
#[derive(Debug)]
pub(crate) struct Bound {
    pub policy: Arc<Policy>,
    pub bindings: Vec<Arc<Binding>>,
}

impl Policies {
    pub fn new(policies: &[Arc<Policy>], bindings: &[Arc<Binding>]) -> Policies {
        let mut by_policy: HashMap<&str, Vec<Arc<Binding>>> = HashMap::new();
        for binding in bindings {
            by_policy.entry(&binding.policy).or_default().push(Arc::clone(binding));
        }
        let mut made = Policies::default();
        for policy in policies {
            let Some(bindings) = by_policy.remove(&*policy.name) else { continue };
            let place = made.all.len();
            match policy.criteria.plurals() {
                None => made.any.push(place),
                Some(plurals) => {
                    for plural in plurals {
                        let places = made.by_plural.entry(plural.to_owned()).or_default();
                        if places.last() != Some(&place) {
                            places.push(place);
                        }
                    }
                }
            }
            made.all.push(Bound { policy: Arc::clone(policy), bindings });
        }
        made
    }

    /// Those that may be about a resource.
    pub(crate) fn concerning(&self, plural: &str) -> Vec<&Bound> {
        let named = self.by_plural.get(plural).map_or(&[][..], Vec::as_slice);
        let mut places: Vec<usize> = named.iter().chain(&self.any).copied().collect();
        places.sort_unstable();
        places.iter().map(|place| &self.all[*place]).collect()
    }
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Allow,
    Deny,
    Audit,
    Warn,
    /// A mutation, whatever became of it.
    Mutation,
}

/// What is counted of a check.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    pub policy: &'a str,
    pub binding: &'a str,
    pub error: &'static str,
    pub enforcement: Enforcement,
    pub took: Duration,
}

/// What metrics call an error.
fn error_type(message: &str) -> &'static str {
    match message {
        _ if message.starts_with("compilation") => "compile_error",
        _ if message.starts_with("validation failed due to running out of cost budget") => "out_of_budget",
        _ => "invalid_error",
    }
}

/// The policies; waits for them for a while when the server has just begun.
async fn known(
    services: &dyn Services,
    attributes: &Attributes<'_>,
    mutating: bool,
) -> Result<Arc<Policies>, Status> {
    let known = match services.policies(mutating) {
        None if services.ready().await => services.policies(mutating),
        known => known,
    };
    known.ok_or_else(|| attributes.forbid("not yet ready to handle request"))
}

/// Policies are not about themselves, nor about who somebody is and what they may: so nobody locks themselves out.
fn is_exempt(point: &Point<'_>) -> bool {
    const ALL: [(&str, &str); 10] = [
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    ];
    ALL.contains(&(&*point.resource.group, &*point.resource.plural))
}
