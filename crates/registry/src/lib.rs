//! A strategy per resource: defaults, validation, columns, selectable fields, subresources; and the admission
//! plugins. Pure but for admission plugins that read caches. No HTTP.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admission;
pub mod binding;
pub mod columns;
pub mod generic;
mod internal;
pub mod kinds;
pub mod meta;
pub mod privileged;
pub mod rules;
pub mod selectable;
pub mod strategy;
pub mod tree;

#[cfg(test)]
mod tests;

pub use generic::{coverage, strategy_for};
pub use kinds::scale;
