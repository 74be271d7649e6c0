//! What a node reaches through an object.

use api::Tree;
use registry::references;

/// Kinds that a node reaches through its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    ResourceClaim,
    Attachment,
    Slice,
    CertificateRequest,
}

/// The objects in the pod's own namespace that its spec (and for claims made for it, its status) names, each once.
pub fn of_pod(pod: &Tree) -> Vec<(Kind, String)> {
    let text = |value: &Tree| value.as_str().unwrap_or_default().to_owned();
    let mut found = vec![(Kind::Pod, text(&pod["metadata"]["name"]))];
    // A mirror pod is what the node itself made up: it opens nothing.
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return found;
    }
    found.push((Kind::ServiceAccount, text(&pod["spec"]["serviceAccountName"])));
    for (kind, names) in [
        (Kind::Secret, references::secrets(pod)),
        (Kind::ConfigMap, references::config_maps(pod)),
        (Kind::ResourceClaim, references::resource_claims(pod)),
    ] {
        found.extend(names.into_iter().map(|name| (kind, name.to_owned())));
    }
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    found.extend(
        volumes.filter_map(|volume| references::volume_claim(pod, volume)).map(|name| (Kind::Claim, name)),
    );
    found.retain(|(_, name)| !name.is_empty());
    found.sort_unstable();
    found.dedup();
    found
}
