//! Owners that no watch shows, or none any more: whether they exist has to be asked.

use client::ResourceRef;

use super::absent::Named;
use super::{Graph, Identity, Node, Todo, Uid, named};

/// What the API server says of an owner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::controllers::cleanup::garbage) enum Answer {
    Alive,
    Absent,
    /// The reference can never be right, which is no reason to delete anything.
    Unreachable,
}

/// The consequence of an answer about an owner that was never seen.
#[derive(Debug, PartialEq)]
pub(in crate::controllers::cleanup::garbage) enum Verified {
    /// Nothing is left to do.
    Settled,
    /// It is alive, and no watch has shown it: should it go before one does, nobody else would notice.
    AskAgain,
    /// It does not exist: its dependents are to be judged.
    Judge(Vec<Todo>),
}

impl Graph {
    /// What an owner known from references only was found to be.
    pub(in crate::controllers::cleanup::garbage) fn verified(
        &mut self,
        asked: &Identity,
        answer: Answer,
    ) -> Verified {
        match self.nodes.get(&asked.uid) {
            Some(node) if node.virtual_ => match answer {
                Answer::Absent => Verified::Judge(self.absent(asked)),
                Answer::Alive => Verified::AskAgain,
                Answer::Unreachable => Verified::Settled,
            },
            _ => Verified::Settled,
        }
    }

    /// Nobody is where some references have an owner, so those that made them are to be judged. The others mean
    /// somebody else, who is asked for in turn.
    fn absent(&mut self, asked: &Identity) -> Vec<Todo> {
        let Some(node) = self.nodes.remove(&asked.uid) else { return Vec::new() };
        let gone = Named::new(&asked.api_version, &asked.kind, &asked.name, &asked.uid, &asked.namespace);
        self.absent.add(gone.clone());
        let mut todo = Vec::new();
        for uid in node.dependents {
            let Some(dependent) = self.nodes.get(&uid) else { continue };
            let namespace = dependent.identity.namespace.clone();
            for owner in dependent.owners.clone().iter().filter(|owner| owner.uid == asked.uid) {
                if named(owner, &namespace) == gone {
                    todo.push(Todo(uid.clone()));
                } else {
                    todo.extend(self.add_dependent(owner, &namespace, &uid));
                }
            }
        }
        todo
    }

    /// A resource is no longer watched: what is known of its objects may not be true any more. They stay as owners
    /// that were never seen, and are to be asked for.
    pub(in crate::controllers::cleanup::garbage) fn forget(&mut self, resource: &ResourceRef) -> Vec<Todo> {
        let of_it = |node: &Node| node.identity.resource.as_deref() == Some(resource);
        let known: Vec<Uid> =
            self.nodes.iter().filter(|(_, node)| of_it(node)).map(|(uid, _)| uid.clone()).collect();
        let mut todo = Vec::new();
        for uid in known {
            let Some(node) = self.nodes.get_mut(&uid) else { continue };
            if node.dependents.is_empty() {
                todo.extend(self.remove(&uid));
                continue;
            }
            let owners = std::mem::take(&mut node.owners);
            node.identity.resource = None;
            (node.virtual_, node.deleting, node.foreground, node.orphan) = (true, false, false, false);
            todo.extend(self.leave(&uid, &owners));
            todo.push(Todo(uid));
        }
        todo
    }
}
