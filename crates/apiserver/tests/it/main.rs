//! Integration tests of the API server.
#![allow(clippy::unwrap_used)]

mod aggregation;
mod conversions;
mod core;
mod corrupt;
mod definitions;
mod definitions_end;
mod kinds;
mod ownership;
mod policies;
mod requests;
mod rig;
mod rights;
mod routes;
mod server;
mod settings;
mod stored_forms;
mod webhooks;
