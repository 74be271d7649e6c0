//! A strategy per resource: defaults, validation, columns, selectable fields, subresources. Pure, no HTTP.
//!
//! # What is not checked
//! These kinds have the rules that all share (metadata, immutable identity, status kept apart, generation) and, of
//! their own, at most defaults. What is wrong in their specs is stored as it comes:
//! `apiservices`,
//! `validatingadmissionpolicies`, `validatingadmissionpolicybindings`, `mutatingadmissionpolicies`,
//! `mutatingadmissionpolicybindings`, `flowschemas`, `prioritylevelconfigurations`,
//! `podcertificaterequests`, `servicecidrs`, `csistoragecapacities`, `volumeattachments`,
//! `volumeattributesclasses`, `deviceclasses`, `devicetaintrules`, `resourceclaims`, `resourceclaimtemplates`,
//! `resourceslices`, `storageversionmigrations`, `componentstatuses`, and the reviews, which are answered and not kept.
//!
//! Gaps in the kinds whose rules are complete: the CEL of webhooks' match conditions is not checked; errors show a
//! list or map that is given and empty as null.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod binding;
pub mod columns;
pub mod conversion;
pub mod custom;
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
