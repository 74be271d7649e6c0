//! Who sends a request, and what they may do: authentication, impersonation, authorization, and the tokens of service accounts.
//!
//! It answers from the watch cache and knows of HTTP only what a request says of itself: path, headers and certificate.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod authn;
pub mod authz;
pub mod impersonation;
pub mod keys;
mod kinds;
mod metrics;
pub mod policy;
pub mod refusal;
pub mod request_info;
pub mod reviews;
pub mod tokens;
pub mod user;
