//! The kubelet: runs the pods bound to its node in a CRI runtime and reports what became of them.
//!
//! Pods come from sources (API server, static pod folder) into [`pods::PodManager`]; each has one worker task
//! ([`worker`]) around a pure [`plan`]. [`pleg`] reads the runtime's state; [`status`] reports pods to the
//! API server. A kubelet can be killed at any point: everything it needs to continue
//! stands in the runtime's labels and annotations and in its root folder.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admission;
pub mod allocation;
pub mod cgroups;
pub mod clock;
pub mod config;
pub mod container_config;
pub mod credentials;
pub mod env;
pub mod etc_hosts;
pub mod events;
pub mod eviction;
pub mod figures;
pub mod hooks;
pub mod hostname;
pub mod housekeeping;
pub mod images;
pub mod log_rotation;
pub mod metrics;
pub mod mirror;
pub mod node;
pub mod objects;
pub mod options;
pub mod paths;
pub mod plan;
pub mod pleg;
pub mod pods;
pub mod probes;
pub mod qos;
pub mod resolv_conf;
pub mod run;
pub mod runtime;
pub mod server;
pub mod sources;
pub mod status;
pub mod volumes;
pub mod worker;
