//! What scheduling knows of the cluster: pods and nodes reduced to what matters, and the table of
//! nodes with what is placed on them. Pure data, changed by difference.

pub mod namespace;
pub mod node;
pub mod pod;
pub mod resources;
pub mod selector;
pub mod symbol;
pub mod table;

pub use namespace::{Namespace, Namespaces};
pub use node::{Effect, Node, Taint};
pub use pod::{Pod, Port, Toleration};
pub use resources::Resources;
pub use symbol::Symbol;
pub use table::{Row, Table};
