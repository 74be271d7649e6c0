//! The model against the published test data.

#![allow(clippy::unwrap_used)]

mod hostile;
mod published;
mod testdata;
