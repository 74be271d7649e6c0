//! What scheduling knows of the cluster: pods and nodes reduced to what matters, and the table of
//! nodes with what is placed on them. Pure data, changed by difference.

pub mod counts;
pub mod facts;
pub mod namespace;
pub mod node;
mod nominations;
pub mod pod;
pub mod resources;
pub mod row;
pub mod selector;
pub mod symbol;
pub mod table;
pub mod terms;
mod topology;

pub use client::Shared;
pub use facts::Facts;
pub use namespace::{Namespace, Namespaces};
pub use node::{Effect, Node, Taint};
pub use pod::{Needs, Pod, Port, Toleration};
pub use resources::{Resource, Resources};
pub use row::{NodeView, Row, Usage};
pub use symbol::Symbol;
pub use table::Table;
