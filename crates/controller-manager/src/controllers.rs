//! The controllers, a module each; [`crate::registry`] lists them by name.

pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod replicaset;
