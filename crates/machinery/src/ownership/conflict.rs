//! Conflicts: fields that an applied configuration would change although others own them.

use std::collections::BTreeMap;

use api::status::{Cause, Details, Status};

use super::managers::{Manager, Operation};
use super::{Element, Set};
use crate::fieldpath::Quoted;

/// A field, and the manager that owns it.
#[derive(Clone, Debug)]
pub struct Conflict {
    pub manager: Manager,
    /// Elements from the object to the field.
    pub path: Vec<Element>,
}

impl Conflict {
    fn path(&self) -> String {
        self.path.iter().map(Element::to_string).collect()
    }

    fn owner(&self) -> String {
        let Manager { name, operation, api_version, subresource } = &self.manager;
        let mut text = Quoted(name).to_string();
        if !subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", Quoted(subresource)));
        }
        if *operation == Operation::Update {
            text.push_str(&format!(" using {api_version}"));
        }
        text
    }
}

/// All conflicts of an apply, by manager.
#[derive(Clone, Debug, Default)]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    /// The conflicts with managers that own these fields.
    pub(super) fn of(mut owned: Vec<(Manager, Set)>) -> Conflicts {
        owned.sort_by_cached_key(|(manager, _)| manager.identifier());
        let mut conflicts = Vec::new();
        for (manager, set) in owned {
            each_path(&set, &mut Vec::new(), &mut |path| {
                conflicts.push(Conflict { manager: manager.clone(), path: path.to_vec() });
            });
        }
        Conflicts(conflicts)
    }

    fn message(&self) -> String {
        if let [only] = &self.0[..] {
            return format!("Apply failed with 1 conflict: conflict with {}: {}", only.owner(), only.path());
        }
        let mut by_manager: BTreeMap<Vec<u8>, Vec<&Conflict>> = BTreeMap::new();
        for conflict in &self.0 {
            by_manager.entry(conflict.manager.identifier()).or_default().push(conflict);
        }
        let mut lines = Vec::with_capacity(self.0.len() + by_manager.len());
        for conflicts in by_manager.values() {
            lines.push(format!("conflicts with {}:", conflicts[0].owner()));
            lines.extend(conflicts.iter().map(|conflict| format!("- {}", conflict.path())));
        }
        format!("Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}

/// A level's own members first, then those below it.
fn each_path(set: &Set, path: &mut Vec<Element>, each: &mut impl FnMut(&[Element])) {
    for node in set.nodes.iter().filter(|node| node.member) {
        path.push(node.element.clone());
        each(path);
        path.pop();
    }
    for node in &set.nodes {
        path.push(node.element.clone());
        each_path(&node.below, path, each);
        path.pop();
    }
}

impl From<Conflicts> for Status {
    fn from(conflicts: Conflicts) -> Status {
        let causes = conflicts.0.iter().map(|conflict| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", conflict.owner()),
            field: conflict.path(),
        });
        let details = Details { causes: causes.collect(), ..Details::default() };
        let mut status = Status::failure(409, "Conflict", conflicts.message());
        status.details = Some(details);
        status
    }
}
