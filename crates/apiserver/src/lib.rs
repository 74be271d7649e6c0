//! The API server: the one door to etcd.
#![cfg_attr(test, allow(clippy::unwrap_used))]

// The core: watch cache, verbs, discovery.
pub mod body;
pub mod delegate;
pub mod handlers;
pub mod request_info;
pub mod resources;
pub mod user;
