//! Destinations of proxied requests.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::{Status, Tree};
use http::HeaderValue;
use rand::seq::SliceRandom as _;

use super::Proxy;
use crate::kinds;

const KUBELET_PORT: u16 = 10250;
/// What finding a host's addresses may take.
const LOOKUP: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS with the kubelet client certificate.
    Kubelet,
    /// TLS with a certificate that is not looked at, as pods make their own.
    AnyTls,
    Plain,
}

#[derive(Clone, Debug)]
pub struct Place {
    pub transport: Transport,
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// What the host was found to be, where that was looked at: these are connected to, and nothing that the name means later.
    pub addresses: Vec<SocketAddr>,
}

impl Place {
    pub fn host_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.authority()).unwrap_or_else(|_| HeaderValue::from_static("localhost"))
    }

    pub fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// Finds the host's addresses. The `proxy` subresources reach none of this machine's own, under whatever name or notation.
    pub async fn resolve(&mut self) -> Result<(), Status> {
        let lookup = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((self.host.as_str(), self.port)));
        let found: Vec<SocketAddr> = match lookup.await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) => return Err(Status::bad_request(format!("lookup {}: no such host", self.host))),
            Err(_) => return Err(Status::bad_request(format!("lookup {}: i/o timeout", self.host))),
        };
        if found.is_empty() {
            return Err(Status::bad_request("no addresses for hostname"));
        }
        if !found.iter().all(|address| is_global_unicast(address.ip())) {
            return Err(not_allowed());
        }
        self.addresses = found;
        Ok(())
    }
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// Go's `IsGlobalUnicast`: private addresses are. An IPv4 address is one in IPv6 notation, too.
fn is_global_unicast(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !(address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_unspecified()
                || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address.is_unspecified())
        }
    }
}

/// `name`, `name:port` or `scheme:name:port`.
pub(super) fn split(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some((scheme, name, port))
}

impl Proxy {
    /// A node's kubelet.
    pub(super) fn kubelet(&self, name: &str) -> Result<Place, Status> {
        let node = self
            .resources
            .read(kinds::nodes(), "", name)?
            .ok_or_else(|| Status::not_found("", "nodes", name))?;
        let addresses: Vec<&Tree> = node["status"]["addresses"].as_array().into_iter().flatten().collect();
        let host = self
            .address_types
            .iter()
            .find_map(|wanted| addresses.iter().find(|address| address["type"] == **wanted))
            .and_then(|address| address["address"].as_str())
            .ok_or_else(|| {
                // an error without a reason of its own
                Status::failure(500, "", "no preferred addresses found; known addresses: []")
            })?;
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
        let port =
            port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(KUBELET_PORT);
        Ok(Place {
            transport: Transport::Kubelet,
            host: host.to_owned(),
            port,
            path: String::new(),
            addresses: Vec::new(),
        })
    }

    /// The kubelet of a pod's node. That the node is gone is reported of the pods, as upstream does.
    pub(super) fn kubelet_of_pod(&self, node: &str) -> Result<Place, Status> {
        self.kubelet(node).map_err(|status| match status.code {
            404 => Status::not_found("", "pods", node),
            _ => status,
        })
    }

    pub(super) fn node_place(&self, text: &str) -> Result<Place, Status> {
        let (scheme, name, port) =
            split(text).ok_or_else(|| Status::bad_request(format!("invalid node request {text:?}")))?;
        let kubelet = self.kubelet(name)?;
        if port.is_empty() || port == kubelet.port.to_string() {
            return Ok(kubelet);
        }
        let port = port.parse().map_err(|_| Status::bad_request(format!("invalid node request {text:?}")))?;
        let transport = if scheme == "https" { Transport::AnyTls } else { Transport::Plain };
        Ok(Place { transport, port, ..kubelet })
    }

