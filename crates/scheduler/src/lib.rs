//! kube-scheduler: finds a node for every pod that has none.
//!
//! [`cluster`] is what it knows, [`framework`] and [`plugins`] how it judges, [`core`] the scheduler as pure
//! state, [`driver`] the I/O that watches, binds and reports.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cluster;
pub mod config;
pub mod core;
pub mod driver;
pub mod extenders;
pub mod framework;
mod metrics;
pub mod options;
pub mod plugins;
mod server;

mod run;

pub use run::run;
