//! Which name servers, search domains and resolver options a pod gets, by its DNS policy.

use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::config::KubeletConfiguration;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// What a resolver file says; the node's own is the base of its pods'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// The node's resolver configuration, read again for each pod: a DHCP client may rewrite it at any time.
#[derive(Clone, Debug)]
pub struct File {
    /// Empty stands for no file at all.
    path: String,
}

#[derive(Debug, thiserror::Error)]
#[error("open {path}: {source}")]
pub struct Unreadable {
    path: String,
    source: std::io::Error,
}

impl File {
    pub fn new(path: &str) -> File {
        File { path: path.to_owned() }
    }

    pub fn read(&self) -> Result<Host, Unreadable> {
        if self.path.is_empty() {
            return Ok(Host {
                servers: vec!["127.0.0.1".into()],
                searches: vec![".".into()],
                options: Vec::new(),
            });
        }
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(Host::parse(&String::from_utf8_lossy(&bytes))),
            Err(source) => Err(Unreadable { path: self.path.clone(), source }),
        }
    }
}

impl Host {
    pub fn parse(text: &str) -> Host {
        let mut host = Host::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => host.servers.extend(words.next().map(str::to_owned)),
                // The last of several lines counts; a domain's trailing dot is ignored.
                Some("search") => {
                    host.searches = words
                        .map(|word| if word == "." { word } else { word.trim_end_matches('.') }.to_owned())
                        .collect();
                }
                Some("options") => host.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        host
    }
}

/// What the owner of a pod, or of the node, should be warned of: an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    MissingClusterDns,
    TooMuch(String),
}

impl Problem {
    /// Reason and message of the pod's event.
    pub fn event(&self, pod: &Pod) -> (&'static str, String) {
        match self {
            Problem::MissingClusterDns => {
                ("MissingClusterDNS", format!("pod: {:?}. {NO_CLUSTER_DNS}", crate::pods::title(pod)))
            }
            Problem::TooMuch(text) => ("DNSConfigForming", text.clone()),
        }
    }
}

pub const NO_CLUSTER_DNS: &str = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.";

/// The pod's resolver, and what is wrong with it.
pub fn for_pod(pod: &Pod, config: &KubeletConfiguration, host: &Host) -> (DnsConfig, Vec<Problem>) {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or_default();
    let mut problems = Vec::new();
    let cluster = match policy {
        "None" | "Default" => false,
        "ClusterFirst" if host_network => false,
        _ if config.cluster_dns.is_empty() => {
            problems.push(Problem::MissingClusterDns);
            false
        }
        _ => true,
    };
    let mut dns = if cluster {
        let namespace = crate::pods::namespace(pod);
        let domain = &config.cluster_domain;
        let mut searches = Vec::new();
        if !domain.is_empty() {
            searches.extend([format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()]);
        }
        add(&mut searches, &host.searches);
        DnsConfig { servers: config.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
    } else if policy == "None" {
        DnsConfig::default()
    } else {
        let mut searches = Vec::new();
        add(&mut searches, &host.searches);
        DnsConfig { servers: host.servers.clone(), searches, options: host.options.clone() }
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        merge(&mut dns, own);
    }
    limit(&mut dns, &mut problems);
    (dns, problems)
}

fn add(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn merge(dns: &mut DnsConfig, own: &PodDNSConfig) {
    add(&mut dns.servers, own.nameservers.as_deref().unwrap_or_default());
    add(&mut dns.searches, own.searches.as_deref().unwrap_or_default());
    for option in own.options.iter().flatten() {
        let Some(name) = option.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        let text = match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        };
        let same = |old: &String| old.split(':').next() == Some(name);
        match dns.options.iter().position(same) {
            Some(place) => dns.options[place] = text,
            None => dns.options.push(text),
        }
    }
}

fn limit(dns: &mut DnsConfig, problems: &mut Vec<Problem>) {
    if dns.servers.len() > MAX_SERVERS {
        dns.servers.truncate(MAX_SERVERS);
        problems.push(Problem::TooMuch(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        )));
    }
    let count = dns.searches.len();
    dns.searches.truncate(MAX_SEARCHES);
    while dns.searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        dns.searches.pop();
    }
    if dns.searches.len() < count {
        problems.push(Problem::TooMuch(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, servers: &[&str], searches: &[&str], options: &[&str]) -> Vec<Problem> {
        let host = Host::parse(
            "# c\nnameserver 1.1.1.1\nnameserver fe80::1%eth0\nsearch old\nsearch corp. lan\noptions rotate\n",
        );
        let config = KubeletConfiguration {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            ..KubeletConfiguration::default()
        };
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
        let (dns, problems) = for_pod(&serde_json::from_value(pod).unwrap(), &config, &host);
        assert_eq!(dns.servers, servers, "{spec}");
        assert_eq!(dns.searches, searches, "{spec}");
        assert_eq!(dns.options, options, "{spec}");
        problems
    }

    #[test]
    fn policies() {
        let cluster = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp", "lan"];
        let of_host = ["1.1.1.1", "fe80::1%eth0"];
        check(json!({"containers": []}), &["10.96.0.10"], &cluster, &["ndots:5"]);
        check(json!({"containers": [], "hostNetwork": true}), &of_host, &["corp", "lan"], &["rotate"]);
        check(
            json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            &["10.96.0.10"],
            &cluster,
            &["ndots:5"],
        );
        check(json!({"containers": [], "dnsPolicy": "Default"}), &of_host, &["corp", "lan"], &["rotate"]);
        let own = json!({"nameservers": ["9.9.9.9"], "searches": ["mine"],
                         "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        check(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": own}),
            &["9.9.9.9"],
            &["mine"],
            &["ndots:2", "edns0"],
        );
        let problems = check(
            json!({"containers": [], "dnsConfig": {"nameservers": ["1.0.0.1", "1.0.0.2", "1.0.0.3"],
                   "options": [{"name": "ndots", "value": "2"}]}}),
            &["10.96.0.10", "1.0.0.1", "1.0.0.2"],
            &cluster,
            &["ndots:2"],
        );
        let text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.96.0.10 1.0.0.1 1.0.0.2";
        assert_eq!(problems, [Problem::TooMuch(text.into())]);
    }

    #[test]
    fn the_hosts_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let file = File::new(path.to_str().unwrap());
        assert!(file.read().unwrap_err().to_string().starts_with("open /"), "no pod without a resolver");
        for server in ["1.1.1.1", "2.2.2.2"] {
            std::fs::write(&path, format!("nameserver {server}\n# caf\u{e9}\n")).unwrap();
            assert_eq!(file.read().unwrap().servers, [server]);
        }
        assert_eq!(File::new("").read().unwrap().servers, ["127.0.0.1"]);
    }

    #[test]
    fn without_cluster_dns_the_hosts_is_used() {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": []}}),
        )
        .unwrap();
        let config = KubeletConfiguration::default();
        let host = Host::parse("nameserver 1.1.1.1");
        let (dns, problems) = for_pod(&pod, &config, &host);
        assert_eq!(dns.servers, ["1.1.1.1"]);
        let text = r#"pod: "p_ns(u)". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy."#;
        assert_eq!(problems[0].event(&pod), ("MissingClusterDNS", text.into()));
    }
}
