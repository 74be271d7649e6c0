//! What the API's rules are made of: selectors, quantities, names, field paths, patches and ownership of fields. Pure
//! functions over trees and the model; the error texts are the API's.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bounds;
pub mod difference;
pub mod fieldpath;
pub mod fields;
pub mod intstr;
pub mod jsonpath;
pub mod labels;
pub mod names;
pub mod ownership;
pub mod patch;
pub mod quantity;
pub mod quota;
pub mod shape;
pub mod versions;

pub use fieldpath::Path;
pub use quantity::Quantity;
