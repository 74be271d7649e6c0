//! The loop: gathers what changed, programs it, and tries again when that fails.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{
    Event, EventRecorder, EventType, Index, Informer, Informers, Key, ObjectReference, Scope, Selectors,
};
use ipnet::IpNet;
use packetfilter::{Family, PacketFilter};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::base::{Networks, Settings};
use crate::config::Configuration;
use crate::model::{self, Place};
use crate::program::{self, program};
use crate::state::Table;
use crate::view::{self, Node, Service, ServiceCidr, Slice};

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Interval of full rewrites of the rules, as upstream's, which undo changes by others.
const REWRITE: Duration = Duration::from_secs(3600);

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
    slices_by_service: Index<Slice, Key>,
    node: Informer<Node>,
    service_networks: Informer<ServiceCidr>,
    dirty: Arc<Dirty>,
    filter: Arc<dyn PacketFilter>,
    health: Arc<Health>,
    events: EventRecorder,
    tables: Vec<Table>,
    place: Place,
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
        events: EventRecorder,
    ) -> anyhow::Result<Proxier> {
        let services = informers.watch::<Service>(
            Scope::All,
            Selectors {
                labels: Some("!service.kubernetes.io/service-proxy-name".into()),
                fields: Some("spec.clusterIP!=None".into()),
            },
        );
        // Slices alone say by a label that they are of a headless Service; a Service may have it, and a cluster IP.
        let slices =
            informers.watch::<Slice>(Scope::All, Selectors::labels("!service.kubernetes.io/headless"));
        let node =
            informers.watch::<Node>(Scope::All, Selectors::fields(format!("metadata.name={node_name}")));
        let slices_by_service =
            slices.index(|slice| slice.service().map(|name| Key::new(&slice.metadata.namespace, name)));
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
        let (mark, own_health) = (dirty.clone(), health.clone());
        node.on_event(move |event| {
            let gone = matches!(event, Event::Deleted(_));
            own_health.leaving.store(gone || !event.object().is_eligible(), Ordering::Relaxed);
            mark.wake.notify_one();
        });

        let service_networks = informers.watch::<ServiceCidr>(Scope::All, Selectors::default());
        let mark = dirty.clone();
        service_networks.on_event(move |_| mark.wake.notify_one());

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
            slices_by_service,
            node,
            service_networks,
            dirty,
            filter,
            health,
            events,
            tables,
            place: Place::default(),
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
        let mut rewrite = tokio::time::interval_at(tokio::time::Instant::now() + REWRITE, REWRITE);
        loop {
            let started = Instant::now();
            let pause = match self.sync().await {
                Ok(()) => {
                    forget_again =
                        if self.is_clean() { FIRST_RETRY } else { (forget_again * 2).min(LAST_RETRY) };
                    retry = FIRST_RETRY;
                    // Under a load of changes the proxy takes no more than half of a processor.
                    self.configuration.min_sync_period().max(started.elapsed().min(LAST_RETRY))
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
                _ = check.tick() => program::look_after(&*self.filter, &mut self.tables).await,
                _ = rewrite.tick() => self.start_anew(),
                // Not hurried, and rules do not wait for it: there may be no program to do it with.
                () = tokio::time::sleep(forget_again), if !self.is_clean() => {}
            }
        }
    }

    /// One transaction a family, of what changed since the last.
    async fn sync(&mut self) -> Result<(), packetfilter::Error> {
        let started = Instant::now();
        let place = self.place();
        if self.place != place {
            self.place = place;
            self.mark_all();
        }
        let keys: Vec<Key> = self.dirty.services.lock().drain().collect();
        let changed: Vec<_> = keys.iter().map(|key| (key, self.services.get_key(key))).collect();
        let networks = self.networks();
        let services = |family| {
            let services = changed.iter().map(|(key, service)| {
                let forwards = service.as_ref().map(|service| {
                    let slices = self.slices_by_service.get(*key);
                    model::forwards(service, &slices, family, &self.place)
                });
                ((*key).clone(), forwards.unwrap_or_default())
            });
            services.collect()
        };
        // Families do not wait for each other.
        let mut result = Ok(());
        for table in &mut self.tables {
            match program(&*self.filter, table, &networks, services(table.family())).await {
                Ok(refused) => {
                    for (key, error) in refused {
                        report(&self.events, &self.services, &key, &error);
                        self.metrics.failures.inc();
                    }
                }
                Err(error) => result = Err(error),
            }
        }
        if result.is_err() {
            self.dirty.services.lock().extend(keys);
            if self.tables.iter().any(Table::is_unknown) {
                self.mark_all();
            }
            return result;
        }
        self.health.programmed.store(now(), Ordering::Relaxed);
        self.health.pending.store(0, Ordering::Relaxed);
        self.metrics.duration.observe(started.elapsed().as_secs_f64());
        self.metrics.last.set(now() as f64 / 1000.0);
        Ok(())
    }

    fn mark_all(&self) {
        let services = self.services.list();
        self.dirty.services.lock().extend(
            services.iter().map(|service| Key::new(&service.metadata.namespace, &service.metadata.name)),
        );
    }

    /// Has everything programmed as if nothing had been.
    fn start_anew(&mut self) {
        self.mark_all();
        self.tables.iter_mut().for_each(Table::distrust);
    }

    /// No stale UDP flow is left that could not be forgotten.
    fn is_clean(&self) -> bool {
        !self.tables.iter().any(Table::is_unclean)
    }

    fn place(&self) -> Place {
        let node = self.node.get(None, &self.node_name);
        let families = [Family::Ip, Family::Ip6];
        let bound =
            view::address(&self.configuration.bind_address).filter(|address| !address.is_unspecified());
        let address = |family: Family| {
            bound.filter(|address| family.has(address)).or_else(|| node.as_ref()?.address(family))
        };
        Place { node: self.node_name.clone(), addresses: families.into_iter().filter_map(address).collect() }
    }

    fn networks(&self) -> Networks {
        let services = self.service_networks.list();
        let mut services: Vec<IpNet> = services
            .iter()
            .flat_map(|networks| networks.spec.cidrs.iter())
            .filter_map(|text| view::range(text))
            .collect();
        services.sort_unstable();
        services.dedup();
        let configured = &self.configuration.node_port_addresses;
        Networks { node_ports: node_port_networks(configured, &self.place.addresses), services }
    }
}

