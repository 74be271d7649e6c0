//! What flags and configuration files say to plugins.

use std::collections::BTreeMap;

use super::{EventLimit, Limited, PodSecuritySettings, TolerationSettings};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--default-not-ready-toleration-seconds`.
    pub not_ready_seconds: i64,
    /// `--default-unreachable-toleration-seconds`.
    pub unreachable_seconds: i64,
    /// Resources of which nothing may be used without a quota.
    pub limited: Vec<Limited>,
    pub pod_security: PodSecuritySettings,
    /// Selectors of nodes by namespace, of `PodNodeSelector`.
    pub node_selectors: BTreeMap<String, String>,
    pub tolerations: TolerationSettings,
    pub event_limits: Vec<EventLimit>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            not_ready_seconds: 300,
            unreachable_seconds: 300,
            limited: Vec::new(),
            pod_security: PodSecuritySettings::default(),
            node_selectors: BTreeMap::new(),
            tolerations: TolerationSettings::default(),
            event_limits: Vec::new(),
        }
    }
}
