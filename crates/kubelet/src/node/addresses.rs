//! The node's addresses: those that `--node-ip` names, else one that is looked up again and again, since a host may
//! get its address after the kubelet starts, or another one later.
//!
//! The order is upstream's: the host's name where that is an address, what the host's name resolves to, the address
//! that packets to the world leave from. IPv4 comes before IPv6 unless `--node-ip` is `::`.

use crate::run::Kubelet;
use async_trait::async_trait;
use parking_lot::RwLock;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How soon to look again where no address was found.
const SOON: Duration = Duration::from_secs(1);
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the host knows of addresses.
#[async_trait]
pub trait Network: Send + Sync {
    async fn resolve(&self, name: &str) -> Vec<IpAddr>;
    /// Whether one of the host's interfaces has the address.
    fn is_local(&self, address: IpAddr) -> bool;
    /// The address that packets to the world leave from.
    fn of_default_route(&self, ipv6: bool) -> Option<IpAddr>;
}

pub struct Addresses {
    lookup: Option<Lookup>,
    current: RwLock<Arc<[IpAddr]>>,
}

struct Lookup {
    network: Box<dyn Network>,
    name: String,
    prefers_ipv6: bool,
}

impl Addresses {
    /// Takes the value of `--node-ip` and the node's name.
    pub fn new(given: &str, name: &str) -> anyhow::Result<Self> {
        Self::with(given, name, Box::new(Host))
    }

    /// As [`Addresses::new`], on another network than the host's.
    pub fn with(given: &str, name: &str, network: Box<dyn Network>) -> anyhow::Result<Self> {
        let mut named = Vec::new();
        for part in given.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            named.push(
                part.parse::<IpAddr>().map_err(|_| anyhow::anyhow!("bad --node-ip {part:?}"))?.to_canonical(),
            );
        }
        let prefers_ipv6 = named.first().is_some_and(IpAddr::is_ipv6);
        named.retain(|address| !address.is_unspecified());
        let lookup = if named.is_empty() {
            Some(Lookup { network, name: name.to_owned(), prefers_ipv6 })
        } else {
            None
        };
        Ok(Self { lookup, current: RwLock::new(named.into()) })
    }

    /// At most one of each family; none where the host has none yet.
    pub fn get(&self) -> Arc<[IpAddr]> {
        self.current.read().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.get().iter().map(ToString::to_string).collect()
    }

    /// Looks the address up again. Where there is none, the last one stays.
    pub async fn refresh(&self) {
        let Some(lookup) = &self.lookup else { return };
        let Some(found) = lookup.find().await else {
            if self.get().is_empty() {
                warn!(node = lookup.name, "Can't get ip address of node");
            }
            return;
        };
        let known = self.get().first().copied();
        if known != Some(found) {
            info!(address = %found, before = known.map(tracing::field::display), "The node has another address");
            *self.current.write() = [found].into();
        }
    }
}

impl Lookup {
    async fn find(&self) -> Option<IpAddr> {
        if let Ok(address) = self.name.parse() {
            return Some(address);
        }
        let usable = |address: &IpAddr| is_usable(*address) && self.network.is_local(*address);
        let resolved: Vec<IpAddr> = self
            .network
            .resolve(&self.name)
            .await
            .into_iter()
            .map(|it| it.to_canonical())
            .filter(usable)
            .collect();
        let preferred = resolved.iter().find(|address| address.is_ipv6() == self.prefers_ipv6);
        preferred.or(resolved.first()).copied().or_else(|| {
            let route = |ipv6| self.network.of_default_route(ipv6).filter(|address| is_usable(*address));
            route(self.prefers_ipv6).or_else(|| route(!self.prefers_ipv6))
        })
    }
}

/// Whether others can reach a host by an address of its kind.
fn is_usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_multicast() && !address.is_unspecified() && !link_local
}

