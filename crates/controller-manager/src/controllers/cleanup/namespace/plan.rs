//! In what order a namespace is emptied, and what its conditions say of it.

use std::time::Duration;

use client::ResourceRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::Counts;
use controllers::kinds::discovery::Served;
use controllers::views::{Condition, Namespace, Object, Partial};

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

    pub(super) fn count(&self) -> usize {
        self.resources.values().sum()
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

/// How long to wait before a namespace is looked at again. What does not become less, because of a finalizer that
/// nobody takes away, is looked at less and less often.
#[derive(Default)]
pub(super) struct Patience {
    left: Option<usize>,
    tries: u32,
}

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);

impl Patience {
    /// `left` is how much there is now, `grace` how long it may take to go by itself.
    pub(super) fn next(&mut self, left: usize, grace: Option<Duration>) -> Duration {
        let progress = self.left.is_none_or(|before| left < before);
        self.left = Some(left);
        self.tries = if progress { 0 } else { self.tries.saturating_add(1) };
        let wait = grace.unwrap_or(SHORTEST).max(SHORTEST);
        wait.saturating_mul(1 << self.tries.min(4)).min(LONGEST)
    }
}

/// Whether a namespace is the one that was seen, and being deleted.
pub(super) fn is_leaving(seen: &Namespace, now: &Namespace) -> bool {
    now.metadata.uid == seen.metadata.uid && now.metadata.is_deleting()
}

/// The namespace without a finalizer, as its `finalize` takes it.
pub(super) fn finalized(namespace: &Namespace, finalizer: &str) -> Value {
    let finalizers: Vec<_> = namespace.spec.finalizers.iter().filter(|name| *name != finalizer).collect();
    json!({
        "apiVersion": Namespace::API_VERSION,
        "kind": Namespace::KIND,
        "metadata": namespace.metadata,
        "spec": {"finalizers": finalizers},
        "status": namespace.status,
    })
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
    let finalizing = (!remaining.finalizers.is_empty()).then(|| {
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
            finalizing.map(|message| ("SomeFinalizersRemain", message)),
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
    use controllers::views::Meta;

    #[test]
    fn a_namespace_made_anew_is_left_alone() {
        let namespace = |uid: &str, deleted: Option<&str>| -> Namespace {
            let metadata = json!({"name": "a", "uid": uid, "deletionTimestamp": deleted});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let (now, seen) = (Some("2026-01-01T00:00:00Z"), namespace("1", Some("2026-01-01T00:00:00Z")));
        assert!(is_leaving(&seen, &namespace("1", now)));
        assert!(!is_leaving(&seen, &namespace("2", now)) && !is_leaving(&seen, &namespace("1", None)));
    }

    #[test]
    fn remaining_content_is_reported() {
        let now: jiff::Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let resource = |group: &'static str, plural: &'static str| ResourceRef {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            kind: "".into(),
            namespaced: true,
        };
        let blocked = Partial {
            metadata: Meta { finalizers: vec!["a.b/c".into()], ..Default::default() },
            ..Default::default()
        };
        let mut remaining = Remaining::default();
        remaining.note(&resource("", "configmaps"), std::slice::from_ref(&blocked));
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
    fn stuck_content_is_checked_less_often() {
        let mut patience = Patience::default();
        let mut next =
            |left, grace: Option<u64>| patience.next(left, grace.map(Duration::from_secs)).as_secs_f64();
        let stuck: Vec<_> = (0..7).map(|_| next(10, None)).collect();
        assert_eq!(stuck, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]);
        assert_eq!([next(9, None), next(9, None)], [0.5, 1.0], "something goes");
        assert_eq!([next(8, Some(5)), next(8, Some(5))], [5.0, 8.0], "pods have time to end");
    }

    #[test]
    fn all_but_the_finalizer_stays() {
        let metadata = json!({
            "name": "n", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}, "finalizers": ["x/y"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "o", "uid": "o"}],
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
        });
        let namespace = json!({
            "metadata": metadata, "spec": {"finalizers": ["kubernetes", "z"]}, "status": {"phase": "Terminating"},
        });
        let found = finalized(&serde_json::from_value(namespace).unwrap(), "kubernetes");
        assert_eq!((&found["metadata"], &found["spec"]), (&metadata, &json!({"finalizers": ["z"]})));
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
