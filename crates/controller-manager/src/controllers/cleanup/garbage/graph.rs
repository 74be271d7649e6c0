//! Who owns whom, and what follows from it. Pure: what happens to an object is judged from the graph and from
//! what was found out about owners that are not in it.

mod absent;
mod doubt;

use std::collections::HashMap;
use std::sync::Arc;

use client::{Propagation, ResourceRef, Text};
use rustc_hash::{FxHashMap, FxHashSet};

pub(super) use absent::Named;
use absent::{Absent, group};
use controllers::views::OwnerReference as Owner;
pub(super) use doubt::{Answer, Verified};

type Uid = Text;

/// The owner a reference names, on an object of this namespace.
pub(super) fn named(owner: &Owner, namespace: &str) -> Named {
    Named::new(&owner.api_version, &owner.kind, &owner.name, &owner.uid, namespace)
}

/// An object as a watch reported it.
pub(super) struct Seen<'a> {
    pub(super) resource: Arc<ResourceRef>,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) uid: &'a Uid,
    pub(super) version: &'a str,
    pub(super) owners: &'a [Owner],
    pub(super) deleting: bool,
    /// Waits for its dependents to be deleted first.
    pub(super) foreground: bool,
    /// Waits for its dependents to be freed first.
    pub(super) orphan: bool,
}

/// How to name an object to the API server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    /// None for an owner that is known from references only.
    pub(super) resource: Option<Arc<ResourceRef>>,
    pub(super) api_version: Text,
    pub(super) kind: Text,
    pub(super) namespace: Text,
    pub(super) name: Box<str>,
    pub(super) uid: Uid,
    pub(super) version: Box<str>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Todo(pub(super) Uid);

/// What to do about an object.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Keep,
    /// Find out whether this owner exists at all.
    Verify,
    /// Write these owners to the dependents, then drop the `orphan` finalizer.
    Orphan(Vec<(Identity, Vec<Owner>)>),
    /// Nothing blocks its deletion any more.
    Release,
    /// It waits for these.
    DeleteDependents(Vec<Uid>),
    /// Only these owners are left.
    Disown(Vec<Owner>),
    Delete {
        propagation: Propagation,
        /// Owners to write first, without blocking, because the object is part of a circle.
        unblock: Option<Vec<Owner>>,
    },
}

struct Node {
    identity: Identity,
    owners: Box<[Owner]>,
    dependents: FxHashSet<Uid>,
    /// Never seen by a watch.
    virtual_: bool,
    deleting: bool,
    foreground: bool,
    orphan: bool,
}

impl Node {
    /// Whether nothing has changed but the version.
    fn is_as_seen(&self, seen: &Seen) -> bool {
        !self.virtual_
            && (self.deleting, self.foreground, self.orphan) == (seen.deleting, seen.foreground, seen.orphan)
            && *self.owners == *seen.owners
            && self.identity.resource.as_deref() == Some(&*seen.resource)
    }
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: FxHashMap<Uid, Box<Node>>,
    absent: Absent,
}

impl Graph {
    pub(super) fn insert(&mut self, seen: Seen) -> Vec<Todo> {
        if let Some(node) = self.nodes.get_mut(seen.uid).filter(|node| node.is_as_seen(&seen)) {
            // Most changes say nothing of owners: a lease that is renewed, a status.
            node.identity.version = seen.version.into();
            return Vec::new();
        }
        let uid = seen.uid.clone();
        let mut todo = Vec::new();
        let dependents = match self.nodes.get_mut(&uid) {
            Some(node) => std::mem::take(&mut node.dependents),
            None => FxHashSet::default(),
        };
        let before = self.nodes.get(&uid);
        let was_waiting = before.is_some_and(|node| node.deleting && (node.foreground || node.orphan));
        let old_owners = before.map(|node| node.owners.clone()).unwrap_or_default();
        let was_virtual = before.is_some_and(|node| node.virtual_);
        let identity = Identity {
            api_version: seen.resource.api_version().into(),
            kind: (&*seen.resource.kind).into(),
            resource: Some(seen.resource),
            namespace: seen.namespace.into(),
            name: seen.name.into(),
            uid: uid.clone(),
            version: seen.version.into(),
        };
        // A dependent whose reference names the owner wrongly (another namespace or kind) is to be judged.
        if was_virtual {
            let known = &self.nodes[&uid].identity;
            if (&known.namespace, &known.kind, &known.name)
                != (&identity.namespace, &identity.kind, &identity.name)
            {
                todo.extend(dependents.iter().cloned().map(Todo));
            }
        }
        let node = Node {
            identity,
            owners: seen.owners.into(),
            dependents,
            virtual_: false,
            deleting: seen.deleting,
            foreground: seen.foreground,
            orphan: seen.orphan,
        };
        let waiting = node.deleting && (node.foreground || node.orphan);
        self.nodes.insert(uid.clone(), Box::new(node));

        if *old_owners != *seen.owners {
            for old in &old_owners {
                let kept = seen.owners.iter().find(|owner| owner.uid == old.uid);
                if kept.is_none() {
                    self.part(&old.uid, &uid);
                }
                let unblocked = old.block_owner_deletion == Some(true)
                    && kept.is_none_or(|owner| owner.block_owner_deletion != Some(true));
                if unblocked && self.waits(&old.uid) {
                    todo.push(Todo(old.uid.clone()));
                }
            }
            for owner in seen.owners {
                todo.extend(self.add_dependent(owner, seen.namespace, &uid));
            }
        }
        if waiting && !was_waiting {
            todo.push(Todo(uid.clone()));
            if seen.foreground {
                todo.extend(self.nodes[&uid].dependents.iter().cloned().map(Todo));
            }
        }
        todo
    }

