//! The names a pod has for itself.

use crate::pods::{name, namespace};
use k8s_openapi::api::core::v1::Pod;

/// What a label of a domain name may have, and with it a host name.
const MAX_LABEL: usize = 63;
/// What the kernel takes for a host name.
const MAX_KERNEL: usize = 64;

/// A pod's host name and domain; the domain is empty unless the pod has a subdomain. A pod's own name is cut to
/// what a host name may have.
pub fn of(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let Some(spec) = &pod.spec else { return (cut(name(pod)), String::new()) };
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(hostname) = set(&spec.hostname_override) {
        return (hostname, String::new());
    }
    let hostname = set(&spec.hostname).unwrap_or_else(|| cut(name(pod)));
    let domain = match set(&spec.subdomain) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", namespace(pod)),
        None => String::new(),
    };
    (hostname, domain)
}

/// The name that the kernel gets: the full one where the pod asks for it.
pub fn for_kernel(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (hostname, domain) = of(pod, cluster_domain);
    let full = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or_default();
    if !full || domain.is_empty() {
        return Ok(hostname);
    }
    let full = format!("{hostname}.{domain}");
    if full.len() > MAX_KERNEL {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long \
             ({MAX_KERNEL} characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

fn cut(name: &str) -> String {
    let end = name.floor_char_boundary(MAX_LABEL);
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let metadata = json!({"name": "web-0", "namespace": "shop"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn names() {
        let table = [
            (json!({"containers": []}), "web-0", ""),
            (json!({"containers": [], "hostname": "h"}), "h", ""),
            (json!({"containers": [], "hostname": "h", "subdomain": "s"}), "h", "s.shop.svc.cluster.local"),
            (json!({"containers": [], "subdomain": "s"}), "web-0", "s.shop.svc.cluster.local"),
            (json!({"containers": [], "subdomain": "s", "hostnameOverride": "o.example"}), "o.example", ""),
        ];
        for (spec, hostname, domain) in table {
            let names = of(&pod(spec.clone()), "cluster.local");
            assert_eq!(names, (hostname.to_owned(), domain.to_owned()), "{spec}");
        }
        let mut long = pod(json!({"containers": []}));
        long.metadata.name = Some(format!("{}-é", "a".repeat(61)));
        assert_eq!(of(&long, "cluster.local").0, "a".repeat(61), "no half character, no closing dash");
    }

    #[test]
    fn a_full_name_is_the_kernels_where_it_fits() {
        let full = |hostname: &str, subdomain: &str| {
            let spec = json!({"containers": [], "hostname": hostname, "subdomain": subdomain, "setHostnameAsFQDN": true});
            for_kernel(&pod(spec), "d")
        };
        assert_eq!(full("h", "s").unwrap(), "h.s.shop.svc.d");
        assert_eq!(full("h", "").unwrap(), "h");
        assert_eq!(full("h", &"s".repeat(51)).unwrap().len(), 64);
        let error = full("h", &"s".repeat(53)).unwrap_err();
        assert!(error.ends_with("(64 characters is the max, 66 characters requested)"), "{error}");
    }
}
