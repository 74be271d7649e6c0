//! What every daemon needs around its core: flags with upstream's habits, configuration files, logging,
//! metrics, health checks, TLS serving with reload, signals and drain, feature gates, version.
//!
//! Nothing here knows Kubernetes' objects; that is the `api` crate's.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod absent;
pub mod aside;
pub mod config;
pub mod failure;
pub mod features;
pub mod flags;
pub mod health;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod panics;
pub mod serving;
pub mod shutdown;
pub mod version;
pub mod zpages;

/// Makes aws-lc-rs the process' TLS provider. Call once, first thing in `main` (a second call is harmless).
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
