//! The annotations by which a deployment keeps its history on its replica sets.

use std::collections::BTreeMap;

use controllers::views::{Deployment, Meta};

use super::rolling;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// The revision to go back to, 0 for the last one. What was a field once is an annotation now.
pub(super) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// Annotations of the deployment that do not go to its replica sets, nor come back from them.
pub(super) const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    ROLLBACK_TO,
];

/// The longest revision history kept, in characters.
const HISTORY_LENGTH: usize = 2000;

pub(super) fn revision(meta: &Meta) -> i64 {
    meta.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The size of the deployment when this set was last resized.
pub(super) fn desired(meta: &Meta) -> Option<i32> {
    meta.annotation(DESIRED)?.parse().ok()
}

/// The most pods the deployment could have when this set was last resized.
pub(super) fn max(meta: &Meta) -> Option<i32> {
    meta.annotation(MAX)?.parse().ok()
}

/// Notes the deployment's present size.
pub(super) fn size(annotations: &mut BTreeMap<String, String>, deployment: &Deployment) {
    let replicas = deployment.spec.replicas;
    annotations.insert(DESIRED.to_owned(), replicas.to_string());
    annotations.insert(MAX.to_owned(), (replicas + rolling::max_surge(deployment)).to_string());
}

/// Takes over the deployment's annotations, and the revision where that is a later one.
pub(super) fn refresh(annotations: &mut BTreeMap<String, String>, deployment: &Deployment, revision: i64) {
    for (key, value) in &deployment.metadata.annotations {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    if old.as_deref().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0) >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(old) = old {
        let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&old);
        while history.len() > HISTORY_LENGTH {
            match history.find(',') {
                Some(comma) => drop(history.drain(..=comma)),
                None => break,
            }
        }
    }
}
