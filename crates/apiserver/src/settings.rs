//! What flags change about how resources are served and stored.

use std::time::Duration;

use crate::components::Component;
use crate::options::Options;
use crate::served::Served;
use crate::service_routing::Routing;

#[derive(Clone, Debug)]
pub struct Settings {
    pub served: Served,
    /// How long an event is kept; zero is forever.
    pub event_ttl: Duration,
    /// Deletes of one `deletecollection` on their way at once.
    pub delete_collection_workers: usize,
    /// A watch that names no timeout ends after so many seconds, or up to twice as many; 0 is never.
    pub min_request_timeout: u64,
    /// Deletes leave finalizers for the garbage collector where their propagation policy asks for it.
    pub garbage_collector: bool,
    pub allow_privileged: bool,
    /// What flags and configuration files say to admission plugins.
    pub admission: admission::Settings,
    /// Components that `componentstatuses` reports.
    pub components: Vec<Component>,
    /// How Services are reached.
    pub routing: Routing,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            served: Served::default(),
            event_ttl: Duration::from_secs(3600),
            delete_collection_workers: 1,
            min_request_timeout: 1800,
            garbage_collector: true,
            allow_privileged: false,
            admission: admission::Settings::default(),
            components: Vec::new(),
            routing: Routing::default(),
        }
    }
}

impl Settings {
    /// Options that have been completed, so that nothing in them is wrong.
    pub fn of(options: &Options) -> Settings {
        Settings {
            served: options.served(),
            event_ttl: *options.event_ttl,
            delete_collection_workers: options.delete_collection_workers.max(1) as usize,
            min_request_timeout: options.min_request_timeout.unsigned_abs(),
            garbage_collector: options.enable_garbage_collector,
            allow_privileged: options.allow_privileged,
            admission: admission::Settings {
                not_ready_seconds: options.default_not_ready_toleration_seconds,
                unreachable_seconds: options.default_unreachable_toleration_seconds,
                ..options.plugin_settings.clone()
            },
            components: Component::all(options),
            routing: Routing {
                by_endpoint: options.enable_aggregator_routing,
                own: Some(options.own_place()),
            },
        }
    }
}
