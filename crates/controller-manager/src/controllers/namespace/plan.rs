//! In what order a namespace is emptied, and what its conditions say of it.

use client::ResourceRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Counts;
use crate::support::discovery::Served;
use crate::views::{Condition, Partial};

/// What is still in a namespace.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    resources: Counts,
    finalizers: Counts,
}

impl Remaining {
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    pub(super) fn note(&mut self, resource: &ResourceRef, left: &[Partial]) {
        if left.is_empty() {
            return;
        }
        let name = if resource.group.is_empty() {
            resource.plural.to_string()
        } else {
            format!("{}.{}", resource.plural, resource.group)
        };
        *self.resources.entry(name).or_default() += left.len();
        for finalizer in left.iter().flat_map(|object| &object.metadata.finalizers) {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
}

/// Pods, and then everything else that can be listed and deleted.
pub(super) fn order(resources: Vec<Served>) -> (Vec<Served>, Vec<Served>) {
    let deletable = resources.into_iter().filter(|served| served.resource.namespaced && served.can("delete"));
    deletable.partition(|served| served.resource.group.is_empty() && served.resource.plural == "pods")
}

pub(super) fn conditions(
    current: &[Condition],
    discovery: Option<&str>,
    failures: &[String],
    remaining: &Remaining,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let list = |counts: &Counts, verb: &str| {
        let parts = counts.iter().map(|(name, count)| format!("{name} {verb} {count} resource instances"));
        parts.collect::<Vec<_>>().join(", ")
    };
    let failed = (!failures.is_empty()).then(|| {
        format!("Failed to delete all resource types, {} remaining: {}", failures.len(), failures.join(", "))
    });
    let left = (!remaining.resources.is_empty()).then(|| {
        format!(
            "Some resources are remaining: {}",
            list(&remaining.resources, "has").replace(" has", ". has")
        )
    });
    let held = (!remaining.finalizers.is_empty()).then(|| {
        format!(
            "Some content in the namespace has finalizers remaining: {}",
            list(&remaining.finalizers, "in")
        )
    });
    let wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            discovery.map(|error| {
                ("DiscoveryFailed", format!("Discovery failed for some groups, 1 failing: {error}"))
            }),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            failed.map(|message| ("ContentDeletionFailed", message)),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            left.map(|message| ("SomeResourcesRemain", message)),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            held.map(|message| ("SomeFinalizersRemain", message)),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    let mut conditions = current.to_vec();
    for (type_, bad, good) in wanted {
        let (status, reason, message) = match bad {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", good.0, good.1.to_owned()),
        };
        let wanted = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: Some(Time(now)),
            ..Default::default()
        };
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(present) if same(present, &wanted) => {}
            Some(present) => *present = wanted,
            None => conditions.push(wanted),
        }
    }
    conditions
}

fn same(left: &Condition, right: &Condition) -> bool {
    left.status == right.status && left.reason == right.reason && left.message == right.message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::Meta;

    #[test]
    fn what_is_left_is_told() {
        let now: jiff::Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let resource = |group: &'static str, plural: &'static str| ResourceRef {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            kind: "".into(),
            namespaced: true,
        };
        let held = Partial {
            metadata: Meta { finalizers: vec!["a.b/c".into()], ..Default::default() },
            ..Default::default()
        };
        let mut remaining = Remaining::default();
        remaining.note(&resource("", "configmaps"), std::slice::from_ref(&held));
        remaining.note(&resource("apps", "deployments"), &[]);
        let found = conditions(&[], None, &[], &remaining, now);
        let message = |type_| Condition::find(&found, type_).unwrap().message.clone();
        assert_eq!(
            message("NamespaceContentRemaining"),
            "Some resources are remaining: configmaps. has 1 resource instances"
        );
        assert_eq!(
            message("NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: a.b/c in 1 resource instances"
        );
        assert_eq!(conditions(&found, None, &[], &remaining, jiff::Timestamp::now()), found);
        let done = conditions(&found, None, &[], &Remaining::default(), now);
        assert!(done.iter().all(|condition| condition.status == "False"));
    }

    #[test]
    fn pods_first() {
        let served = |group: &'static str, plural: &'static str, namespaced, verbs: &[&str]| Served {
            resource: ResourceRef {
                namespaced,
                ..ResourceRef {
                    group: group.into(),
                    version: "v1".into(),
                    plural: plural.into(),
                    kind: "".into(),
                    namespaced,
                }
            },
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        };
        let all = vec![
            served("", "configmaps", true, &["delete", "list"]),
            served("", "pods", true, &["delete", "list"]),
            served("", "nodes", false, &["delete", "list"]),
            served("", "bindings", true, &["create"]),
            served("metrics.k8s.io", "pods", true, &["list"]),
        ];
        let (pods, others) = order(all);
        assert_eq!((pods.len(), others.len()), (1, 1));
    }
}
