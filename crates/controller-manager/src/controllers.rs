//! The controllers, a module each; [`crate::registry`] lists them by name.

pub mod daemonset;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod garbage;
pub mod job;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod podgc;
pub mod protection;
pub mod replicaset;
pub mod role_aggregation;
pub mod root_ca;
pub mod serviceaccount;
pub mod taint_eviction;
pub mod ttl_after_finished;
