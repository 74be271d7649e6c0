//! Real daemons together: starting them over an etcd of their own in a temporary folder, asking the kernel
//! what they cost, ending them. The benches (`hack/bench`) stand on it; so can tests.
//!
//! The daemons are child processes by path, so that any build of a daemon can take the place of ours.

pub mod pki;
pub mod process;
pub mod stack;
pub mod webhook;

pub use pki::Pki;
pub use process::{Daemon, Process};
pub use stack::{Binaries, Kind, Stack};
pub use webhook::Webhook;
