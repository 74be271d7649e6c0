//! What a pod uses.

use api::Tree;

/// Kinds that a node reaches through its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    ResourceClaim,
    Attachment,
}

/// The objects in the pod's own namespace that its spec (and for claims made for it, its status) names.
pub fn of_pod(pod: &Tree) -> Vec<(Kind, String)> {
    let spec = &pod["spec"];
    let mut found = References::default();
    found.add(Kind::Pod, &pod["metadata"]["name"]);
    // A mirror pod is what the node itself made up: it opens nothing.
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return found.0;
    }
    found.add(Kind::ServiceAccount, &spec["serviceAccountName"]);
    for secret in items(&spec["imagePullSecrets"]) {
        found.add(Kind::Secret, &secret["name"]);
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&spec[list]) {
            for source in items(&container["envFrom"]) {
                found.add(Kind::ConfigMap, &source["configMapRef"]["name"]);
                found.add(Kind::Secret, &source["secretRef"]["name"]);
            }
            for variable in items(&container["env"]) {
                found.add(Kind::ConfigMap, &variable["valueFrom"]["configMapKeyRef"]["name"]);
                found.add(Kind::Secret, &variable["valueFrom"]["secretKeyRef"]["name"]);
            }
        }
    }
    for volume in items(&spec["volumes"]) {
        found.volume(volume, &pod["metadata"]["name"]);
    }
    for claim in items(&spec["resourceClaims"]) {
        found.add(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    for claim in items(&pod["status"]["resourceClaimStatuses"]) {
        found.add(Kind::ResourceClaim, &claim["resourceClaimName"]);
    }
    found.0
}

/// Secrets a volume (of a pod or a PersistentVolume's spec) needs, with the namespace where it says one.
pub fn secrets_of_volume(volume: &Tree) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    for source in ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
        push(&mut found, &volume[source]["secretRef"]);
    }
    for reference in [
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
    ] {
        push(&mut found, &volume["csi"][reference]);
    }
    if let Some(name) = volume["azureFile"]["secretName"].as_str() {
        found.push((volume["azureFile"]["secretNamespace"].as_str().map(str::to_owned), name.to_owned()));
    }
    found
}

fn push(found: &mut Vec<(Option<String>, String)>, reference: &Tree) {
    if let Some(name) = reference["name"].as_str() {
        found.push((reference["namespace"].as_str().map(str::to_owned), name.to_owned()));
    }
}

#[derive(Default)]
struct References(Vec<(Kind, String)>);

impl References {
    fn add(&mut self, kind: Kind, name: &Tree) {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            let reference = (kind, name.to_owned());
            if !self.0.contains(&reference) {
                self.0.push(reference);
            }
        }
    }

    fn volume(&mut self, volume: &Tree, pod: &Tree) {
        self.add(Kind::Secret, &volume["secret"]["secretName"]);
        self.add(Kind::ConfigMap, &volume["configMap"]["name"]);
        self.add(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object()
            && let (Some(pod), Some(name)) = (pod.as_str(), volume["name"].as_str())
        {
            self.add(Kind::Claim, &Tree::String(format!("{pod}-{name}")));
        }
        for source in items(&volume["projected"]["sources"]) {
            self.add(Kind::Secret, &source["secret"]["name"]);
            self.add(Kind::ConfigMap, &source["configMap"]["name"]);
        }
        for (_, name) in secrets_of_volume(volume) {
            self.add(Kind::Secret, &Tree::String(name));
        }
    }
}

fn items(value: &Tree) -> impl Iterator<Item = &Tree> {
    value.as_array().into_iter().flatten()
}