    /// Makes `uid` a dependent of an owner, who is put into the graph if need be.
    fn add_dependent(&mut self, owner: &Owner, namespace: &str, uid: &Uid) -> Vec<Todo> {
        if let Some(node) = self.nodes.get_mut(&*owner.uid) {
            node.dependents.insert(uid.clone());
            let known = &node.identity;
            let misnamed = known.kind != owner.kind
                || *known.name != *owner.name
                || (!known.namespace.is_empty() && *known.namespace != *namespace);
            // A new dependent of someone who is going has to go too.
            let going = node.deleting && node.foreground;
            return if misnamed || going { vec![Todo(uid.clone())] } else { Vec::new() };
        }
        if self.absent.has(&named(owner, namespace)) {
            return vec![Todo(uid.clone())];
        }
        let owner_uid = owner.uid.clone();
        let node = Node {
            identity: Identity {
                resource: None,
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                namespace: namespace.into(),
                name: owner.name.as_ref().into(),
                uid: owner.uid.clone(),
                version: Box::default(),
            },
            owners: Box::default(),
            dependents: [uid.clone()].into_iter().collect(),
            virtual_: true,
            deleting: false,
            foreground: false,
            orphan: false,
        };
        self.nodes.insert(owner_uid.clone(), Box::new(node));
        vec![Todo(owner_uid)]
    }

