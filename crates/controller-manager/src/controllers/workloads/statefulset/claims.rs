//! The claims of a pod: their names, and who owns them, so that they stay or go as the retention policy says.

use controllers::views::{Meta, Object, OwnerReference, Pod, StatefulSet};
use serde_json::{Value, json};

use super::plan;

fn claim_name(set: &StatefulSet, template: &Value, ordinal: i32) -> String {
    let name = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    format!("{name}-{}-{ordinal}", set.metadata.name)
}

pub(super) fn names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = String> {
    set.spec.volume_claim_templates.iter().map(move |template| claim_name(set, template, ordinal))
}

/// Names of the sets that a claim may be of, by its name.
pub(super) fn sets(claim: &str) -> impl Iterator<Item = &str> {
    let without_ordinal = claim.rsplit_once('-').map_or("", |(rest, _)| rest);
    without_ordinal.match_indices('-').map(move |(at, _)| &without_ordinal[at + 1..])
}

/// Whether a claim of this name is one of the set's.
pub(super) fn has(set: &StatefulSet, claim: &str) -> bool {
    let ordinal = claim.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok());
    ordinal.is_some_and(|ordinal| names(set, ordinal).any(|name| name == claim))
}

/// The claims of an ordinal, by name.
pub(super) fn wanted(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = (String, Value)> {
    set.spec.volume_claim_templates.iter().map(move |template| {
        let name = claim_name(set, template, ordinal);
        let mut claim = template.clone();
        claim["apiVersion"] = "v1".into();
        claim["kind"] = "PersistentVolumeClaim".into();
        claim["metadata"]["name"] = name.as_str().into();
        claim["metadata"]["namespace"] = set.metadata.namespace.as_str().into();
        for (key, value) in set.spec.selector.labels().into_iter().flatten() {
            claim["metadata"]["labels"][key] = value.as_str().into();
        }
        (name, claim)
    })
}

/// Puts the volumes of the claims into a pod's spec, in place of those that have their names.
pub(super) fn mount(set: &StatefulSet, spec: &mut Value, ordinal: i32) {
    if set.spec.volume_claim_templates.is_empty() {
        return;
    }
    let volume = |template: &Value| {
        let source = json!({"claimName": claim_name(set, template, ordinal)});
        json!({"name": template.pointer("/metadata/name"), "persistentVolumeClaim": source})
    };
    let mut volumes: Vec<Value> = set.spec.volume_claim_templates.iter().map(volume).collect();
    let others = spec["volumes"].as_array().into_iter().flatten();
    let others: Vec<Value> =
        others.filter(|other| volumes.iter().all(|own| own["name"] != other["name"])).cloned().collect();
    volumes.extend(others);
    spec["volumes"] = volumes.into();
}

/// Who the claims of a pod belong to.
pub(super) struct Claims<'a> {
    set: &'a StatefulSet,
    pub(super) ordinal: i32,
    pod: &'a Meta,
}

impl<'a> Claims<'a> {
    pub(super) fn of(set: &'a StatefulSet, ordinal: i32, pod: &'a Meta) -> Claims<'a> {
        Claims { set, ordinal, pod }
    }

    fn deletes(&self) -> (bool, bool) {
        let policy = &self.set.spec.persistent_volume_claim_retention_policy;
        (policy.when_scaled == "Delete", policy.when_deleted == "Delete")
    }

    /// Whether the set and the pod are to own the claim.
    fn wanted(&self) -> (bool, bool) {
        let condemned = !plan::in_range(self.set, self.ordinal);
        match self.deletes() {
            (false, deleted) => (deleted, false),
            (true, false) => (false, condemned),
            (true, true) => (!condemned, condemned),
        }
    }

    fn is_set(&self, owner: &OwnerReference) -> bool {
        refers(owner, StatefulSet::API_VERSION, StatefulSet::KIND, &self.set.metadata)
    }

    fn is_pod(&self, owner: &OwnerReference) -> bool {
        refers(owner, Pod::API_VERSION, Pod::KIND, self.pod)
    }

    /// Whether an earlier set or pod of the name owns the claim: it goes with that one.
    fn is_stale(&self, claim: &Meta) -> bool {
        let stale = |is: &dyn Fn(&OwnerReference) -> bool, uid: &str| {
            claim.owner_references.iter().find(|owner| is(owner)).is_some_and(|owner| owner.uid != *uid)
        };
        stale(&|owner| self.is_set(owner), &self.set.metadata.uid)
            || stale(&|owner| self.is_pod(owner), &self.pod.uid)
    }

    /// Whether something else manages the claim, so that the policy does not hold for it.
    pub(super) fn has_other_controller(&self, claim: &Meta) -> bool {
        self.deletes() != (false, false)
            && claim.owner_references.iter().any(|owner| {
                if self.is_set(owner) {
                    owner.uid != self.set.metadata.uid
                } else if self.is_pod(owner) {
                    owner.uid != self.pod.uid
                } else {
                    owner.controller == Some(true)
                }
            })
    }

    pub(super) fn is_right(&self, claim: &Meta) -> bool {
        let owner = |uid: &str| claim.owner_references.iter().find(|owner| owner.uid == *uid);
        let (set, pod) = (owner(&self.set.metadata.uid), owner(&self.pod.uid));
        if self.is_stale(claim) {
            return true;
        }
        if self.has_other_controller(claim) {
            return set.is_none() && pod.is_none();
        }
        let manages =
            |owner: Option<&OwnerReference>| owner.is_none_or(|owner| owner.controller == Some(true));
        manages(set) && manages(pod) && (set.is_some(), pod.is_some()) == self.wanted()
    }

    /// The owners that the claim should have.
    pub(super) fn owners(&self, claim: &Meta) -> Vec<OwnerReference> {
        let other = self.has_other_controller(claim);
        let rest = claim.owner_references.iter().filter(|owner| !self.is_set(owner) && !self.is_pod(owner));
        let mut owners: Vec<OwnerReference> = rest.cloned().collect();
        let (set, pod) = self.wanted();
        if set && !other {
            let meta = &self.set.metadata;
            owners.push(meta.controller_reference(StatefulSet::API_VERSION, StatefulSet::KIND));
        }
        if pod && !other {
            owners.push(self.pod.controller_reference(Pod::API_VERSION, Pod::KIND));
        }
        owners
    }
}

fn refers(owner: &OwnerReference, api_version: &str, kind: &str, meta: &Meta) -> bool {
    owner.api_version == *api_version && owner.kind == *kind && *owner.name == *meta.name
}

/// Whether a claim of the ordinal still goes with a pod of that name that is gone: a new pod must not get it.
pub(super) fn goes_with_an_earlier_pod(set: &StatefulSet, ordinal: i32, claim: &Meta) -> bool {
    let pod = Meta { name: plan::pod_name(set, ordinal), ..Meta::default() };
    let claims = Claims::of(set, ordinal, &pod);
    claims.deletes().0 && claim.owner_references.iter().any(|owner| claims.is_pod(owner))
}
