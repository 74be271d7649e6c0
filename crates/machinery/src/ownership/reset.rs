//! Fields whose changes a strategy undoes, so that nobody gets to own them by asking: the status of an object that is
//! not written through its `status` subresource, and the other way around.

use super::{Element, Set};

/// What a strategy resets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    #[default]
    Nothing,
    /// These fields, with all that is below them.
    Fields(Set),
    /// All but what these patterns lead to, and what is below that.
    AllBut(&'static [&'static [Step]]),
}

/// A step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Field(&'static str),
    Any,
}

impl Step {
    fn leads_to(self, element: &Element) -> bool {
        match (self, element) {
            (Step::Any, _) => true,
            (Step::Field(name), Element::Field(field)) => field == name,
            _ => false,
        }
    }
}

impl Reset {
    /// The fields that are left to be owned.
    pub fn filter(&self, set: Set) -> Set {
        match self {
            Reset::Nothing => set,
            Reset::Fields(fields) => set.without_trees(fields),
            Reset::AllBut(patterns) => matching(set, patterns),
        }
    }
}

fn matching(set: Set, patterns: &[&[Step]]) -> Set {
    if patterns.iter().any(|pattern| pattern.is_empty()) {
        return set;
    }
    let mut kept = Vec::new();
    for mut node in set.nodes {
        let leading = patterns.iter().filter(|pattern| pattern[0].leads_to(&node.element));
        let rest: Vec<&[Step]> = leading.map(|pattern| &pattern[1..]).collect();
        if rest.is_empty() {
            continue;
        }
        node.below = matching(node.below, &rest);
        if node.member || !node.below.nodes.is_empty() {
            kept.push(node);
        }
    }
    Set { nodes: kept }
}