    /// A watch saw the object go.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Todo> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut todo = self.leave(uid, &node.owners);
        if !node.dependents.is_empty() {
            self.note_gone(&node);
            todo.extend(node.dependents.into_iter().map(Todo));
        }
        todo
    }

    /// Takes an object from the dependents of its owners.
    fn leave(&mut self, uid: &str, owners: &[Owner]) -> Vec<Todo> {
        let mut todo = Vec::new();
        for owner in owners {
            self.part(&owner.uid, uid);
            if self.waits(&owner.uid) {
                todo.push(Todo(owner.uid.clone()));
            }
        }
        todo
    }

    /// `uid` is no dependent of the owner any more. An owner that is known from references only goes with the last one.
    fn part(&mut self, owner: &Uid, uid: &str) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(uid);
        if node.virtual_ && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    fn note_gone(&mut self, node: &Node) {
        let namespaces: FxHashSet<Text> = node
            .dependents
            .iter()
            .filter_map(|uid| self.nodes.get(uid))
            .map(|dependent| dependent.identity.namespace.clone())
            // Objects in other namespaces cannot refer to it, so its absence proves nothing about their owners.
            .filter(|namespace| node.identity.namespace.is_empty() || *namespace == node.identity.namespace)
            .collect();
        let gone = &node.identity;
        for namespace in namespaces {
            self.absent.add(Named::new(&gone.api_version, &gone.kind, &gone.name, &gone.uid, &namespace));
        }
    }

    /// Owners that were found to be gone may be back.
    pub(super) fn forget_absent(&mut self) {
        self.absent = Absent::default();
    }

    pub(super) fn note_absent(&mut self, owner: &Owner, namespace: &str) {
        self.absent.add(named(owner, namespace));
    }

    /// Whether the owner is there but in a namespace that an object of this one cannot refer to.
    pub(super) fn lives_elsewhere(&self, owner: &Owner, namespace: &str) -> bool {
        self.nodes.get(&*owner.uid).is_some_and(|node| {
            let known = &node.identity;
            !node.virtual_
                && known.kind == owner.kind
                && *known.name == *owner.name
                && !known.namespace.is_empty()
                && *known.namespace != *namespace
        })
    }

    pub(super) fn identity(&self, uid: &str) -> Option<&Identity> {
        self.nodes.get(uid).map(|node| &node.identity)
    }

    fn waits(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| node.deleting && node.foreground)
    }

    /// What to do about an object, or which owners must be asked for first, with the namespace they would be in.
    /// `answers` says for each owner that was asked for whether it is alive.
    #[expect(clippy::type_complexity, reason = "either an answer or the questions")]
    pub(super) fn judge(
        &self,
        uid: &str,
        answers: &HashMap<Named, bool>,
    ) -> Result<Option<(Identity, Verdict)>, Vec<(Owner, Text)>> {
        let Some(node) = self.nodes.get(uid) else { return Ok(None) };
        let answer = |verdict| Ok(Some((node.identity.clone(), verdict)));
        if node.virtual_ {
            return answer(Verdict::Verify);
        }
        if node.deleting {
            return if node.orphan {
                answer(Verdict::Orphan(self.freed(node)))
            } else if node.foreground {
                answer(self.foreground(node))
            } else {
                Ok(None)
            };
        }
        if node.owners.is_empty() {
            return Ok(None);
        }
        let (mut solid, mut waiting, mut unknown) = (Vec::new(), false, Vec::new());
        for owner in &node.owners {
            match self.state(owner, &node.identity.namespace, answers) {
                State::Alive => solid.push(owner.clone()),
                State::Going => waiting = true,
                State::Gone => {}
                State::Unknown => unknown.push((owner.clone(), node.identity.namespace.clone())),
            }
        }
        if !unknown.is_empty() {
            return Err(unknown);
        }
        if solid.len() == node.owners.len() {
            return answer(Verdict::Keep);
        }
        if !solid.is_empty() {
            return answer(Verdict::Disown(solid));
        }
        if waiting && !node.dependents.is_empty() {
            let circle = node.dependents.iter().any(|dependent| self.waits(dependent));
            let blocking = node.owners.iter().any(|owner| owner.block_owner_deletion == Some(true));
            let unblocked = |owner: &Owner| Owner { block_owner_deletion: Some(false), ..owner.clone() };
            let unblock = (circle && blocking).then(|| node.owners.iter().map(unblocked).collect());
            return answer(Verdict::Delete { propagation: Propagation::Foreground, unblock });
        }
        let propagation = if node.orphan {
            Propagation::Orphan
        } else if node.foreground {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        answer(Verdict::Delete { propagation, unblock: None })
    }

    /// The dependents of an object that orphans them, with the owners left to each.
    fn freed(&self, node: &Node) -> Vec<(Identity, Vec<Owner>)> {
        let free = |dependent: &Uid| {
            let dependent = self.nodes.get(dependent)?;
            let left =
                dependent.owners.iter().filter(|owner| owner.uid != node.identity.uid).cloned().collect();
            Some((dependent.identity.clone(), left))
        };
        node.dependents.iter().filter_map(free).collect()
    }

    /// An object that waits for its dependents: those that block it have to go first.
    fn foreground(&self, node: &Node) -> Verdict {
        let blocks = |dependent: &&Uid| {
            self.nodes.get(*dependent).is_some_and(|dependent| {
                dependent
                    .owners
                    .iter()
                    .any(|owner| owner.uid == node.identity.uid && owner.block_owner_deletion == Some(true))
            })
        };
        let blocking: Vec<Uid> = node.dependents.iter().filter(blocks).cloned().collect();
        if blocking.is_empty() {
            return Verdict::Release;
        }
        let idle = |uid: &Uid| self.nodes.get(uid).is_some_and(|dependent| !dependent.deleting);
        Verdict::DeleteDependents(blocking.into_iter().filter(idle).collect())
    }

    fn state(&self, owner: &Owner, namespace: &str, answers: &HashMap<Named, bool>) -> State {
        if let Some(node) = self.nodes.get(&*owner.uid).filter(|node| !node.virtual_) {
            let known = &node.identity;
            let right = known.kind == owner.kind
                && *known.name == *owner.name
                && group(&known.api_version) == group(&owner.api_version)
                && (known.namespace.is_empty() || *known.namespace == *namespace);
            if right {
                return if node.deleting && node.foreground { State::Going } else { State::Alive };
            }
        }
        let named = named(owner, namespace);
        if self.absent.has(&named) {
            return State::Gone;
        }
        match answers.get(&named) {
            Some(true) => State::Alive,
            Some(false) => State::Gone,
            None => State::Unknown,
        }
    }
}

#[derive(PartialEq)]
enum State {
    Alive,
    /// Waits for its dependents to go first.
    Going,
    Gone,
    Unknown,
}
