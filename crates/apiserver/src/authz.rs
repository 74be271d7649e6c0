//! Rights that show only when an object is written.

pub mod changes;
pub mod escalation;
