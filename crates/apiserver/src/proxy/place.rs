//! Where a request goes.

use std::net::IpAddr;

use api::{Status, Tree};
use http::HeaderValue;
use rand::seq::IndexedRandom as _;

use super::Proxy;
use crate::kinds;

const KUBELET_PORT: u16 = 10250;

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

    /// The `proxy` subresources do not reach this machine's own addresses.
    pub fn check(&self) -> Result<(), Status> {
        let forbidden = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                address.is_loopback()
                    || address.is_link_local()
                    || address.is_multicast()
                    || address.is_unspecified()
                    || address.is_broadcast()
            }
            Ok(IpAddr::V6(address)) => {
                address.is_loopback()
                    || address.is_unicast_link_local()
                    || address.is_multicast()
                    || address.is_unspecified()
            }
            Err(_) => self.host.is_empty(),
        };
        if forbidden { Err(Status::bad_request("address not allowed")) } else { Ok(()) }
    }
}

/// `name`, `name:port` or `scheme:name:port`.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Some(("", name, "")),
        [name, port] => Some(("", name, port)),
        [scheme, name, port] => Some((scheme, name, port)),
        _ => None,
    }
}

impl Proxy {
    /// A node's kubelet.
    pub(super) fn kubelet(&self, name: &str) -> Result<Place, Status> {
        let entry = self
            .resources
            .get(kinds::nodes(), "", name)
            .ok_or_else(|| Status::not_found("", "nodes", name))?;
        let node = entry.tree();
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
        Ok(Place { transport: Transport::Kubelet, host: host.to_owned(), port, path: String::new() })
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
            "" => declared.next().and_then(|port| port["containerPort"].as_u64()).unwrap_or(80),
            port => match port.parse() {
                Ok(number) => number,
                Err(_) => declared
                    .find(|own| own["name"] == port)
                    .and_then(|own| own["containerPort"].as_u64())
                    .ok_or_else(invalid)?,
            },
        };
        let host = pod["status"]["podIP"].as_str().or_else(|| pod["status"]["podIPs"][0]["ip"].as_str());
        Ok(Place {
            transport: if scheme == "https" { Transport::AnyTls } else { Transport::Plain },
            host: host.unwrap_or_default().to_owned(),
            port: u16::try_from(number).map_err(|_| invalid())?,
            path: String::new(),
        })
    }

    pub(super) fn service_place(&self, namespace: &str, text: &str) -> Result<Place, Status> {
        let invalid = || Status::bad_request(format!("invalid service request {text:?}"));
        let (scheme, name, port) = split(text).ok_or_else(invalid)?;
        let none = || {
            Status::failure(503, "ServiceUnavailable", format!("no endpoints available for service {name:?}"))
        };
        let service = self.resources.get(kinds::services(), namespace, name).ok_or_else(none)?.tree();
        let ports: Vec<&Tree> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
        let port_name = match port {
            "" => match ports.as_slice() {
                [only] => only["name"].as_str().unwrap_or_default().to_owned(),
                _ => String::new(),
            },
            port => ports
                .iter()
                .find(|own| {
                    own["name"] == port
                        || own["port"].as_u64().is_some_and(|number| number.to_string() == port)
                })
                .map(|own| own["name"].as_str().unwrap_or_default().to_owned())
                .or_else(|| port.parse::<u16>().is_err().then(|| port.to_owned()))
                .ok_or_else(|| {
                    Status::failure(
                        503,
                        "ServiceUnavailable",
                        format!("no service port {port:?} found for service {name:?}"),
                    )
                })?,
        };
        let mut places = Vec::new();
        for entry in self.resources.list(kinds::endpoint_slices(), Some(namespace)) {
            let slice = entry.tree();
            if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
                continue;
            }
            let slice_ports = slice["ports"].as_array().into_iter().flatten();
            for own in slice_ports.filter(|own| own["name"].as_str().unwrap_or_default() == port_name) {
                let Some(number) = own["port"].as_u64().and_then(|number| u16::try_from(number).ok()) else {
                    continue;
                };
                for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                    if endpoint["conditions"]["ready"] == false {
                        continue;
                    }
                    if let Some(address) = endpoint["addresses"][0].as_str() {
                        places.push((address.to_owned(), number));
                    }
                }
            }
        }
        let (host, port) = places.choose(&mut rand::rng()).cloned().ok_or_else(none)?;
        let transport = if scheme == "https" { Transport::AnyTls } else { Transport::Plain };
        Ok(Place { transport, host, port, path: String::new() })
    }
}
