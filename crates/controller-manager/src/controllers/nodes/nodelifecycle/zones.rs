//! How fast pods may be driven away, by zone: a zone where much is silent at once is more likely cut off than dead.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::options::Options;
use controllers::views::Node;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Normal,
    Partial,
    Full,
}

#[derive(Default)]
pub(super) struct Zones {
    zones: BTreeMap<String, Zone>,
}

struct Zone {
    state: State,
    /// Evictions per second.
    rate: f64,
    /// Up to one eviction saved up.
    tokens: f64,
    filled: Instant,
}

/// Region and zone of a node.
pub(super) fn of(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.get(key).unwrap_or_default();
    format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

/// How upstream's metrics name the zone of a node.
pub(super) fn key(node: &Node) -> String {
    match of(node).split_once(':') {
        Some(("", "")) | None => String::new(),
        Some((region, zone)) => format!("{region}:\u{0}:{zone}"),
    }
}

impl Zones {
    /// Takes in the present nodes, as zone and readiness.
    pub(super) fn count(
        &mut self,
        nodes: impl Iterator<Item = (String, bool)>,
        options: &Options,
        now: Instant,
    ) {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (zone, ready) in nodes {
            let count = counts.entry(zone).or_default();
            if ready { count.0 += 1 } else { count.1 += 1 }
        }
        self.zones.retain(|name, _| counts.contains_key(name));
        for (name, (ready, silent)) in counts {
            let share = silent as f64 / (ready + silent) as f64;
            let state = if ready == 0 {
                State::Full
            } else if silent > 2 && share >= f64::from(options.unhealthy_zone_threshold) {
                State::Partial
            } else {
                State::Normal
            };
            let large = (ready + silent) as f64 > f64::from(options.large_cluster_size_threshold);
            let rate = match state {
                State::Partial if large => f64::from(options.secondary_node_eviction_rate),
                State::Partial => 0.0,
                _ => f64::from(options.node_eviction_rate),
            };
            let zone = self.zones.entry(name).or_insert(Zone { state, rate, tokens: 1.0, filled: now });
            zone.tokens = (zone.tokens + now.duration_since(zone.filled).as_secs_f64() * zone.rate).min(1.0);
            zone.filled = now;
            (zone.state, zone.rate) = (state, rate);
        }
    }

    pub(super) fn all_disrupted(&self) -> bool {
        !self.zones.is_empty() && self.zones.values().all(|zone| zone.state == State::Full)
    }

    /// Whether a node of the zone may be emptied now; that uses up the permission.
    pub(super) fn may_evict(&mut self, zone: &str, now: Instant) -> bool {
        let Some(zone) = self.zones.get_mut(zone) else { return false };
        zone.tokens = (zone.tokens + now.duration_since(zone.filled).as_secs_f64() * zone.rate).min(1.0);
        zone.filled = now;
        if zone.rate <= 0.0 || zone.tokens < 1.0 {
            return false;
        }
        zone.tokens -= 1.0;
        true
    }

    /// The permission was not used after all.
    pub(super) fn give_back(&mut self, zone: &str) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.tokens = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates() {
        let options = Options::default();
        let start = Instant::now();
        let mut zones = Zones::default();
        let nodes = |ready: usize, silent: usize| {
            (0..ready + silent).map(move |index| ("z".to_owned(), index < ready))
        };
        zones.count(nodes(3, 1), &options, start);
        assert!(!zones.all_disrupted() && zones.may_evict("z", start));
        assert!(!zones.may_evict("z", start + Duration::from_secs(5)));
        assert!(zones.may_evict("z", start + Duration::from_secs(11)));
        zones.count(nodes(1, 3), &options, start + Duration::from_secs(60));
        assert!(!zones.may_evict("z", start + Duration::from_secs(90)));
        zones.count(nodes(0, 3), &options, start + Duration::from_secs(100));
        assert!(zones.all_disrupted());
    }
}
