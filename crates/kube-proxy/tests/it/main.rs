//! Packets through the rules: a node, two pods of it and the world outside, in network namespaces of their own, with the real `nft`.
//! Takes root; without, the tests say so and pass.
#![allow(clippy::unwrap_used)]

mod network;

use std::sync::Arc;

use client::Key;
use ipnet::IpNet;
use kube_proxy::base::{Networks, Settings};
use kube_proxy::model::{self, Place};
use kube_proxy::program;
use kube_proxy::state::Table;
use kube_proxy::view::{Service, Slice};
use network::{NODE, NODE_V6, OUTSIDE, POD_1, POD_1_V6, POD_2, POD_2_V6, Protocol, REMOTE_POD, probe};
use packetfilter::{Family, Nft};
use serde_json::{Value, json};

/// The proxy of the node, of one family.
struct Proxy {
    table: Table,
    networks: Networks,
}

impl Proxy {
    fn start(family: Family) -> Proxy {
        let networks =
            |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let settings = Settings {
            family,
            mark: 0x4000,
            masquerade_all: false,
            cluster_networks: networks(&["10.244.0.0/16", "fd00:244::/32"]),
        };
        let networks = Networks { node_ports: networks(&[NODE]), services: networks(&["10.96.0.0/16"]) };
        Proxy { table: Table::new(settings), networks }
    }

    /// Programs a Service, in place of what it was before.
    async fn set(&mut self, name: &str, spec: Value, ingress: Value, slices: &[Value]) {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default"}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}},
        }))
        .unwrap();
        let slices: Vec<Arc<Slice>> =
            slices.iter().map(|slice| Arc::new(serde_json::from_value(slice.clone()).unwrap())).collect();
        let place =
            Place { node: "node".into(), addresses: vec![NODE.split('/').next().unwrap().parse().unwrap()] };
        let forwards = model::forwards(&service, &slices, self.table.family(), &place);
        self.program(vec![(Key::new("default", name), forwards)]).await;
    }

    async fn program(&mut self, services: kube_proxy::state::Services) {
        let refused = program::program(&Nft, &mut self.table, &self.networks, services).await.unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    }
}

fn slice(port: u16, protocol: &str, endpoints: &[(&str, &str)]) -> Value {
    let endpoints: Vec<_> =
        endpoints.iter().map(|(address, node)| json!({"addresses": [address], "nodeName": node})).collect();
    let address_type =
        if endpoints.iter().any(|endpoint| endpoint["addresses"][0].as_str().unwrap().contains(':')) {
            "IPv6"
        } else {
            "IPv4"
        };
    json!({"addressType": address_type, "ports": [{"name": "web", "protocol": protocol, "port": port}], "endpoints": endpoints})
}

fn spec(cluster_ip: &str, port: u16, protocol: &str) -> Value {
    json!({"type": "NodePort", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
           "ports": [{"name": "web", "protocol": protocol, "port": port}]})
}

const BOTH: [(&str, &str); 2] = [(POD_1, "node"), (POD_2, "node")];

fn both_see(client: &str) -> Vec<String> {
    [POD_1, POD_2].map(|pod| format!("{pod} sees {client}")).into()
}

fn node() -> &'static str {
    NODE.split('/').next().unwrap()
}

#[test]
fn clusters_addresses_lead_to_endpoints() {
    network::inside("clusters_addresses_lead_to_endpoints", async {
        let mut proxy = Proxy::start(Family::Ip);
        proxy.set("web", spec("10.96.0.7", 80, "TCP"), json!([]), &[slice(8080, "TCP", &BOTH)]).await;
        let web = "10.96.0.7:80";
        probe("node", Protocol::Tcp, web, &both_see("10.244.0.1"));
        probe(
            "pod-2",
            Protocol::Tcp,
            web,
            &[format!("{POD_1} sees {POD_2}"), format!("{POD_2} sees 10.244.0.1")],
        );
        // An endpoint could not answer a client outside the pod network directly.
        probe("outside", Protocol::Tcp, web, &both_see("10.244.0.1"));
        probe("node", Protocol::Tcp, "10.96.0.7:81", &["refused".into()]);
        probe("pod-1", Protocol::Tcp, "10.96.0.7:81", &["refused".into()]);
        probe("pod-1", Protocol::Tcp, "10.96.0.8:80", &["timeout".into()]);

        proxy.set("web", spec("10.96.0.7", 80, "TCP"), json!([]), &[slice(8080, "TCP", &BOTH[1..])]).await;
        probe("node", Protocol::Tcp, web, &[format!("{POD_2} sees 10.244.0.1")]);
        proxy.set("web", spec("10.96.0.7", 80, "TCP"), json!([]), &[slice(8080, "TCP", &[])]).await;
        probe("node", Protocol::Tcp, web, &["refused".into()]);
        let elsewhere = slice(8080, "TCP", &[(REMOTE_POD, "other")]);
        let mut local = spec("10.96.0.7", 80, "TCP");
        local["internalTrafficPolicy"] = json!("Local");
        proxy.set("web", local, json!([]), &[elsewhere]).await;
        probe("node", Protocol::Tcp, web, &["timeout".into()]);

        proxy.set("dns", spec("10.96.0.10", 53, "UDP"), json!([]), &[slice(8080, "UDP", &BOTH)]).await;
        probe("node", Protocol::Udp, "10.96.0.10:53", &both_see("10.244.0.1"));
        proxy.set("dns", spec("10.96.0.10", 53, "UDP"), json!([]), &[slice(8080, "UDP", &BOTH[..1])]).await;
        probe("pod-2", Protocol::Udp, "10.96.0.10:53", &[format!("{POD_1} sees {POD_2}")]);
    });
}

