//! Requests by which the control plane knows that the node is alive. They wait only a short time for an answer, and
//! when several in a row get none, all connections to the API server are replaced: a path that drops packets
//! would otherwise cost the node its lease long before the connection is known to be dead.

use crate::config::KubeletConfiguration;
use client::Client;
use std::time::Duration;
use tracing::warn;

/// Requests in a row without an answer before the connections are replaced.
const PATIENCE: u32 = 2;

pub struct Heartbeat {
    pub client: Client,
    unanswered: u32,
}

impl Heartbeat {
    pub fn new(client: &Client, config: &KubeletConfiguration) -> Self {
        let lease = Duration::from_secs(u64::try_from(config.node_lease_duration_seconds).unwrap_or(40));
        let timeout = config.node_status_update_frequency.0.min(lease);
        Self { client: client.for_heartbeats(timeout), unanswered: 0 }
    }

    /// Takes note of how a request went.
    pub fn note<T>(&mut self, result: &client::Result<T>) {
        match result {
            Err(error) if error.is_unanswered() => self.unanswered += 1,
            _ => self.unanswered = 0,
        }
        if self.unanswered >= PATIENCE {
            self.unanswered = 0;
            warn!("The API server does not answer, connecting anew");
            self.client.close_connections();
        }
    }
}
