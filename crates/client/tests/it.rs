//! The client against a small API server with faults, and against a real one where
//! `CORTEN_TEST_KUBECONFIG` names its kubeconfig.
#![allow(clippy::unwrap_used)]

#[path = "it/connections.rs"]
mod connections;
#[path = "it/fake.rs"]
mod fake;
#[path = "it/informers.rs"]
mod informers;
#[path = "it/queue.rs"]
mod queue;
#[path = "it/real.rs"]
mod real;
#[path = "it/requests.rs"]
mod requests;
