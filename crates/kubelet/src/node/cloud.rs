//! `--cloud-provider=external`: a cloud controller manager completes the node. Until it has, pods stay away, and what
//! it says of addresses stands.

use k8s_openapi::api::core::v1::{NodeAddress, NodeStatus, Taint};

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Annotation with the addresses of `--node-ip`, from which the cloud provider chooses the node's.
pub const PROVIDED_ADDRESS: &str = "alpha.kubernetes.io/provided-node-ip";

#[derive(Clone, Debug, Default)]
pub struct Cloud {
    pub external: bool,
    /// `--node-ip`; empty where it names no address.
    pub node_ip: String,
}

impl Cloud {
    /// Takes the values of `--cloud-provider` and `--node-ip`.
    pub fn new(provider: &str, node_ip: &str) -> Cloud {
        let parts = node_ip.split(',').map(str::trim);
        let named: Vec<&str> =
            parts.filter(|part| !part.is_empty() && !["0.0.0.0", "::"].contains(part)).collect();
        Cloud { external: provider == "external", node_ip: named.join(",") }
    }

    /// Taints to register the node with.
    pub fn taints(&self, configured: &[Taint]) -> Vec<Taint> {
        let mut taints = configured.to_vec();
        if self.external {
            taints.push(Taint {
                key: UNINITIALIZED.into(),
                value: Some("true".into()),
                effect: "NoSchedule".into(),
                time_added: None,
            });
        }
        taints
    }

    /// The value of [`PROVIDED_ADDRESS`].
    pub fn provided(&self) -> Option<&str> {
        (self.external && !self.node_ip.is_empty()).then_some(self.node_ip.as_str())
    }

    /// Addresses that are there already are the cloud's.
    pub fn addresses(&self, own: Vec<NodeAddress>, old: Option<&NodeStatus>) -> Vec<NodeAddress> {
        let known =
            old.and_then(|old| old.addresses.clone()).filter(|known| self.external && !known.is_empty());
        known.unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_completes_the_node() {
        let own = || vec![NodeAddress { type_: "InternalIP".into(), address: "10.0.0.1".into() }];
        let external = vec![NodeAddress { type_: "ExternalIP".into(), address: "192.0.2.1".into() }];
        let old = NodeStatus { addresses: Some(external.clone()), ..Default::default() };
        let none = Cloud::new("", "10.0.0.1");
        assert!(none.taints(&[]).is_empty() && none.provided().is_none());
        assert_eq!(none.addresses(own(), Some(&old)), own());

        let cloud = Cloud::new("external", "10.0.0.1,fd00::1");
        let first = Taint { key: "a".into(), effect: "NoSchedule".into(), ..Default::default() };
        let taints = cloud.taints(&[first]);
        assert_eq!(taints.len(), 2);
        assert_eq!((taints[1].key.as_str(), taints[1].value.as_deref()), (UNINITIALIZED, Some("true")));
        assert_eq!(cloud.provided(), Some("10.0.0.1,fd00::1"));
        assert_eq!((cloud.addresses(own(), None), cloud.addresses(own(), Some(&old))), (own(), external));
        assert_eq!(Cloud::new("external", "0.0.0.0").provided(), None);
    }
}
