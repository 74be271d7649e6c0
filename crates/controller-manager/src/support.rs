//! What several controllers share.

pub mod claim;
pub mod discovery;
pub mod expectations;
pub mod hash;
pub mod pods;
pub mod ranking;
pub mod scaled;
pub mod selector;
pub mod slow_start;
pub mod taints;
pub mod time;
