//! How every daemon speaks to the API server: configuration and credentials, an HTTP/2 client with
//! typed and untyped requests, watches, shared informers with indexes, a rate-limited work queue, an
//! event recorder, leader election on Leases, and delegated authentication and authorization for a
//! daemon's own secure port.
//!
//! JSON is spoken throughout: the caches decode into the caller's own [`View`], which names the few
//! fields it needs, and so costs less than a full typed object in any encoding. What is under way at once
//! is bounded well below what an API server takes; a rate is only kept where one is asked for.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod client;
mod config;
pub mod delegated;
mod error;
mod events;
mod figures;
mod informer;
mod journal;
mod leader;
mod limits;
mod options;
mod queue;
mod resource;
mod shared;
mod text;
mod tls;
mod transport;
mod watch;

pub use api::Api;
pub use client::{Client, Request};
pub use config::{Config, Credentials, Material, Renewed};
pub use error::{Error, Result};
pub use events::{EventRecorder, EventStyle, EventType, ObjectReference, Report};
pub use informer::{Event, Index, Informer, Informers, Progress, Scope, Selectors};
pub use journal::Journal;
pub use leader::{Election, LeaderElector, LeaderHealth, Outcome};
pub use limits::Rate;
pub use options::{DeleteOptions, ListOptions, Patch, Preconditions, Propagation, WatchOptions};
pub use queue::{Failure, Item, RateLimit, WorkQueue, run_workers};
pub use resource::{Key, List, Metadata, ObjectMetadata, OwnerReference, ResourceRef, View};
pub use shared::Shared;
pub use text::Text;
pub use transport::Body;
pub use watch::{Watch, WatchEvent};
