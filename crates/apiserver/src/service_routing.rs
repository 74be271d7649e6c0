//! Where a Service is reached, for what the server asks of others: aggregated APIs and webhooks.

use std::net::IpAddr;
use std::sync::Arc;

use api::Tree;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use registry::tree::{get, list, number, text, texts};
use watchcache::resources::Resources;

use crate::kinds;

/// How Services are reached.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// `--enable-aggregator-routing`: at one of their endpoints, for servers that reach no cluster address.
    pub by_endpoint: bool,
    /// This server's own `host:port`, which the Service `kubernetes` stands for.
    pub own: Option<String>,
}

/// Finds places of Services in the watch cache.
#[derive(Clone)]
pub struct ServiceRouter {
    resources: Arc<Resources>,
    routing: Arc<Routing>,
}

impl ServiceRouter {
    pub fn new(resources: Arc<Resources>, routing: Routing) -> ServiceRouter {
        ServiceRouter { resources, routing: Arc::new(routing) }
    }

    /// `host:port` to connect to. Errors are upstream's.
    pub fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<String, String> {
        if let (Some(own), "default", "kubernetes", 443) = (&self.routing.own, namespace, name, port) {
            return Ok(own.clone());
        }
        let service = self.resources.read(kinds::services(), namespace, name);
        let service = service.map_err(|status| status.message)?;
        let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
        if !self.routing.by_endpoint {
            return cluster_address(&service, port);
        }
        endpoint(&service, self.slices(namespace, name)?, port)
    }

    /// The endpoint slices of a Service.
    pub fn slices(&self, namespace: &str, name: &str) -> Result<Vec<Tree>, String> {
        let all = self.resources.list(kinds::endpoint_slices(), Some(namespace)).into_iter();
        let own = all.filter(|entry| entry.label("kubernetes.io/service-name") == Some(name));
        own.map(|entry| entry.read().map_err(|status| status.message)).collect()
    }
}

fn cluster_address(service: &Tree, port: u16) -> Result<String, String> {
    match text(service, "spec.type") {
        "ExternalName" => Ok(joined(text(service, "spec.externalName"), port)),
        "ClusterIP" | "LoadBalancer" | "NodePort" => {
            let address = text(service, "spec.clusterIP");
            if address == "None" {
                return Err(format!("cannot route to service with ClusterIP {address:?}"));
            }
            service_port(service, port)?;
            Ok(joined(address, port))
        }
        other => Err(format!("unsupported service type {other:?}")),
    }
}

/// The name of a Service's port.
fn service_port(service: &Tree, port: u16) -> Result<&str, String> {
    let mut ports = list(service, "spec.ports").iter();
    let found = ports.find(|own| number(own, "port") == i64::from(port));
    let name = text(service, "metadata.name");
    found
        .map(|own| text(own, "name"))
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))
}

/// A ready endpoint, of the Service's first family where there is one.
fn endpoint(service: &Tree, mut slices: Vec<Tree>, port: u16) -> Result<String, String> {
    let ty = text(service, "spec.type");
    if !matches!(ty, "ClusterIP" | "LoadBalancer" | "NodePort") {
        return Err(format!("unsupported service type {ty:?}"));
    }
    let port_name = service_port(service, port)?;
    let family = texts(service, "spec.ipFamilies").next().unwrap_or_default();
    slices.shuffle(&mut rand::rng());
    slices.sort_by_key(|slice| text(slice, "addressType") != family);
    for slice in &slices {
        let ports = list(slice, "ports").iter().filter(|own| text(own, "name") == port_name);
        for port in ports.filter_map(|own| u16::try_from(get(own, "port").as_u64()?).ok()) {
            let endpoints = list(slice, "endpoints").iter();
            let ready: Vec<&str> = endpoints
                .filter(|own| is_ready(own))
                .filter_map(|own| list(own, "addresses").first()?.as_str())
                .collect();
            if let Some(address) = ready.choose(&mut rand::rng()) {
                return Ok(joined(address, port));
            }
        }
    }
    Err(format!("no endpoints available for service {:?}", text(service, "metadata.name")))
}

/// Whether an endpoint takes requests; one that does not say does.
pub fn is_ready(endpoint: &Tree) -> bool {
    get(endpoint, "conditions.ready").as_bool() != Some(false)
}

/// A host before a port; an IPv6 address stands in brackets.
pub fn joined(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    fn service(spec: Tree) -> Tree {
        json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    }

    #[test]
    fn a_cluster_address_is_that_of_a_port_of_the_service() {
        let ports = json!([{"name": "https", "port": 443}]);
        let of = |ty: &str, address: &str| service(json!({"type": ty, "clusterIP": address, "ports": ports}));
        for (service, port, expect) in [
            (of("ClusterIP", "10.0.0.9"), 443, Ok("10.0.0.9:443")),
            (of("NodePort", "fd00::9"), 443, Ok("[fd00::9]:443")),
            (of("ClusterIP", "10.0.0.9"), 444, Err("no service port 444 found for service \"s\"")),
            (of("ClusterIP", "None"), 443, Err("cannot route to service with ClusterIP \"None\"")),
            (service(json!({"type": "ExternalName", "externalName": "a.example"})), 9, Ok("a.example:9")),
            (of("Other", ""), 443, Err("unsupported service type \"Other\"")),
        ] {
            assert_eq!(cluster_address(&service, port), expect.map(str::to_owned).map_err(str::to_owned));
        }
    }

    #[test]
    fn an_endpoint_is_ready_and_of_the_first_family_where_there_is_one() {
        let own = |ty: &str| {
            service(
                json!({"type": ty, "ipFamilies": ["IPv6", "IPv4"], "ports": [{"name": "https", "port": 443}]}),
            )
        };
        let slice = |family: &str, port: &str, endpoints: Tree| json!({"addressType": family, "ports": [{"name": port, "port": 6443}], "endpoints": endpoints});
        let up = |address: &str| json!({"addresses": [address], "conditions": {"ready": true}});
        let down = |address: &str| json!({"addresses": [address], "conditions": {"ready": false}});
        let quiet = json!({"addresses": ["fd00::1"], "conditions": {}});
        let four = slice("IPv4", "https", json!([up("10.1.0.1")]));
        let none = Err("no endpoints available for service \"s\"".to_owned());
        for (slices, expect) in [
            (
                vec![four.clone(), slice("IPv6", "https", json!([down("fd00::2"), quiet]))],
                Ok("[fd00::1]:6443".to_owned()),
            ),
            (
                vec![slice("IPv6", "https", json!([down("fd00::2")])), four.clone()],
                Ok("10.1.0.1:6443".to_owned()),
            ),
            (vec![slice("IPv4", "other", json!([up("10.1.0.1")]))], none.clone()),
            (vec![], none),
        ] {
            assert_eq!(endpoint(&own("ClusterIP"), slices, 443), expect);
        }
        assert_eq!(
            endpoint(&own("ExternalName"), vec![four], 443).unwrap_err(),
            "unsupported service type \"ExternalName\""
        );
    }
}
