//! What to do next for one deployment: pure arithmetic over it and its replica sets.
//!
//! A plan is made of one snapshot. Its status counts the scaling it orders as done in the specs (as the
//! API server will show them) and leaves what the replica sets report alone, so that executing a plan
//! twice, or half of it, is harmless: the next plan starts from the state it finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use controllers::hash::{self, POD_TEMPLATE_HASH};
use controllers::views::{Condition, Deployment, DeploymentStatus, Meta, ReplicaSet};

use super::rollback::{self, Rollback};
use super::{annotations, progress, rolling, sets};

/// A replica set as the plan goes: `replicas` is what it will be asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set<'a> {
    pub(super) view: &'a ReplicaSet,
    pub(super) replicas: i32,
}

impl Set<'_> {
    pub(super) fn name(&self) -> &str {
        &self.view.metadata.name
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A replica set for the current template.
    Create { name: String, hash: String, replicas: i32, annotations: BTreeMap<String, String> },
    /// Changes the size (`from` → `to`, with an event where they differ), annotations and readiness time of a replica set.
    Update { name: String, from: i32, to: i32, annotations: BTreeMap<String, String>, min_ready_seconds: i32 },
    /// An old replica set beyond the history limit.
    Delete { name: String },
    /// The template and annotations of an earlier revision, or the same ones without the wish to go back.
    Rollback(Rollback),
}

#[derive(Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// To be written where it differs from what the deployment has.
    pub status: DeploymentStatus,
    /// The deployment's revision annotation, where it changes.
    pub revision: Option<String>,
    /// Look again after so many seconds: a deadline, not an event, is next.
    pub again: Option<u64>,
}

pub struct Input<'a> {
    pub deployment: &'a Deployment,
    /// Replica sets that it owns, in any order.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Whether the replica set with this uid has pods that still run; asked only when recreating.
    pub has_running_pods: &'a dyn Fn(&str) -> bool,
    pub now: jiff::Timestamp,
}

/// The state of a plan in the making.
pub(super) struct Draft<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) old: Vec<Set<'a>>,
    pub(super) new: Option<Set<'a>>,
    actions: Vec<Action>,
    status: DeploymentStatus,
    revision: Option<String>,
    now: jiff::Timestamp,
}

pub fn plan(input: &Input) -> Plan {
    let deployment = input.deployment;
    let (new, old) = sets::split(deployment, input.sets);
    let as_set = |view: &'_ ReplicaSet| view.spec.replicas;
    let mut draft = Draft {
        deployment,
        old: old.into_iter().map(|view| Set { view, replicas: as_set(view) }).collect(),
        new: new.map(|view| Set { view, replicas: as_set(view) }),
        actions: Vec::new(),
        status: deployment.status.clone(),
        revision: None,
        now: input.now,
    };

    if deployment.metadata.is_deleting() {
        return draft.status_only();
    }
    progress::note_pause(deployment, &mut draft.status, input.now);
    if let Some(revision) = rollback::wanted(deployment).filter(|_| !deployment.spec.paused) {
        draft.sync_new(true);
        if draft.new.is_some() {
            draft.actions.push(Action::Rollback(rollback::rollback(deployment, input.sets, revision)));
        }
        return draft.unchanged();
    }
    if deployment.spec.paused || scaling(deployment, input.sets) {
        draft.sync_new(false);
        draft.scale();
        if deployment.spec.paused {
            draft.clean_up();
        }
        return draft.status_only();
    }
    if deployment.spec.strategy.type_ == "Recreate" {
        draft.recreate(input.has_running_pods);
    } else {
        draft.roll();
    }
    draft.finish()
}

/// The deployment was resized: some active set was last sized for another number.
fn scaling(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
    sets.iter().filter(|set| set.spec.replicas > 0).any(|set| {
        annotations::desired(&set.metadata).is_some_and(|desired| desired != deployment.spec.replicas)
    })
}

