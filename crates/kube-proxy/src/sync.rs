//! The loop: gathers what changed, programs it, and tries again when that fails.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{Event, Informer, Informers, Key, Scope, Selectors};
use ipnet::IpNet;
use packetfilter::{Family, PacketFilter};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::base::{self, Settings, TABLE};
use crate::config::Configuration;
use crate::conntrack::Frontends;
use crate::model::{self, Forward};
use crate::state::Table;
use crate::view::{Node, Service, Slice};

const BY_SERVICE: &str = "service";
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How programming goes: since when it is due, and when it was last done, in milliseconds since 1970; 0 is never.
#[derive(Default)]
pub struct Health {
    pub pending: AtomicU64,
    pub programmed: AtomicU64,
    /// The node is on its way out, or gone: load balancers are to leave it.
    pub leaving: AtomicBool,
}

impl Health {
    fn due(&self) {
        let _ = self.pending.compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Dirty {
    services: Mutex<FxHashSet<Key>>,
    wake: Notify,
}

impl Dirty {
    fn mark(&self, key: Key) {
        self.services.lock().insert(key);
        self.wake.notify_one();
    }
}

pub struct Proxier {
    configuration: Configuration,
    node_name: String,
    services: Informer<Service>,
    slices: Informer<Slice>,
    node: Informer<Node>,
    dirty: Arc<Dirty>,
    filter: Arc<dyn PacketFilter>,
    health: Arc<Health>,
    tables: Vec<Table>,
    metrics: Metrics,
}

impl Proxier {
    /// Starts watching; nothing is programmed before [`Proxier::run`].
    pub fn new(
        informers: &Informers,
        configuration: Configuration,
        node_name: String,
        filter: Arc<dyn PacketFilter>,
        health: Arc<Health>,
    ) -> anyhow::Result<Proxier> {
        let ours =
            Selectors::labels("!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name");
        let services = informers.watch::<Service>(Scope::All, ours.clone());
        let slices = informers.watch::<Slice>(Scope::All, ours);
        let node =
            informers.watch::<Node>(Scope::All, Selectors::fields(format!("metadata.name={node_name}")));
        slices.add_index(BY_SERVICE, |slice| {
            slice.service().map(|name| format!("{}/{name}", slice.metadata.namespace)).into_iter().collect()
        });
        let dirty = Arc::new(Dirty::default());
        let mark = dirty.clone();
        services.on_keyed_event(move |key, _| mark.mark(key.clone()));
        let mark = dirty.clone();
        slices.on_event(move |event| {
            for slice in event.old().into_iter().chain([event.object()]) {
                if let Some(name) = slice.service() {
                    mark.mark(Key::new(&slice.metadata.namespace, name));
                }
            }
        });
        let (mark, tell) = (dirty.clone(), health.clone());
        node.on_event(move |event| {
            let gone = matches!(event, Event::Deleted(_));
            tell.leaving.store(gone || !event.object().is_eligible(), Ordering::Relaxed);
            mark.wake.notify_one();
        });

        let cluster_networks = configuration.cluster_networks()?;
        let mut families = vec![Family::Ip];
        if std::path::Path::new("/proc/net/if_inet6").exists() {
            families.push(Family::Ip6);
        }
        let settings = |family| Settings {
            family,
            mark: configuration.masquerade_mark(),
            masquerade_all: configuration.nftables.masquerade_all,
            cluster_networks: cluster_networks.clone(),
        };
        let tables = families.into_iter().map(|family| Table::new(settings(family))).collect();
        let metrics = Metrics::new();
        Ok(Proxier {
            configuration,
            node_name,
            services,
            slices,
            node,
            dirty,
            filter,
            health,
            tables,
            metrics,
        })
    }

    pub async fn run(mut self, shutdown: CancellationToken) {
        let synced = async { tokio::join!(self.services.synced(), self.slices.synced(), self.node.synced()) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = synced => {}
        }
        let mut retry = FIRST_RETRY;
        let mut forget_again = FIRST_RETRY;
        let mut check = tokio::time::interval(self.configuration.sync_period());
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let pause = match self.sync().await {
                Ok(()) => {
                    forget_again =
                        if self.is_clean() { FIRST_RETRY } else { (forget_again * 2).min(LAST_RETRY) };
                    retry = FIRST_RETRY;
                    self.configuration.min_sync_period()
                }
                Err(error) => {
                    tracing::error!(%error, "the rules could not be programmed, trying again");
                    self.metrics.failures.inc();
                    self.dirty.wake.notify_one();
                    let pause = retry;
                    retry = (retry * 2).min(LAST_RETRY);
                    pause
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.dirty.wake.notified() => self.health.due(),
                _ = check.tick() => self.look_after().await,
                // Not hurried, and rules do not wait for it: there may be no program to do it with.
                () = tokio::time::sleep(forget_again), if !self.is_clean() => {}
            }
        }
    }

    /// One transaction a family, of what changed since the last.
    async fn sync(&mut self) -> Result<(), packetfilter::Error> {
        let started = Instant::now();
        let keys: Vec<Key> = self.dirty.services.lock().drain().collect();
        let changed: Vec<_> = keys.iter().map(|key| (key, self.services.get_key(key))).collect();
        let addresses = self.node_port_addresses();
        let services = |family| {
            let services = changed.iter().map(|(key, service)| {
                let forwards = service.as_ref().map(|service| {
                    let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
                    model::forwards(service, &slices, family, &self.node_name)
                });
                ((*key).clone(), forwards.unwrap_or_default())
            });
            services.collect()
        };
        program(&*self.filter, &mut self.tables, &addresses, services).await?;
        self.health.programmed.store(now(), Ordering::Relaxed);
        self.health.pending.store(0, Ordering::Relaxed);
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        self.metrics.last.set(now() as f64 / 1000.0);
        Ok(())
    }

    /// No stale UDP flow is left that could not be forgotten.
    fn is_clean(&self) -> bool {
        !self.tables.iter().any(Table::is_unclean)
    }

    /// Sees whether the tables are still there: other programs may flush the host's rules.
    async fn look_after(&mut self) {
        for table in &mut self.tables {
            let family = table.family();
            if self.filter.apply(&format!("list chain {family} {TABLE} services\n")).await.is_err() {
                tracing::warn!(%family, "the rules are gone, programming them anew");
                table.distrust();
            }
        }
    }

    /// The node's addresses on which node ports are served: its primary ones, or those in the configured ranges.
    fn node_port_addresses(&self) -> Vec<IpAddr> {
        let addresses: Vec<IpAddr> =
            self.node.get(None, &self.node_name).map(|node| node.addresses()).unwrap_or_default();
        let configured = &self.configuration.node_port_addresses;
        if configured.is_empty() || configured.iter().any(|range| range == "primary") {
            let first = |v4: bool| addresses.iter().copied().find(move |address| address.is_ipv4() == v4);
            return first(true).into_iter().chain(first(false)).collect();
        }
        if configured.iter().any(|range| range == "all") {
            return addresses;
        }
        let ranges: Vec<IpNet> = configured.iter().filter_map(|range| range.parse().ok()).collect();
        addresses.into_iter().filter(|address| ranges.iter().any(|range| range.contains(address))).collect()
    }
}

/// Brings every table up to date, and forgets the UDP flows that were sent on by older rules. Families do not wait for
/// each other: the last error is returned after all were tried. What failed is done by the next call, whatever it changes.
async fn program(
    filter: &dyn PacketFilter,
    tables: &mut [Table],
    addresses: &[IpAddr],
    services: impl Fn(Family) -> Vec<(Key, Vec<Forward>)>,
) -> Result<(), packetfilter::Error> {
    let mut result = Ok(());
    for table in tables {
        let script = table.update(base::ruleset(&table.settings, addresses), services(table.family()));
        if !script.is_empty()
            && let Err(error) = filter.apply(&script).await
        {
            table.distrust();
            result = Err(error);
            continue;
        }
        // Flows are forgotten after the rules are in, or they would come back by the old ones.
        if table.is_unclean() {
            match forget_stale(filter, table, addresses).await {
                Ok(()) => table.cleaned(),
                Err(error) => {
                    tracing::warn!(%error, family = %table.family(), "connection tracking keeps stale flows");
                }
            }
        }
    }
    result
}

/// One look at what connection tracking knows, then only what is stale is touched.
async fn forget_stale(
    filter: &dyn PacketFilter,
    table: &Table,
    addresses: &[IpAddr],
) -> Result<(), packetfilter::Error> {
    let frontends = Frontends::new(table.family(), table.forwards(), addresses);
    if frontends.is_empty() {
        return Ok(());
    }
    let mut result = Ok(());
    for flow in filter.flows(table.family()).await?.iter().filter(|flow| frontends.is_stale(flow)) {
        if let Err(error) = filter.forget(flow).await {
            result = Err(error);
        }
    }
    result
}

/// Removes the tables (`--cleanup`).
pub async fn clean_up(filter: &dyn PacketFilter) -> anyhow::Result<()> {
    for family in [Family::Ip, Family::Ip6] {
        filter.apply(&format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n")).await?;
    }
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

struct Metrics {
    duration: Arc<daemon::metrics::Histogram>,
    failures: Arc<daemon::metrics::Counter>,
    last: Arc<daemon::metrics::Gauge>,
}

impl Metrics {
    fn new() -> Metrics {
        let registry = daemon::metrics::registry();
        let buckets: Vec<f64> = (0..15).map(|power| 0.001 * f64::from(1 << power)).collect();
        Metrics {
            duration: registry.histogram(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Time a sync of the rules took.",
                &buckets,
            ),
            failures: registry
                .counter("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Syncs that failed."),
            last: registry.gauge(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "When rules were last programmed.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use packetfilter::Fake;

    use super::*;
    use crate::conntrack::tests::{dns, flow};

    fn tables() -> Vec<Table> {
        let settings =
            |family| Settings { family, mark: 0x4000, masquerade_all: false, cluster_networks: Vec::new() };
        [Family::Ip, Family::Ip6].map(|family| Table::new(settings(family))).into()
    }

    const SIX: (&str, &str) = ("[fd96::7]:80", "[fd00::2]:53");

    /// The Service in both families; of IPv6 it has but the second endpoint.
    fn services(family: Family, endpoints: &[&str]) -> Vec<(Key, Vec<Forward>)> {
        let mut forward = dns(endpoints);
        if family == Family::Ip6 {
            forward = dns(&["fd00::3"]);
            forward.cluster_ip = "fd96::7".parse().unwrap();
        }
        vec![(Key::new("default", "dns"), vec![forward])]
    }

    async fn run(filter: &Fake, tables: &mut [Table], endpoints: &[&str]) -> bool {
        let addresses = ["192.0.2.1".parse().unwrap()];
        program(filter, tables, &addresses, |family| services(family, endpoints)).await.is_ok()
    }

    fn track(filter: &Fake, flows: &[(&str, &str)]) {
        filter.tracked.lock().extend(flows.iter().map(|(destination, endpoint)| flow(destination, endpoint)));
    }

    #[tokio::test]
    async fn a_restart_keeps_the_flows_of_endpoints_that_serve() {
        let filter = Fake::default();
        let kept = [("10.96.0.7:80", "10.244.0.2:53"), ("192.0.2.1:30053", "10.244.0.2:53")];
        track(&filter, &kept);
        track(&filter, &[("10.96.0.7:80", "10.244.0.9:53")]);
        assert!(run(&filter, &mut tables(), &["10.244.0.2"]).await);
        assert_eq!(*filter.forgotten.lock(), [flow("10.96.0.7:80", "10.244.0.9:53")]);
        assert_eq!(filter.tracked.lock().len(), kept.len());
    }

    #[tokio::test]
    async fn after_a_failed_transaction_flows_are_forgotten_by_the_next() {
        let filter = Fake::default();
        let mut tables = tables();
        assert!(run(&filter, &mut tables, &["10.244.0.2", "10.244.0.3"]).await);
        track(&filter, &[("10.96.0.7:80", "10.244.0.2:53"), SIX]);
        tables[1].distrust();
        *filter.refuse_next.lock() = true;
        assert!(!run(&filter, &mut tables, &["10.244.0.3"]).await);
        // The other family's flows do not wait for it.
        assert_eq!(*filter.forgotten.lock(), [flow(SIX.0, SIX.1)]);
        assert!(program(&filter, &mut tables, &[], |_| Vec::new()).await.is_ok());
        assert_eq!(filter.forgotten.lock().last(), Some(&flow("10.96.0.7:80", "10.244.0.2:53")));
        assert!(!tables.iter().any(Table::is_unclean));
    }

    #[tokio::test]
    async fn what_could_not_be_forgotten_is_tried_again() {
        let filter = Fake::default();
        let mut tables = tables();
        track(&filter, &[("10.96.0.7:80", "10.244.0.9:53"), ("192.0.2.1:30053", "10.244.0.9:53")]);
        *filter.refuse_forgetting.lock() = true;
        assert!(run(&filter, &mut tables, &["10.244.0.2"]).await, "the rules are in");
        assert_eq!(filter.tracked.lock().len(), 1);
        assert!(tables[0].is_unclean());
        let scripts = filter.scripts.lock().len();
        assert!(run(&filter, &mut tables, &["10.244.0.2"]).await);
        assert!(filter.tracked.lock().is_empty() && !tables[0].is_unclean());
        assert_eq!(filter.scripts.lock().len(), scripts, "no rule changed");
    }
}
