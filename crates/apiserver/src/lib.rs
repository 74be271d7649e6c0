//! The API server: the one door to etcd.
#![cfg_attr(test, allow(clippy::unwrap_used))]

// The core: verbs, discovery.
mod actions;
pub mod aggregator;
pub mod body;
pub mod catalog;
mod compiled;
pub mod components;
mod compress;
pub mod delegate;
pub mod discovery;
pub mod extensions;
pub mod flow;
pub mod handlers;
pub mod negotiate;
pub mod openapi;
mod own_writes;
mod pretty;
pub mod request;
pub mod served;
pub mod service_routing;
pub mod settings;
mod turn;
pub mod webhooks;
pub mod writes;
mod yaml;

// What faces clients: authentication, authorization, proxies; and what the server does on its own account.
pub mod allocate;
pub mod authz;
pub mod bootstrap;
pub mod kinds;
pub mod layers;
pub mod metrics;
pub mod options;
mod policies;
pub mod proxy;
pub mod server;
