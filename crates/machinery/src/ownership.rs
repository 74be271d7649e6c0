//! Ownership of fields: server-side apply and `managedFields` (KEP-555). Pure.
//!
//! A [`Set`] of fields is a trie of path elements. An object and its [`types::Type`] give the set of what it states
//! ([`extract`]), two objects give what differs between them ([`compare`]), and from both follow the entries of
//! `metadata.managedFields` after an update ([`update`]) and after an apply ([`apply`]), which also merges the object.
//! The clock and the conversion between versions are passed in.

pub mod apply;
pub mod compare;
pub mod conflict;
mod element;
pub mod extract;
pub mod managers;
pub mod merge;
pub mod prune;
pub mod reset;
pub mod scale;
mod set;
pub mod stale;
mod text;
pub mod types;
pub mod update;
mod upgrade;
pub mod validate;
#[cfg(test)]
mod work;

pub use element::Element;
pub use set::{Node, Set};
pub use text::Malformed;

#[cfg(test)]
mod tests;
