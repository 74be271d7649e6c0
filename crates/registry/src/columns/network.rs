//! Services, endpoints, ingresses and network policies.

use api::Tree;
use jiff::Timestamp;

use super::format::{NONE, UNSET, age, joined, labels, or, selector, some};
use super::{AGE, NAME, Printer, name, string, wide};
use crate::tree::{get, has, list, number, text, texts};

pub(super) const PRINTERS: &[Printer] = &[
    Printer {
        group: "",
        plural: "services",
        columns: &[
            NAME,
            string("Type"),
            string("Cluster-IP"),
            string("External-IP"),
            string("Port(s)"),
            AGE,
            wide("Selector"),
        ],
        cells: service,
    },
    Printer {
        group: "",
        plural: "endpoints",
        columns: &[NAME, string("Endpoints"), AGE],
        cells: |object, now| vec![name(object), endpoints(object).into(), age(object, now)],
    },
    Printer {
        group: "discovery.k8s.io",
        plural: "endpointslices",
        columns: &[NAME, string("AddressType"), string("Ports"), string("Endpoints"), AGE],
        cells: slice,
    },
    Printer {
        group: "networking.k8s.io",
        plural: "ingresses",
        columns: &[NAME, string("Class"), string("Hosts"), string("Address"), string("Ports"), AGE],
        cells: ingress,
    },
    Printer {
        group: "networking.k8s.io",
        plural: "ingressclasses",
        columns: &[NAME, string("Controller"), string("Parameters"), AGE],
        cells: |object, now| {
            let parameters = get(object, "spec.parameters");
            let shown = if parameters.is_null() {
                NONE.to_owned()
            } else {
                let group = text(parameters, "apiGroup");
                let dot = if group.is_empty() { "" } else { "." };
                format!("{}{dot}{group}/{}", text(parameters, "kind"), text(parameters, "name"))
            };
            let default = "ingressclass.kubernetes.io/is-default-class";
            let is_default = get(object, "metadata.annotations")[default] == "true";
            let mark = if is_default { " (default)" } else { "" };
            let name = format!("{}{mark}", text(object, "metadata.name"));
            vec![name.into(), text(object, "spec.controller").into(), shown.into(), age(object, now)]
        },
    },
    Printer {
        group: "networking.k8s.io",
        plural: "networkpolicies",
        columns: &[NAME, string("Pod-Selector"), AGE],
        cells: |object, now| vec![name(object), selector(object, "spec.podSelector"), age(object, now)],
    },
    Printer {
        group: "networking.k8s.io",
        plural: "ipaddresses",
        columns: &[NAME, string("ParentRef")],
        // The age has no column, but a cell.
        cells: |object, now| {
            let parent = get(object, "spec.parentRef");
            let parts = ["resource", "namespace", "name"].map(|field| text(parent, field));
            let dot = if text(parent, "group").is_empty() { "" } else { "." };
            let named: Vec<&str> = parts[1..].iter().copied().filter(|part| !part.is_empty()).collect();
            let shown = format!("{}{dot}{}/{}", parts[0], text(parent, "group"), named.join("/"));
            vec![name(object), shown.into(), age(object, now)]
        },
    },
    Printer {
        group: "networking.k8s.io",
        plural: "servicecidrs",
        columns: &[NAME, string("CIDRs"), AGE],
        cells: |object, now| vec![name(object), joined(object, "spec.cidrs", ",").into(), age(object, now)],
    },
];

fn service(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let kind = text(object, "spec.type");
    let address = or(text(object, "spec.clusterIP"), NONE);
    let address = list(object, "spec.clusterIPs").first().and_then(Tree::as_str).unwrap_or(address);
    let ports: Vec<String> = list(object, "spec.ports")
        .iter()
        .map(|port| match number(port, "nodePort") {
            0 => format!("{}/{}", number(port, "port"), text(port, "protocol")),
            node => format!("{}:{node}/{}", number(port, "port"), text(port, "protocol")),
        })
        .collect();
    let ports = ports.join(",");
    vec![
        name(object),
        kind.into(),
        address.into(),
        external(object, kind).into(),
        or(&ports, NONE).into(),
        age(object, now),
        labels(object, "spec.selector").into(),
    ]
}

fn external(object: &Tree, kind: &str) -> String {
    let mut all: Vec<&str> = Vec::new();
    if kind == "LoadBalancer" {
        let ingress = list(object, "status.loadBalancer.ingress").iter();
        all.extend(
            ingress.map(|one| or(text(one, "ip"), text(one, "hostname"))).filter(|one| !one.is_empty()),
        );
        all.sort_unstable();
        all.dedup();
    }
    if kind == "ExternalName" {
        return text(object, "spec.externalName").to_owned();
    }
    all.extend(texts(object, "spec.externalIPs"));
    match (all.is_empty(), kind) {
        (_, "") => "<unknown>".to_owned(),
        (true, "LoadBalancer") => "<pending>".to_owned(),
        (true, _) => NONE.to_owned(),
        (false, _) => all.join(","),
    }
}

/// The first three addresses with their ports.
fn endpoints(object: &Tree) -> String {
    let mut all = Vec::new();
    for subset in list(object, "subsets") {
        let ports = list(subset, "ports");
        for address in list(subset, "addresses") {
            if ports.is_empty() {
                all.push(text(address, "ip").to_owned());
            }
        }
        for port in ports {
            for address in list(subset, "addresses") {
                let ip = text(address, "ip");
                let colon = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
                all.push(format!("{colon}:{}", number(port, "port")));
            }
        }
    }
    some(&all)
}

fn slice(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let ports: Vec<String> = list(object, "ports")
        .iter()
        .map(|port| match (number(port, "port"), text(port, "name")) {
            (0, "") => "*".to_owned(),
            (0, name) => name.to_owned(),
            (number, _) => number.to_string(),
        })
        .collect();
    let ports = if ports.is_empty() { UNSET.to_owned() } else { some(&ports) };
    let addresses: Vec<String> = list(object, "endpoints")
        .iter()
        .flat_map(|endpoint| texts(endpoint, "addresses").map(str::to_owned))
        .collect();
    let addresses = if addresses.is_empty() { UNSET.to_owned() } else { some(&addresses) };
    vec![name(object), text(object, "addressType").into(), ports.into(), addresses.into(), age(object, now)]
}

fn ingress(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let hosts: Vec<String> = list(object, "spec.rules")
        .iter()
        .map(|rule| text(rule, "host"))
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { some(&hosts) };
    let addresses: Vec<&str> = list(object, "status.loadBalancer.ingress")
        .iter()
        .map(|one| or(text(one, "ip"), text(one, "hostname")))
        .collect();
    let ports = if has(object, "spec.tls") { "80, 443" } else { "80" };
    vec![
        name(object),
        or(text(object, "spec.ingressClassName"), NONE).into(),
        hosts.into(),
        addresses.join(",").into(),
        ports.into(),
        age(object, now),
    ]
}
