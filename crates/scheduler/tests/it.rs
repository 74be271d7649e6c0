//! The scheduler's core on made-up clusters: what it says, what it chooses, when it tries again.
#![allow(clippy::unwrap_used)]

#[path = "it/bench.rs"]
mod bench;
#[path = "it/choices.rs"]
mod choices;
#[path = "it/counts.rs"]
mod counts;
#[path = "it/devices.rs"]
mod devices;
#[path = "it/extenders.rs"]
mod extenders;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/fixture.rs"]
mod fixture;
#[path = "it/messages.rs"]
mod messages;
#[path = "it/model.rs"]
mod model;
#[path = "it/pending.rs"]
mod pending;
#[path = "it/preemption.rs"]
mod preemption;
#[path = "it/queue.rs"]
mod queue;
#[path = "it/refusals.rs"]
mod refusals;
#[path = "it/volumes.rs"]
mod volumes;
