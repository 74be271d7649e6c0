//! Interned text: names of nodes, resources and schedulers, labels, taints. They are compared far more often than made,
//! and so by their address. A text that no object uses any more is freed, whoever brought it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use client::Text;

/// A text of which the process has one copy.
#[derive(Clone, Default)]
pub struct Symbol(Text);

impl Symbol {
    pub fn new(text: &str) -> Symbol {
        Symbol(Text::from(text))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }

    /// The text itself, shared.
    pub fn to_arc(&self) -> Arc<str> {
        self.0.clone().into()
    }

    /// Equal texts have one address, and the empty one has none.
    fn address(&self) -> usize {
        if self.is_empty() { 0 } else { self.as_str().as_ptr() as usize }
    }
}

impl PartialEq for Symbol {
    fn eq(&self, other: &Symbol) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Symbol {}

impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.address());
    }
}

/// Some order, for binary searches.
impl Ord for Symbol {
    fn cmp(&self, other: &Symbol) -> std::cmp::Ordering {
        self.address().cmp(&other.address())
    }
}

impl PartialOrd for Symbol {
    fn partial_cmp(&self, other: &Symbol) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}
