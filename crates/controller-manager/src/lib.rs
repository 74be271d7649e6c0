//! kube-controller-manager: the loops that move the cluster from what is to what is asked for.
//!
//! A controller is a module under [`controllers`], put together with the kit of that name: a `reconcile` that reads caches
//! and carries out a plan, and beside it the plan, a pure function with tables for tests. [`registry`] lists them under
//! upstream's names. Every reconciler works from the present state alone, so it may run at any time, twice, or after
//! a crash in the middle.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod configz;
pub mod controllers;
mod metrics;
pub mod options;
pub mod registry;
mod run;
mod serve;

pub use options::Options;
pub use run::run;
