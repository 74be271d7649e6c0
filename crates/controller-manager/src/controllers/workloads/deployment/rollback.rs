//! Going back to an earlier revision, which an annotation asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::EventType;
use serde_json::Value;

use controllers::hash::{POD_TEMPLATE_HASH, same_template};
use controllers::views::{Deployment, ReplicaSet};

use super::annotations::{self, OWN, ROLLBACK_TO};

/// What the deployment becomes, and the event that says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    /// None to stay as it is.
    pub template: Option<Value>,
    pub annotations: BTreeMap<String, String>,
    pub event: (EventType, &'static str, String),
}

/// The revision that is asked for; 0 is the last one.
pub(super) fn wanted(deployment: &Deployment) -> Option<i64> {
    deployment.metadata.annotation(ROLLBACK_TO)?.parse().ok()
}

pub(super) fn rollback(deployment: &Deployment, sets: &[Arc<ReplicaSet>], revision: i64) -> Rollback {
    let name = &deployment.metadata.name;
    let not_found =
        |message: &str| (EventType::Warning, "DeploymentRollbackRevisionNotFound", message.to_owned());
    let mut all = deployment.metadata.annotations.clone();
    all.remove(ROLLBACK_TO);
    let stay = |event| Rollback { template: None, annotations: all.clone(), event };
    let revision = if revision == 0 { last(sets) } else { Some(revision) };
    let Some(revision) = revision else { return stay(not_found("Unable to find last revision.")) };
    let Some(set) = sets.iter().find(|set| annotations::revision(&set.metadata) == revision) else {
        return stay(not_found("Unable to find the revision to rollback to."));
    };
    if same_template(&set.spec.template, &deployment.spec.template) {
        let message =
            format!("The rollback revision contains the same template as current deployment {name:?}");
        return stay((EventType::Warning, "DeploymentRollbackTemplateUnchanged", message));
    }
    let mut template = set.spec.template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    // The annotations go with the revision: among them is why it was made.
    all.retain(|key, _| OWN.contains(&key.as_str()));
    let of_set = set.metadata.annotations.iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
    all.extend(of_set.map(|(key, value)| (key.clone(), value.clone())));
    let message = format!("Rolled back deployment {name:?} to revision {revision}");
    Rollback {
        template: Some(template),
        annotations: all,
        event: (EventType::Normal, "DeploymentRollback", message),
    }
}

/// The revision before the newest.
fn last(sets: &[Arc<ReplicaSet>]) -> Option<i64> {
    let mut revisions: Vec<i64> = sets.iter().map(|set| annotations::revision(&set.metadata)).collect();
    revisions.sort_unstable();
    revisions.iter().rev().nth(1).copied().filter(|revision| *revision > 0)
}
