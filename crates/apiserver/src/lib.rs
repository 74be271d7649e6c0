//! The API server: the one door to etcd.
#![cfg_attr(test, allow(clippy::unwrap_used))]

// The core: watch cache, verbs, discovery.
pub mod body;
pub mod delegate;
pub mod handlers;
pub mod request_info;
pub mod resources;
pub mod user;

// The rim: who comes in, what they may do, and what the server does on its own account.
pub mod allocate;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod keys;
pub mod kinds;
pub mod layers;
pub mod metrics;
pub mod options;
pub mod proxy;
mod refusal;
pub mod reviews;
pub mod server;
pub mod tokens;
