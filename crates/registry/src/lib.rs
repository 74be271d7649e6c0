//! A strategy per resource: defaults, validation, columns, selectable fields, subresources. Pure, no HTTP.
//!
//! # What is not checked
//! `componentstatuses` and the reviews are answered and not kept.
//!
//! Gaps in the kinds whose rules are complete: expressions in CEL (of match conditions, policies and device selectors) are
//! taken as they come; errors show a list or map that is given and empty as null.

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