/// Networks on whose addresses node ports are served: those that the configuration's words and ranges name; all addresses of a family
/// for which it names none.
fn node_port_networks(configured: &[String], primary: &[IpAddr]) -> Vec<IpNet> {
    let default = ["primary".to_owned()];
    let everything = ["0.0.0.0/0", "::/0"].map(|all| view::range(all).expect("a range"));
    let mut networks = Vec::new();
    for word in if configured.is_empty() { &default } else { configured } {
        match word.as_str() {
            "primary" => {
                let addresses = primary.iter().copied().filter(|address| !address.is_loopback());
                networks.extend(addresses.map(IpNet::from));
            }
            "localhost" => {
                networks.extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|text| view::range(text)))
            }
            "all" => networks.extend(everything),
            range => networks.extend(view::range(range)),
        }
    }
    for all in everything {
        if !networks.iter().any(|network| network.addr().is_ipv4() == all.addr().is_ipv4()) {
            networks.push(all);
        }
    }
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Says of which Service the kernel refuses the rules. The others have theirs.
fn report(events: &EventRecorder, services: &Informer<Service>, key: &Key, error: &packetfilter::Error) {
    tracing::error!(service = %key, %error, "the rules of a Service are refused, it is left out");
    let Some(service) = services.get_key(key) else { return };
    let object = ObjectReference {
        kind: "Service".into(),
        api_version: "v1".into(),
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
        uid: service.metadata.uid.clone(),
        ..ObjectReference::default()
    };
    events.event(&object, EventType::Warning, "FailedToProgramRules", &error.to_string());
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
    use super::*;

    fn check(configured: &[&str], primary: &[&str], expect: &[&str]) {
        let configured: Vec<String> = configured.iter().map(|word| (*word).to_owned()).collect();
        let primary: Vec<IpAddr> = primary.iter().map(|address| address.parse().unwrap()).collect();
        let networks: Vec<String> =
            node_port_networks(&configured, &primary).iter().map(IpNet::to_string).collect();
        assert_eq!(networks, expect, "{configured:?} {primary:?}");
    }

    #[test]
    fn node_ports_are_served_where_the_configuration_says() {
        check(&[], &["10.0.0.1", "fd00::1"], &["10.0.0.1/32", "fd00::1/128"]);
        check(&["primary"], &["10.0.0.1"], &["10.0.0.1/32", "::/0"]);
        check(&[], &["127.0.0.1"], &["0.0.0.0/0", "::/0"]);
        check(&["all"], &["10.0.0.1"], &["0.0.0.0/0", "::/0"]);
        check(&["192.0.2.0/24"], &["10.0.0.1"], &["192.0.2.0/24", "::/0"]);
        check(&["primary", "fd00::/8"], &["10.0.0.1"], &["10.0.0.1/32", "fd00::/8"]);
        check(&["localhost"], &["10.0.0.1"], &["127.0.0.0/8", "::1/128"]);
    }
}
