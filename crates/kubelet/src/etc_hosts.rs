//! The hosts file that the kubelet keeps for a pod and mounts into its containers.

use std::fmt::Write;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HOST_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";

/// Writes the file unless it reads so already. A pod on the host's network gets the host's own file.
pub fn ensure(
    path: &Path,
    pod: &Pod,
    pod_ips: &[String],
    hostname: &str,
    domain: &str,
    host_network: bool,
) -> io::Result<()> {
    let content = if host_network {
        // Whatever its encoding.
        [HOST_HEADER.as_bytes(), &std::fs::read("/etc/hosts")?, aliases(pod).as_bytes()].concat()
    } else {
        managed(pod, pod_ips, hostname, domain).into_bytes()
    };
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // In place, not by renaming: running containers have this very file mounted.
    std::fs::write(path, content)
}

fn managed(pod: &Pod, pod_ips: &[String], hostname: &str, domain: &str) -> String {
    let mut content = format!(
        "{HEADER}127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
    );
    for address in pod_ips {
        let _ = if domain.is_empty() {
            writeln!(content, "{address}\t{hostname}")
        } else {
            writeln!(content, "{address}\t{hostname}.{domain}\t{hostname}")
        };
    }
    content + &aliases(pod)
}

fn aliases(pod: &Pod) -> String {
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let mut content = "\n# Entries added by HostAliases.\n".to_owned();
    for alias in aliases {
        let _ =
            writeln!(content, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    content
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
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pods/u1/etc-hosts");
        let aliases = json!([{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]);
        let pod = pod(json!({"containers": [], "hostAliases": aliases}));
        let ips = ["10.0.0.7".to_owned(), "fd00::7".to_owned()];
        ensure(&path, &pod, &ips, "web-0", "web.shop.svc.cluster.local", false).unwrap();
        let want = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
                    ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
                    fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
                    10.0.0.7\tweb-0.web.shop.svc.cluster.local\tweb-0\n\
                    fd00::7\tweb-0.web.shop.svc.cluster.local\tweb-0\n\
                    \n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
        ensure(&path, &pod, &ips, "web-0", "", true).unwrap();
        let content = std::fs::read_to_string(&path).unwrap();
        assert!(content.starts_with(HOST_HEADER) && content.ends_with("1.2.3.4\ta\tb\n"), "{content}");
    }
}
