//! The kit that controllers are made of.
//!
//! A controller is a value: a [`Reconcile`] that takes a key, reads caches and carries out a plan, and a [`Builder`] that
//! says which objects it watches and owns. Its client remembers what it wrote, and a key is not reconciled again
//! before the caches show that ([`own_writes`]).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod builder;
pub mod claim;
mod context;
mod draft;
pub mod hash;
mod identity;
pub mod kinds;
mod latest;
pub mod many;
mod own_writes;
mod owned;
pub mod pods;
pub mod ranking;
mod reconcile;
pub mod scaled;
pub mod selector;
pub mod slow_start;
mod status;
pub mod taints;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod views;

pub use builder::Builder;
pub use context::{Context, Error};
pub use draft::Draft;
pub use identity::Identities;
pub use kinds::Kinds;
pub use latest::Latest;
pub use owned::{Adopters, Owned, Pair, Selects, pairs};
pub use pods::{PodControl, Pods};
pub use reconcile::{Next, Reconcile};
pub use status::{write_status, write_status_with};