    pub(super) fn pod_place(&self, namespace: &str, text: &str) -> Result<Place, Status> {
        let invalid = || Status::bad_request(format!("invalid pod request {text:?}"));
        let (scheme, name, port) = split(text).ok_or_else(invalid)?;
        let pod = self.pod(namespace, name)?;
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let mut declared =
            containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let number = match port {
            "" => {
                let usual = if scheme == "https" { 443 } else { 80 };
                declared.next().and_then(|port| port["containerPort"].as_u64()).unwrap_or(usual)
            }
            port => match port.parse() {
                Ok(number) => number,
                Err(_) => declared
                    .find(|own| own["name"] == port)
                    .and_then(|own| own["containerPort"].as_u64())
                    .ok_or_else(invalid)?,
            },
        };
        let address: IpAddr = pod["status"]["podIPs"][0]["ip"]
            .as_str()
            .and_then(|ip| ip.parse().ok())
            .ok_or_else(not_allowed)?;
        Ok(Place {
            transport: if scheme == "https" { Transport::AnyTls } else { Transport::Plain },
            host: address.to_string(),
            port: u16::try_from(number).map_err(|_| invalid())?,
            path: String::new(),
            addresses: Vec::new(),
        })
    }

    pub(super) fn service_place(&self, namespace: &str, text: &str) -> Result<Place, Status> {
        let invalid = || Status::bad_request(format!("invalid service request {text:?}"));
        let (scheme, name, port) = split(text).ok_or_else(invalid)?;
        let unavailable = |message: String| Status::failure(503, "ServiceUnavailable", message);
        let none = || unavailable(format!("no endpoints available for service {name:?}"));
        // a number is the service's; a name is the slices' own
        let port_name = match port.parse::<i64>() {
            Ok(number) => {
                let service = self.resources.read(kinds::services(), namespace, name)?;
                let service = service.ok_or_else(|| Status::not_found("", "services", name))?;
                let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
                let named = ports.find(|own| own["port"].as_i64() == Some(number));
                let named = named.map(|own| own["name"].as_str().unwrap_or_default().to_owned());
                named.ok_or_else(|| {
                    unavailable(format!("no service port {number} found for service {name:?}"))
                })?
            }
            Err(_) => port.to_owned(),
        };
        let mut places = Vec::new();
        for entry in self.resources.list(kinds::endpoint_slices(), Some(namespace)) {
            if entry.label("kubernetes.io/service-name") != Some(name) {
                continue;
            }
            let slice = entry.read()?;
            let slice_ports = slice["ports"].as_array().into_iter().flatten();
            for own in slice_ports.filter(|own| own["name"].as_str().unwrap_or_default() == port_name) {
                let Some(number) = own["port"].as_u64().and_then(|number| u16::try_from(number).ok()) else {
                    continue;
                };
                for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                    let target = &endpoint["targetRef"];
                    let ready = endpoint["conditions"]["ready"] != false && target["namespace"] == namespace;
                    if let (true, Some(address), Some(pod)) =
                        (ready, endpoint["addresses"][0].as_str(), target["name"].as_str())
                    {
                        places.push((address.to_owned(), pod.to_owned(), number));
                    }
                }
            }
        }
        // Pods are read until one is right, which is nearly always the first.
        places.shuffle(&mut rand::rng());
        let mut right =
            places.into_iter().filter(|(address, pod, _)| self.is_of_pod(address, namespace, pod));
        let (host, _, port) = right.next().ok_or_else(none)?;
        let transport = if scheme == "https" { Transport::AnyTls } else { Transport::Plain };
        Ok(Place { transport, host, port, path: String::new(), addresses: Vec::new() })
    }

    /// Whether the address is the pod's: whoever writes slices names any address.
    fn is_of_pod(&self, address: &str, namespace: &str, name: &str) -> bool {
        let Ok(Some(pod)) = self.resources.read(kinds::pods(), namespace, name) else { return false };
        let mut own = pod["status"]["podIPs"].as_array().into_iter().flatten();
        own.any(|own| own["ip"] == address)
    }
}