#[test]
fn node_ports_are_those_of_the_nodes_addresses() {
    network::inside("node_ports_are_those_of_the_nodes_addresses", async {
        let mut proxy = Proxy::start(Family::Ip);
        let mut web = spec("10.96.0.7", 80, "TCP");
        web["ports"][0]["nodePort"] = json!(30080);
        let slices = [slice(8080, "TCP", &[(POD_1, "node"), (REMOTE_POD, "other")])];
        proxy.set("web", web.clone(), json!([]), &slices).await;
        let address = format!("{}:30080", node());
        probe(
            "outside",
            Protocol::Tcp,
            &address,
            &[format!("{POD_1} sees 10.244.0.1"), format!("{REMOTE_POD} sees {}", node())],
        );
        probe("node", Protocol::Tcp, "127.0.0.1:30080", &["refused".into()]);
        // An address that the configuration does not name.
        probe("pod-2", Protocol::Tcp, "10.244.0.1:30080", &["refused".into()]);

        web["externalTrafficPolicy"] = json!("Local");
        proxy.set("web", web.clone(), json!([]), &slices).await;
        probe("outside", Protocol::Tcp, &address, &[format!("{POD_1} sees {OUTSIDE}")]);
        probe(
            "pod-2",
            Protocol::Tcp,
            &address,
            &[format!("{POD_1} sees {POD_2}"), format!("{REMOTE_POD} sees {POD_2}")],
        );
        proxy.set("web", web.clone(), json!([]), &[slice(8080, "TCP", &[(REMOTE_POD, "other")])]).await;
        probe("outside", Protocol::Tcp, &address, &["timeout".into()]);
        probe("pod-2", Protocol::Tcp, &address, &[format!("{REMOTE_POD} sees {POD_2}")]);
        proxy.set("web", web, json!([]), &[]).await;
        probe("outside", Protocol::Tcp, &address, &["refused".into()]);

        proxy.networks.node_ports = vec!["0.0.0.0/0".parse().unwrap()];
        let mut everywhere = spec("10.96.0.8", 80, "TCP");
        everywhere["ports"][0]["nodePort"] = json!(30081);
        proxy.set("everywhere", everywhere, json!([]), &[slice(8080, "TCP", &BOTH[..1])]).await;
        probe("pod-2", Protocol::Tcp, "10.244.0.1:30081", &[format!("{POD_1} sees 10.244.0.1")]);
        probe("node", Protocol::Tcp, "127.0.0.1:30081", &["refused".into()]);
    });
}

