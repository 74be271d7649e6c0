//! Conflicts: fields that an applied configuration would change although others own them.

use api::status::{Cause, MAX_CAUSES, Status};

use super::Set;
use super::managers::{Manager, Operation};
use crate::fieldpath::Quoted;

/// Bytes of paths and messages in one answer, from which on no more are listed.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// All conflicts of an apply: managers, and their fields that it would change.
#[derive(Clone, Debug, Default)]
pub struct Conflicts(Vec<(Manager, Set)>);

impl Conflicts {
    /// The conflicts with managers that own these fields.
    pub(super) fn of(mut owned: Vec<(Manager, Set)>) -> Conflicts {
        owned.sort_by_cached_key(|(manager, _)| manager.identifier());
        Conflicts(owned)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those about other fields.
    pub(super) fn without(self, fields: &Set) -> Conflicts {
        let others = self.0.into_iter().map(|(manager, set)| (manager, set.difference(fields)));
        Conflicts(others.filter(|(_, set)| !set.is_empty()).collect())
    }
}

fn owner(manager: &Manager) -> String {
    let Manager { name, operation, api_version, subresource } = manager;
    let mut text = Quoted(name).to_string();
    if !subresource.is_empty() {
        text.push_str(&format!(" with subresource {}", Quoted(subresource)));
    }
    if *operation == Operation::Update {
        text.push_str(&format!(" using {api_version}"));
    }
    text
}

/// The paths of fields, as far as a reader goes.
#[derive(Default)]
struct Paths {
    /// Of the level that is walked.
    prefix: String,
    found: Vec<String>,
    /// Of all that is found and what is said about it.
    bytes: usize,
}

impl Paths {
    fn is_full(&self) -> bool {
        self.found.len() >= MAX_CAUSES || self.bytes > MAX_BYTES
    }

    /// Adds a level's own members, then those below it.
    fn add(&mut self, set: &Set, about: usize) {
        for node in set.nodes.iter().filter(|node| node.member) {
            if self.is_full() {
                return;
            }
            let path = format!("{}{}", self.prefix, node.element.in_path());
            self.bytes += path.len() + about;
            self.found.push(path);
        }
        for node in set.nodes.iter().filter(|node| !node.below.is_empty()) {
            if self.is_full() {
                return;
            }
            let length = self.prefix.len();
            self.prefix.push_str(&node.element.in_path());
            self.add(&node.below, about);
            self.prefix.truncate(length);
        }
    }
}

impl From<Conflicts> for Status {
    fn from(conflicts: Conflicts) -> Status {
        let count: usize = conflicts.0.iter().map(|(_, set)| set.count()).sum();
        let mut paths = Paths::default();
        let mut causes: Vec<Cause> = Vec::new();
        let mut lines = Vec::new();
        for (manager, set) in &conflicts.0 {
            if paths.is_full() {
                break;
            }
            let owner = owner(manager);
            let known = paths.found.len();
            paths.add(set, owner.len());
            let found = &paths.found[known..];
            lines.push(format!("conflicts with {owner}:"));
            lines.extend(found.iter().map(|path| format!("- {path}")));
            causes.extend(found.iter().map(|path| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {owner}"),
                field: path.clone(),
            }));
        }
        if count > causes.len() {
            lines.push(format!("and {} more", count - causes.len()));
        }
        let message = match (&causes[..], count) {
            ([only], 1) => format!("Apply failed with 1 conflict: {}: {}", only.message, only.field),
            _ => format!("Apply failed with {count} conflicts: {}", lines.join("\n")),
        };
        Status::apply_conflict(causes, message)
    }
}