impl Draft<'_> {
    fn roll(&mut self) {
        self.sync_new(true);
        if !self.scale_new()
            && !self.scale_old()
            && progress::complete(self.deployment, &self.deployment.status)
        {
            self.clean_up();
        }
    }

    fn recreate(&mut self, has_running_pods: &dyn Fn(&str) -> bool) {
        self.sync_new(false);
        let mut stopped = false;
        for index in 0..self.old.len() {
            if self.old[index].replicas > 0 {
                self.resize_old(index, 0);
                stopped = true;
            }
        }
        let runs = |set: &Set| set.view.status.replicas > 0 || has_running_pods(&set.view.metadata.uid);
        if stopped || self.old.iter().any(runs) {
            return;
        }
        self.sync_new(true);
        self.scale_new();
        if progress::complete(self.deployment, &self.deployment.status) {
            self.clean_up();
        }
    }

    /// Brings the new set's annotations and revision up to date; creates it where there is none.
    fn sync_new(&mut self, create: bool) {
        let deployment = self.deployment;
        let revision =
            self.old.iter().map(|set| annotations::revision(&set.view.metadata)).max().unwrap_or(0) + 1;
        if let Some(new) = self.new.clone() {
            let mut wanted = new.view.metadata.annotations.clone();
            annotations::refresh(&mut wanted, deployment, revision);
            let seconds = deployment.spec.min_ready_seconds;
            if wanted != new.view.metadata.annotations || seconds != new.view.spec.min_ready_seconds {
                let action = Action::Update {
                    name: new.name().to_owned(),
                    from: new.replicas,
                    to: new.replicas,
                    annotations: wanted.clone(),
                    min_ready_seconds: seconds,
                };
                self.merge(action);
            }
            let name = new.name().to_owned();
            if let Some(revision) = wanted.get(annotations::REVISION) {
                self.set_revision(revision.clone());
            }
            progress::note_set(deployment, &mut self.status, self.now, "FoundNewReplicaSet", || {
                format!("Found new replica set {name:?}")
            });
            return;
        }
        if !create || self.actions.iter().any(|action| matches!(action, Action::Create { .. })) {
            return;
        }
        let hash = hash::hash(&deployment.spec.template, deployment.status.collision_count);
        let name = sets::name(&deployment.metadata.name, &hash);
        let current = self.old.iter().map(|set| set.replicas).sum();
        let replicas = rolling::new_size(deployment, 0, current);
        let mut wanted = BTreeMap::new();
        annotations::refresh(&mut wanted, deployment, revision);
        annotations::size(&mut wanted, deployment);
        self.set_revision(revision.to_string());
        progress::set_progressing(
            &mut self.status,
            self.now,
            deployment,
            "True",
            "NewReplicaSetCreated",
            || format!("Created new replica set {name:?}"),
        );
        self.actions.push(Action::Create { name, hash, replicas, annotations: wanted });
    }

    fn set_revision(&mut self, revision: String) {
        if self.deployment.metadata.annotation(annotations::REVISION) != Some(&revision) {
            self.revision = Some(revision);
        }
    }

    /// Returns whether anything was resized, or created in the first place.
    fn scale_new(&mut self) -> bool {
        let current: i32 = self.old.iter().chain(&self.new).map(|set| set.replicas).sum();
        let Some(new) = &self.new else { return true };
        let wanted = rolling::new_size(self.deployment, new.replicas, current);
        let changed = wanted != new.replicas;
        self.resize_new(wanted);
        changed
    }

    fn scale_old(&mut self) -> bool {
        let Some(new) = &self.new else { return false };
        let sizes = rolling::shrink_old(self.deployment, new, &self.old);
        let mut changed = false;
        for (index, size) in sizes.into_iter().enumerate() {
            changed |= size != self.old[index].replicas;
            self.resize_old(index, size);
        }
        changed
    }

    /// Grows or shrinks the existing replica sets in proportion, after a resize of the deployment.
    fn scale(&mut self) {
        let sets: Vec<_> = self.old.iter().chain(&self.new).cloned().collect();
        for (name, size) in rolling::proportional(self.deployment, &sets, self.new.as_ref()) {
            if self.new.as_ref().is_some_and(|new| new.name() == name) {
                self.resize_new_for_size(size);
            } else if let Some(index) = self.old.iter().position(|set| set.name() == name) {
                self.resize_old_for_size(index, size);
            }
        }
    }

    fn resize_new(&mut self, size: i32) {
        if self.new.as_ref().is_some_and(|new| new.replicas != size) {
            self.resize_new_for_size(size);
        }
    }

    fn resize_old(&mut self, index: usize, size: i32) {
        if self.old[index].replicas != size {
            self.resize_old_for_size(index, size);
        }
    }

    fn resize_new_for_size(&mut self, size: i32) {
        let Some(new) = &mut self.new else { return };
        let action = resized(self.deployment, new, size);
        new.replicas = size;
        self.merge(action);
    }

    fn resize_old_for_size(&mut self, index: usize, size: i32) {
        let set = &mut self.old[index];
        let action = resized(self.deployment, set, size);
        set.replicas = size;
        self.merge(action);
    }

    /// One update per set: a later one takes over what an earlier one meant to write.
    fn merge(&mut self, action: Action) {
        let Action::Update { name, from, to, annotations, min_ready_seconds } = action else {
            self.actions.push(action);
            return;
        };
        let earlier = self.actions.iter_mut().find_map(|earlier| match earlier {
            Action::Update { name: other, to, annotations, min_ready_seconds, .. } if *other == name => {
                Some((to, annotations, min_ready_seconds))
            }
            _ => None,
        });
        match earlier {
            Some((earlier_to, earlier_annotations, _)) => {
                *earlier_to = to;
                for key in [annotations::DESIRED, annotations::MAX] {
                    if let Some(value) = annotations.get(key) {
                        earlier_annotations.insert(key.to_owned(), value.clone());
                    }
                }
            }
            None => {
                self.actions.push(Action::Update { name, from, to, annotations, min_ready_seconds });
            }
        }
    }

    /// Deletes old sets beyond the history limit, the oldest revisions first, and only empty ones.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit else { return };
        if limit == i32::MAX {
            return;
        }
        let mut candidates: Vec<&ReplicaSet> =
            self.old.iter().map(|set| set.view).filter(|set| !set.metadata.is_deleting()).collect();
        let surplus = candidates.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        candidates.sort_by_key(|set| (annotations::revision(&set.metadata), set.metadata.created()));
        for set in &candidates[..surplus] {
            let idle = set.status.replicas == 0
                && set.spec.replicas == 0
                && set.metadata.generation <= set.status.observed_generation;
            if idle {
                self.actions.push(Action::Delete { name: set.metadata.name.clone() });
            }
        }
    }

    /// The status as it is: what comes of the actions is planned next.
    fn unchanged(self) -> Plan {
        Plan { actions: self.actions, status: self.status, revision: self.revision, again: None }
    }

    /// A status without a judgement on progress: paused, resized, or being deleted.
    fn status_only(mut self) -> Plan {
        self.count();
        Plan { actions: self.actions, status: self.status, revision: self.revision, again: None }
    }

    fn finish(mut self) -> Plan {
        let before = self.status.clone();
        self.count();
        let failure = sets::failure(self.new.as_ref(), &self.old, self.now);
        let new_name = self.new.as_ref().map(|new| new.name().to_owned());
        progress::judge(self.deployment, &before, &mut self.status, new_name.as_deref(), failure, self.now);
        let again = progress::again(self.deployment, &self.status, self.now);
        Plan { actions: self.actions, status: self.status, revision: self.revision, again }
    }

    /// The counters, from what the replica sets report.
    fn count(&mut self) {
        let deployment = self.deployment;
        let all = || self.old.iter().chain(&self.new);
        let wanted: i32 = all().map(|set| set.replicas).sum();
        let available: i32 = all().map(|set| set.view.status.available_replicas).sum();
        let terminating: Option<Vec<i32>> = all().map(|set| set.view.status.terminating_replicas).collect();
        let created = self.actions.iter().map(|action| match action {
            Action::Create { replicas, .. } => *replicas,
            _ => 0,
        });
        let wanted = wanted + created.sum::<i32>();
        let mut status = DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            replicas: all().map(|set| set.view.status.replicas).sum(),
            updated_replicas: self.new.as_ref().map_or(0, |new| new.view.status.replicas),
            ready_replicas: all().map(|set| set.view.status.ready_replicas).sum(),
            available_replicas: available,
            unavailable_replicas: (wanted - available).max(0),
            terminating_replicas: terminating.map(|counts| counts.into_iter().sum()),
            conditions: std::mem::take(&mut self.status.conditions),
            collision_count: self.status.collision_count,
        };
        let enough = available >= deployment.spec.replicas - rolling::max_unavailable(deployment);
        let (state, reason, message) = if enough {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        progress::set_condition(
            &mut status.conditions,
            Condition {
                type_: "Available".to_owned(),
                status: state.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                ..progress::stamped(self.now)
            },
        );
        self.status = status;
    }
}

fn resized(deployment: &Deployment, set: &Set, size: i32) -> Action {
    let Meta { annotations, .. } = &set.view.metadata;
    let mut wanted = annotations.clone();
    annotations::size(&mut wanted, deployment);
    Action::Update {
        name: set.name().to_owned(),
        from: set.replicas,
        to: size,
        annotations: wanted,
        min_ready_seconds: set.view.spec.min_ready_seconds,
    }
}

/// The label, selector and template of a new set carry the hash.
pub(super) fn with_hash(template: &serde_json::Value, hash: &str) -> serde_json::Value {
    let mut template = template.clone();
    template["metadata"]["labels"][POD_TEMPLATE_HASH] = hash.into();
    template
}
