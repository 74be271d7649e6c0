//! What the restricted level forbids beside: all that a well-behaved program does not need.

use std::collections::BTreeSet;

use api::Tree;
use registry::tree::{get, has, list, text, texts};

use super::say::{bad, named, plural, quoted, setters, violation};
use super::{Violation, baseline, has_own_users, is_windows};

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Volumes that are named in the refusal.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub fn privilege_escalation(pod: &Tree) -> Option<Violation> {
    let allows = |container: &Tree| {
        get(container, "securityContext.allowPrivilegeEscalation").as_bool().unwrap_or(true)
    };
    let names = bad(pod, allows);
    (!names.is_empty()).then(|| {
        violation(
            "allowPrivilegeEscalation != false",
            format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&names)),
        )
    })
}

pub fn privilege_escalation_25(pod: &Tree) -> Option<Violation> {
    if is_windows(pod) { None } else { privilege_escalation(pod) }
}

pub fn capabilities(pod: &Tree) -> Option<Violation> {
    let keeping =
        bad(pod, |container| !texts(container, "securityContext.capabilities.drop").any(|one| one == "ALL"));
    let mut added = BTreeSet::new();
    let adding = bad(pod, |container| {
        let others = texts(container, "securityContext.capabilities.add");
        let others: Vec<&str> = others.filter(|one| *one != "NET_BIND_SERVICE").collect();
        added.extend(others.iter().copied());
        !others.is_empty()
    });
    let keeping = (!keeping.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    let adding = (!adding.is_empty()).then(|| {
        let (named, added) = (named(&adding), quoted(&added));
        format!("{named} must not include {added} in securityContext.capabilities.add")
    });
    let details: Vec<String> = keeping.into_iter().chain(adding).collect();
    (!details.is_empty()).then(|| violation("unrestricted capabilities", details.join("; ")))
}

pub fn capabilities_25(pod: &Tree) -> Option<Violation> {
    if is_windows(pod) { None } else { capabilities(pod) }
}

pub fn volumes(pod: &Tree) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in list(pod, "spec.volumes") {
        if VOLUMES.into_iter().any(|kind| has(volume, kind)) {
            continue;
        }
        names.push(text(volume, "name"));
        kinds.insert(OTHER_VOLUMES.into_iter().find(|kind| has(volume, kind)).unwrap_or("unknown"));
    }
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            quoted(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            quoted(&kinds)
        );
        violation("restricted volume types", detail)
    })
}

pub fn non_root(pod: &Tree) -> Option<Violation> {
    let own = |owner: &Tree, path: &str| get(owner, path).as_bool();
    let by_pod = own(pod, "spec.securityContext.runAsNonRoot");
    let of_container = |container: &Tree| own(container, "securityContext.runAsNonRoot");
    let explicit = bad(pod, |container| of_container(container) == Some(false));
    if let Some(setters) = setters(by_pod == Some(false), &explicit) {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return Some(violation("runAsNonRoot != true", detail));
    }
    let implicit = bad(pod, |container| by_pod != Some(true) && of_container(container).is_none());
    (!implicit.is_empty()).then(|| {
        violation(
            "runAsNonRoot != true",
            format!("pod or {} must set securityContext.runAsNonRoot=true", named(&implicit)),
        )
    })
}

pub fn non_root_35(pod: &Tree) -> Option<Violation> {
    if has_own_users(pod) { None } else { non_root(pod) }
}

pub fn user(pod: &Tree) -> Option<Violation> {
    let is_root = |owner: &Tree, path: &str| get(owner, path).as_i64() == Some(0);
    let names = bad(pod, |container| is_root(container, "securityContext.runAsUser"));
    let setters = setters(is_root(pod, "spec.securityContext.runAsUser"), &names)?;
    Some(violation("runAsUser=0", format!("{setters} must not set runAsUser=0")))
}

pub fn user_35(pod: &Tree) -> Option<Violation> {
    if has_own_users(pod) { None } else { user(pod) }
}

pub fn seccomp(pod: &Tree) -> Option<Violation> {
    if let Some(explicit) = baseline::seccomp(pod) {
        return Some(explicit);
    }
    if has(pod, "spec.securityContext.seccompProfile") {
        return None;
    }
    let implicit = bad(pod, |container| !has(container, "securityContext.seccompProfile"));
    (!implicit.is_empty()).then(|| {
        let named = named(&implicit);
        violation(
            "seccompProfile",
            format!(
                "pod or {named} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
            ),
        )
    })
}

pub fn seccomp_25(pod: &Tree) -> Option<Violation> {
    if is_windows(pod) { None } else { seccomp(pod) }
}
