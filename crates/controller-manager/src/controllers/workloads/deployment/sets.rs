//! Which replica set is the current one, and what they complain about.

use std::sync::Arc;

use controllers::hash::same_template;
use controllers::views::{Condition, Deployment, ReplicaSet};

use super::{plan::Set, progress};

const LONGEST_NAME: usize = 253;

/// The set with the deployment's template (the oldest, should there be several) and the others, oldest first.
pub(super) fn split<'a>(
    deployment: &Deployment,
    sets: &'a [Arc<ReplicaSet>],
) -> (Option<&'a ReplicaSet>, Vec<&'a ReplicaSet>) {
    let mut sets: Vec<&ReplicaSet> = sets.iter().map(|set| &**set).collect();
    sets.sort_by(|left, right| {
        let (left, right) = (&left.metadata, &right.metadata);
        left.created().cmp(&right.created()).then_with(|| left.name.cmp(&right.name))
    });
    let current = sets.iter().position(|set| same_template(&set.spec.template, &deployment.spec.template));
    let new = current.map(|index| sets.remove(index));
    (new, sets)
}

/// The name of a new set; what is too long is cut before the hash.
pub(super) fn name(deployment: &str, hash: &str) -> String {
    let kept = deployment.len().min(LONGEST_NAME - 1 - hash.len());
    format!("{}-{hash}", &deployment[..kept])
}

/// A replica set's failure to make pods, as the deployment's own condition: the new set's, else any.
pub(super) fn failure(new: Option<&Set>, old: &[Set], now: jiff::Timestamp) -> Option<Condition> {
    let find = |set: &Set| Condition::find(&set.view.status.conditions, "ReplicaFailure").cloned();
    let found = new.and_then(find).or_else(|| old.iter().find_map(find))?;
    Some(Condition {
        type_: "ReplicaFailure".to_owned(),
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_transition_time: found.last_transition_time.clone(),
        last_update_time: found.last_transition_time,
        ..progress::stamped(now)
    })
}
