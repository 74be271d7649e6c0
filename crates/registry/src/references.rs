//! The other objects that a pod or a volume names.
//!
//! One visitor serves all that decide by it: what a node may read, and what a pod that a node makes up may not name.

use api::Tree;
use machinery::bounds::by_text;

use crate::tree::{get, has, list, text};

/// Sources of volumes that name a secret by `secretRef`, in pods and in volumes alike.
const BY_SECRET_REF: [&str; 7] = ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"];

/// The annotation by which a kubelet's static pods are known.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

pub fn is_mirror(pod: &Tree) -> bool {
    get(pod, "metadata.annotations").get(MIRROR).is_some()
}

/// Every container of a pod, of all three lists.
pub fn containers(pod: &Tree) -> impl Iterator<Item = &Tree> {
    ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(pod, field))
}

/// The secrets in the pod's namespace that it names itself; those of its claims' volumes not among them.
pub fn secrets(pod: &Tree) -> Vec<&str> {
    let mut names: Vec<&str> =
        list(pod, "spec.imagePullSecrets").iter().map(|one| text(one, "name")).collect();
    for container in containers(pod) {
        names.extend(of_container(container, "envFrom", "secretRef.name"));
        names.extend(of_container(container, "env", "valueFrom.secretKeyRef.name"));
    }
    for volume in list(pod, "spec.volumes") {
        names.push(text(volume, "secret.secretName"));
        names.push(text(volume, "azureFile.secretName"));
        names.push(text(volume, "csi.nodePublishSecretRef.name"));
        names.extend(BY_SECRET_REF.iter().map(|source| by_secret_ref(volume, source)));
        names.extend(list(volume, "projected.sources").iter().map(|source| text(source, "secret.name")));
    }
    named(names)
}

/// The config maps in the pod's namespace that it names.
pub fn config_maps(pod: &Tree) -> Vec<&str> {
    let mut names = Vec::new();
    for container in containers(pod) {
        names.extend(of_container(container, "envFrom", "configMapRef.name"));
        names.extend(of_container(container, "env", "valueFrom.configMapKeyRef.name"));
    }
    for volume in list(pod, "spec.volumes") {
        names.push(text(volume, "configMap.name"));
        names.extend(list(volume, "projected.sources").iter().map(|source| text(source, "configMap.name")));
    }
    named(names)
}

/// The claim of one of a pod's volumes, where it has one: named, or made for the pod.
pub fn volume_claim(pod: &Tree, volume: &Tree) -> Option<String> {
    let name = text(volume, "persistentVolumeClaim.claimName");
    if !name.is_empty() {
        return Some(name.to_owned());
    }
    let (pod, volume_name) = (text(pod, "metadata.name"), text(volume, "name"));
    has(volume, "ephemeral").then(|| format!("{pod}-{volume_name}"))
}

/// The resource claims that a pod may use: those it names, those made for it out of a template, and the one made for its extended
/// resources.
pub fn resource_claims(pod: &Tree) -> Vec<&str> {
    let made = by_text(list(pod, "status.resourceClaimStatuses"), "name");
    let mut names: Vec<&str> = list(pod, "spec.resourceClaims")
        .iter()
        .map(|claim| match text(claim, "resourceClaimName") {
            "" => made.get(text(claim, "name")).map_or("", |status| text(status, "resourceClaimName")),
            name => name,
        })
        .collect();
    names.push(text(pod, "status.extendedResourceClaimStatus.resourceClaimName"));
    named(names)
}

/// The secrets, by namespace and name, that a node needs to mount a PersistentVolume. Those for the controllers of a driver are not
/// the node's to know.
pub fn volume_secrets(volume: &Tree) -> Vec<(&str, &str)> {
    let home = text(volume, "spec.claimRef.namespace");
    let spec = get(volume, "spec");
    let mut found = vec![(text(spec, "azureFile.secretNamespace"), text(spec, "azureFile.secretName"), true)];
    for source in BY_SECRET_REF {
        // these two always say their namespace
        let may_leave_out = !matches!(source, "cinder" | "storageos");
        let reference = get(get(spec, source), "secretRef");
        found.push((text(reference, "namespace"), text(reference, "name"), may_leave_out));
    }
    for field in ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"] {
        let reference = get(get(spec, "csi"), field);
        found.push((text(reference, "namespace"), text(reference, "name"), false));
    }
    found
        .into_iter()
        .filter(|(_, name, _)| !name.is_empty())
        .map(|(namespace, name, may_leave_out)| match namespace {
            "" if may_leave_out => (home, name),
            namespace => (namespace, name),
        })
        .collect()
}