/// Looks the addresses up again before each report of the node's status, and more often while there is none.
pub async fn follow(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let period = kubelet.config.node_status_update_frequency.0;
    loop {
        let pause = if kubelet.addresses.get().is_empty() { period.min(SOON) } else { period };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => kubelet.addresses.refresh().await,
        }
    }
}

/// The network of the host.
struct Host;

#[async_trait]
impl Network for Host {
    async fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let found = tokio::time::timeout(RESOLVER_TIMEOUT, tokio::net::lookup_host((name, 0))).await;
        match found {
            Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
            _ => Vec::new(),
        }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        UdpSocket::bind((address, 0)).is_ok()
    }

    fn of_default_route(&self, ipv6: bool) -> Option<IpAddr> {
        // Addresses kept for documentation: no packet is sent, the kernel says by which way one would go.
        let (any, world): (IpAddr, IpAddr) = match ipv6 {
            false => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
            true => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(SocketAddr::new(world, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        resolved: Vec<&'static str>,
        routes: [Option<&'static str>; 2],
    }

    #[async_trait]
    impl Network for Fake {
        async fn resolve(&self, _: &str) -> Vec<IpAddr> {
            self.0.lock().resolved.iter().map(|text| text.parse().unwrap()).collect()
        }
        fn is_local(&self, address: IpAddr) -> bool {
            address.to_string() != "203.0.113.9"
        }
        fn of_default_route(&self, ipv6: bool) -> Option<IpAddr> {
            self.0.lock().routes[usize::from(ipv6)].map(|text| text.parse().unwrap())
        }
    }

    #[tokio::test]
    async fn addresses_are_chosen_in_upstreams_order() {
        let (v4, v6) = (Some("10.0.0.1"), Some("fd00::1"));
        type Case = (
            &'static str,
            &'static str,
            &'static [&'static str],
            [Option<&'static str>; 2],
            &'static [&'static str],
        );
        #[rustfmt::skip]
        let table: &[Case] = &[
            ("10.1.1.1", "node", &["10.9.9.9"], [v4, v6], &["10.1.1.1"]),
            ("10.1.1.1,fd00::9", "node", &[], [v4, v6], &["10.1.1.1", "fd00::9"]),
            ("", "192.0.2.77", &["10.9.9.9"], [v4, v6], &["192.0.2.77"]),
            ("", "node", &["fd00::8", "10.9.9.9"], [v4, v6], &["10.9.9.9"]),
            ("::", "node", &["10.9.9.9", "fd00::8"], [v4, v6], &["fd00::8"]),
            ("", "node", &["127.0.1.1", "203.0.113.9", "169.254.0.1"], [v4, v6], &["10.0.0.1"]),
            ("", "node", &[], [None, v6], &["fd00::1"]),
            ("::", "node", &[], [v4, v6], &["fd00::1"]),
            ("::", "node", &[], [v4, None], &["10.0.0.1"]),
            ("0.0.0.0", "node", &[], [v4, v6], &["10.0.0.1"]),
            ("", "node", &[], [None, None], &[]),
        ];
        for (given, name, resolved, routes, expect) in table {
            let network = Fake::default();
            *network.0.lock() = State { resolved: resolved.to_vec(), routes: *routes };
            let addresses = Addresses::with(given, name, Box::new(network)).unwrap();
            addresses.refresh().await;
            assert_eq!(addresses.texts(), *expect, "{given} {name} {resolved:?} {routes:?}");
        }
        assert!(Addresses::new("10.0.0", "node").is_err());
    }

    #[tokio::test]
    async fn an_address_that_comes_late_or_changes_is_taken() {
        let network = Fake::default();
        let addresses = Addresses::with("", "node", Box::new(network.clone())).unwrap();
        for (route, expect) in [
            (None, vec![]),
            (Some("10.0.0.1"), vec!["10.0.0.1"]),
            (None, vec!["10.0.0.1"]),
            (Some("10.0.0.2"), vec!["10.0.0.2"]),
        ] {
            network.0.lock().routes[0] = route;
            addresses.refresh().await;
            assert_eq!(addresses.texts(), expect);
        }
    }
}
