//! A strategy per resource: defaults, validation, columns, selectable fields, subresources. Pure, no HTTP.
//!
//! # What is not checked
//! `componentstatuses` and the reviews are answered and not kept.
//!
//! Gaps in the kinds that have rules: of persistent volumes the names of CSI secrets, of claims updates and status, of nodes addresses
//! given twice are not checked; limit ranges and quotas take names of resources that upstream refuses; errors show a list
//! or map that is given and empty as null. With many faults in one pod their order is not always upstream's.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod binding;
pub mod columns;
pub mod conversion;
pub mod custom;
mod declared;
mod gated;
pub mod internal;
pub mod kind;
pub mod kinds;
pub mod meta;
mod net;
pub mod privileged;
pub mod profile;
pub mod references;
mod resets;
pub mod rules;
pub mod selectable;
pub mod strategy;
pub mod tree;

#[cfg(test)]
mod tests;

pub use kind::Kind;
pub use kinds::scale;