#[test]
fn load_balancers_admit_their_source_ranges() {
    network::inside("load_balancers_admit_their_source_ranges", async {
        let mut proxy = Proxy::start(Family::Ip);
        let mut web = spec("10.96.0.7", 80, "TCP");
        web["externalIPs"] = json!(["203.0.113.9", "not an address"]);
        web["loadBalancerSourceRanges"] = json!([" 192.0.2.0/29 ", "fd00::/8", "192.0.2.2/32"]);
        let ingress = json!([{"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "lb.example.com"}]);
        proxy.set("web", web.clone(), ingress.clone(), &[slice(8080, "TCP", &BOTH)]).await;
        probe("outside", Protocol::Tcp, "203.0.113.1:80", &both_see("10.244.0.1"));
        probe("pod-1", Protocol::Tcp, "203.0.113.1:80", &["timeout".into()]);
        probe("node", Protocol::Tcp, "203.0.113.1:80", &both_see("10.244.0.1"));
        probe("pod-1", Protocol::Tcp, "203.0.113.9:80", &both_see("10.244.0.1"));
        // A proxy's address is the proxy's: here it is nobody's.
        probe("pod-1", Protocol::Tcp, "203.0.113.2:80", &["unreachable".into()]);
        proxy.set("web", web.clone(), ingress.clone(), &[]).await;
        probe("outside", Protocol::Tcp, "203.0.113.1:80", &["refused".into()]);
        probe("pod-1", Protocol::Tcp, "203.0.113.1:80", &["timeout".into()]);
        web["loadBalancerSourceRanges"] = json!(["192.0.2.0/24", "0.0.0.0/0"]);
        proxy.set("web", web, ingress, &[slice(8080, "TCP", &BOTH)]).await;
        probe("pod-1", Protocol::Tcp, "203.0.113.1:80", &both_see("10.244.0.1"));
    });
}

#[test]
fn clients_keep_their_endpoint_over_a_restart() {
    network::inside("clients_keep_their_endpoint_over_a_restart", async {
        let mut web = spec("10.96.0.7", 80, "TCP");
        web["sessionAffinity"] = json!("ClientIP");
        web["ports"][0]["nodePort"] = json!(30080);
        let mut proxy = Proxy::start(Family::Ip);
        let slices = [slice(8080, "TCP", &BOTH)];
        proxy.set("web", web.clone(), json!([]), &slices).await;
        let from_pod = network::answers("pod-2", Protocol::Tcp, "10.96.0.7:80");
        let from_outside = network::answers("outside", Protocol::Tcp, &format!("{}:30080", node()));
        assert!(from_pod.len() == 1 && from_outside.len() == 1, "{from_pod:?} {from_outside:?}");
        for _ in 0..4 {
            let mut restarted = Proxy::start(Family::Ip);
            restarted.set("web", web.clone(), json!([]), &slices).await;
            probe("pod-2", Protocol::Tcp, "10.96.0.7:80", &from_pod);
            probe("outside", Protocol::Tcp, &format!("{}:30080", node()), &from_outside);
        }
        // Without its endpoint a client is sent elsewhere.
        let gone = from_outside[0].split(' ').next().unwrap();
        let other = BOTH.iter().find(|(address, _)| *address != gone).unwrap();
        proxy.table.distrust();
        proxy.set("web", web.clone(), json!([]), &[slice(8080, "TCP", &[*other])]).await;
        probe("outside", Protocol::Tcp, "10.96.0.7:80", &[format!("{} sees 10.244.0.1", other.0)]);
        program::look_after(&Nft, std::slice::from_mut(&mut proxy.table)).await;
    });
}

#[test]
fn addresses_of_the_second_family_work_alike() {
    network::inside("addresses_of_the_second_family_work_alike", async {
        let mut proxy = Proxy::start(Family::Ip6);
        proxy.networks.node_ports.push(NODE_V6.parse().unwrap());
        let mut web = spec("fd00:96::7", 80, "TCP");
        web["ports"][0]["nodePort"] = json!(30080);
        let slices = [slice(8080, "TCP", &[(POD_1_V6, "node"), (POD_2_V6, "node")])];
        proxy.set("web", web.clone(), json!([]), &slices).await;
        let both: Vec<String> = [POD_1_V6, POD_2_V6].map(|pod| format!("{pod} sees fd00:244::1")).into();
        probe("node", Protocol::Tcp, "[fd00:96::7]:80", &both);
        probe("outside", Protocol::Tcp, &format!("[{}]:30080", NODE_V6.split('/').next().unwrap()), &both);
        probe(
            "pod-1",
            Protocol::Tcp,
            "[fd00:96::7]:80",
            &[format!("{POD_1_V6} sees fd00:244::1"), format!("{POD_2_V6} sees {POD_1_V6}")],
        );
        web["sessionAffinity"] = json!("ClientIP");
        proxy.set("web", web, json!([]), &slices).await;
        assert_eq!(network::answers("node", Protocol::Tcp, "[fd00:96::7]:80").len(), 1);
    });
}

#[test]
fn tables_of_another_version_are_replaced_and_removed() {
    network::inside("tables_of_another_version_are_replaced_and_removed", async {
        network::nft(
            "add table ip kube-proxy\n\
             add map ip kube-proxy tcp-endpoints { type ipv4_addr : verdict; }\n\
             add set ip kube-proxy cluster-ips { type ipv4_addr; flags interval; }\n\
             add chain ip kube-proxy services { type filter hook output priority 0; }\n\
             add chain ip kube-proxy endpoint-ABCDEFGH-default/web/tcp/web__10.244.0.2/8080\n\
             add rule ip kube-proxy services drop\n\
             add element ip kube-proxy tcp-endpoints { 10.0.0.1 : goto endpoint-ABCDEFGH-default/web/tcp/web__10.244.0.2/8080 }\n",
        );
        let mut proxy = Proxy::start(Family::Ip);
        proxy.set("web", spec("10.96.0.7", 80, "TCP"), json!([]), &[slice(8080, "TCP", &BOTH)]).await;
        probe("node", Protocol::Tcp, "10.96.0.7:80", &both_see("10.244.0.1"));
        // Somebody else flushes all rules.
        network::nft("flush ruleset\n");
        program::look_after(&Nft, std::slice::from_mut(&mut proxy.table)).await;
        proxy.program(Vec::new()).await;
        probe("node", Protocol::Tcp, "10.96.0.7:80", &both_see("10.244.0.1"));
        network::nft("delete table ip kube-proxy\n");
        let slices = [slice(8080, "TCP", &BOTH[..1])];
        proxy.set("web", spec("10.96.0.7", 80, "TCP"), json!([]), &slices).await;
        probe("node", Protocol::Tcp, "10.96.0.7:80", &[format!("{POD_1} sees 10.244.0.1")]);
        program::clean_up(&Nft).await.unwrap();
        program::clean_up(&Nft).await.unwrap();
        probe("node", Protocol::Tcp, "10.96.0.7:80", &["timeout".into()]);
    });
}

/// Not a test: what [`network`] runs in other namespaces.
#[test]
fn helper() {
    network::help();
}
