//! Integration tests of the API server.
#![allow(clippy::unwrap_used)]

mod core;
mod kinds;
mod requests;
mod rights;
mod rim;
mod routes;
mod settings;
