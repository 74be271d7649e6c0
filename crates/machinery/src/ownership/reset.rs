//! Fields whose changes a strategy undoes, so that nobody gets to own them by asking: the status of an object that is
//! not written through its `status` subresource, and the other way around.

use super::Set;

/// What a strategy resets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    #[default]
    Nothing,
    /// These fields, with all that is below them.
    Fields(Set),
}

impl Reset {
    /// The fields that are left to be owned.
    pub fn filter(&self, set: Set) -> Set {
        match self {
            Reset::Nothing => set,
            Reset::Fields(fields) => set.without_trees(fields),
        }
    }
}
