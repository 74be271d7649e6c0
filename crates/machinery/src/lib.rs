//! See the crate table in docs/architecture.md.