fn of_container<'t>(
    container: &'t Tree,
    field: &'static str,
    name: &'static str,
) -> impl Iterator<Item = &'t str> {
    list(container, field).iter().map(move |source| text(source, name))
}

fn by_secret_ref<'t>(volume: &'t Tree, source: &str) -> &'t str {
    text(get(volume, source), "secretRef.name")
}

fn named(mut names: Vec<&str>) -> Vec<&str> {
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn every_source_of_a_secret_is_found() {
        let check = |spec: Tree, expect: &str| {
            let pod = json!({"metadata": {"name": "p"}, "spec": spec});
            assert_eq!(secrets(&pod), [expect], "{pod}");
        };
        check(json!({"imagePullSecrets": [{"name": "pull"}, {"name": ""}]}), "pull");
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            check(json!({list: [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}]}]}), "key");
            check(json!({list: [{"envFrom": [{"secretRef": {"name": "all"}}]}]}), "all");
        }
        let reference = json!({"secretRef": {"name": "ref"}});
        for source in BY_SECRET_REF {
            check(json!({"volumes": [{"name": "v", source: reference}]}), "ref");
        }
        check(json!({"volumes": [{"secret": {"secretName": "s"}}]}), "s");
        check(json!({"volumes": [{"azureFile": {"secretName": "s"}}]}), "s");
        check(json!({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "s"}}}]}), "s");
        check(json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}), "s");
    }

    #[test]
    fn a_volume_opens_what_its_node_needs() {
        let check = |source: Tree, expect: &[(&str, &str)]| {
            let mut spec = source;
            spec["claimRef"] = json!({"namespace": "home", "name": "c"});
            assert_eq!(volume_secrets(&json!({"spec": spec})), expect);
        };
        let elsewhere = json!({"name": "s", "namespace": "n"});
        for source in BY_SECRET_REF {
            check(json!({source: {"secretRef": elsewhere}}), &[("n", "s")]);
        }
        check(json!({"rbd": {"secretRef": {"name": "s"}}}), &[("home", "s")]);
        check(json!({"cinder": {"secretRef": {"name": "s"}}}), &[("", "s")]);
        check(json!({"azureFile": {"secretName": "s"}}), &[("home", "s")]);
        check(json!({"azureFile": {"secretName": "s", "secretNamespace": "n"}}), &[("n", "s")]);
        let mut csi = json!({});
        for field in [
            "controllerPublishSecretRef",
            "controllerExpandSecretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
        ] {
            csi[field] = json!({"namespace": "n", "name": field});
        }
        check(
            json!({"csi": csi}),
            &[("n", "nodePublishSecretRef"), ("n", "nodeStageSecretRef"), ("n", "nodeExpandSecretRef")],
        );
    }

    #[test]
    fn claims_made_for_a_pod_are_those_it_asked_for() {
        let pod = json!({
            "spec": {"resourceClaims": [
                {"name": "a", "resourceClaimName": "own"}, {"name": "b", "resourceClaimTemplateName": "t"},
                {"name": "c", "resourceClaimTemplateName": "t"}, {"name": "d", "resourceClaimTemplateName": "t"},
            ]},
            "status": {
                "resourceClaimStatuses": [
                    {"name": "a", "resourceClaimName": "not-this"}, {"name": "b", "resourceClaimName": "made"},
                    {"name": "d"}, {"name": "stranger", "resourceClaimName": "another's"},
                ],
                "extendedResourceClaimStatus": {"resourceClaimName": "extended"},
            },
        });
        assert_eq!(resource_claims(&pod), ["own", "made", "extended"]);
    }
}
