//! The controllers by upstream's names, and which of them `--controllers` asks for.

use futures::future::BoxFuture;

use crate::context::{Context, Error};
use crate::controllers;

type Run = fn(Context) -> BoxFuture<'static, Result<(), Error>>;

/// A controller there is.
pub struct Entry {
    pub name: &'static str,
    /// The name it had before, which is still understood.
    pub alias: &'static str,
    pub run: Run,
}

macro_rules! entries {
    ($($name:literal, $alias:literal, $run:path;)*) => {
        [$(Entry { name: $name, alias: $alias, run: |context| Box::pin($run(context)) }),*]
    };
}

/// What is implemented.
pub static CONTROLLERS: &[Entry] = &entries! {
    "deployment-controller", "deployment", controllers::deployment::run;
    "replicaset-controller", "replicaset", controllers::replicaset::run_replicasets;
    "endpoints-controller", "endpoint", controllers::endpoints::run;
    "endpointslice-controller", "endpointslice", controllers::endpointslice::run;
    "namespace-controller", "namespace", controllers::namespace::run;
    "node-ipam-controller", "nodeipam", controllers::nodeipam::run;
    "pod-garbage-collector-controller", "podgc", controllers::podgc::run;
    "root-ca-certificate-publisher-controller", "root-ca-cert-publisher", controllers::root_ca::run;
    "serviceaccount-controller", "serviceaccount", controllers::serviceaccount::run;
    "garbage-collector-controller", "garbagecollector", controllers::garbage::run;
    "node-lifecycle-controller", "nodelifecycle", controllers::nodelifecycle::run;
    "taint-eviction-controller", "", controllers::taint_eviction::run;
    "daemonset-controller", "daemonset", controllers::daemonset::run;
    "job-controller", "job", controllers::job::run;
    "ttl-after-finished-controller", "ttl-after-finished", controllers::ttl_after_finished::run;
    "clusterrole-aggregation-controller", "clusterrole-aggregation", controllers::role_aggregation::run;
    "persistentvolumeclaim-protection-controller", "pvc-protection", controllers::protection::run_claims;
    "persistentvolume-protection-controller", "pv-protection", controllers::protection::run_volumes;
    "volumeattributesclass-protection-controller", "", controllers::protection::run_classes;
    "replicationcontroller-controller", "replicationcontroller", controllers::replicaset::run_replicationcontrollers;
};

/// Upstream's others, with their earlier names: known, so that flags which name them are understood.
static ABSENT: &[(&str, &str)] = &[
    ("bootstrap-signer-controller", "bootstrapsigner"),
    ("certificatesigningrequest-approving-controller", "csrapproving"),
    ("certificatesigningrequest-cleaner-controller", "csrcleaner"),
    ("certificatesigningrequest-signing-controller", "csrsigning"),
    ("cloud-node-lifecycle-controller", "cloud-node-lifecycle"),
    ("cronjob-controller", "cronjob"),
    ("device-taint-eviction-controller", ""),
    ("disruption-controller", "disruption"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring"),
    ("ephemeral-volume-controller", "ephemeral-volume"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling"),
    ("kube-apiserver-serving-clustertrustbundle-publisher-controller", ""),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("node-route-controller", "route"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-binder-controller", "persistentvolume-binder"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("podcertificaterequest-cleaner-controller", ""),
    ("podgroup-protection-controller", ""),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("resourcepoolstatusrequest-controller", ""),
    ("resourcequota-controller", "resourcequota"),
    ("selinux-warning-controller", "selinux-warning"),
    ("service-cidr-controller", ""),
    ("service-lb-controller", "service"),
    ("serviceaccount-token-controller", "serviceaccount-token"),
    ("statefulset-controller", "statefulset"),
    ("storage-version-migrator-controller", ""),
    ("storageversion-garbage-collector-controller", "storage-version-gc"),
    ("token-cleaner-controller", "tokencleaner"),
    ("ttl-controller", "ttl"),
    ("validatingadmissionpolicy-status-controller", ""),
];

/// Controllers that `--controllers` selects.
#[derive(Debug, Default, PartialEq)]
pub struct Selection {
    /// Names of [`CONTROLLERS`] to run.
    pub run: Vec<&'static str>,
    /// Named in the flag and known, but not implemented here.
    pub absent: Vec<&'static str>,
}

/// Reads the flag; fails, as upstream does, on a name that nobody knows.
pub fn select(flags: &[String]) -> Result<Selection, String> {
    let mut everything = false;
    let (mut on, mut off): (Vec<&'static str>, Vec<&'static str>) = (Vec::new(), Vec::new());
    let mut selection = Selection::default();
    for flag in flags.iter().map(|flag| flag.trim()).filter(|flag| !flag.is_empty()) {
        if flag == "*" {
            everything = true;
            continue;
        }
        let (name, list) = match flag.strip_prefix('-') {
            Some(name) => (name, &mut off),
            None => (flag, &mut on),
        };
        if let Some(entry) = CONTROLLERS.iter().find(|entry| entry.name == name || entry.alias == name) {
            list.push(entry.name);
        } else if let Some((known, _)) = ABSENT.iter().find(|(known, alias)| *known == name || *alias == name)
        {
            if !flag.starts_with('-') {
                selection.absent.push(known);
            }
        } else {
            return Err(format!("\"{name}\" is not in the list of known controllers"));
        }
    }
    let wanted = |entry: &&Entry| on.contains(&entry.name) || (everything && !off.contains(&entry.name));
    selection.run = CONTROLLERS.iter().filter(wanted).map(|entry| entry.name).collect();
    Ok(selection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(flag: &str) -> Result<Selection, String> {
        select(&flag.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn selections() {
        assert_eq!(selected("*").unwrap().run.len(), CONTROLLERS.len());
        let some = selected("*,-deployment-controller,-replicaset").unwrap();
        assert_eq!(some.run.len(), CONTROLLERS.len() - 2);
        assert_eq!(selected("deployment").unwrap().run, ["deployment-controller"]);
        let kubeadm = selected("*,bootstrapsigner,tokencleaner").unwrap();
        assert_eq!(kubeadm.absent, ["bootstrap-signer-controller", "token-cleaner-controller"]);
        assert!(selected("*,-resourcequota").unwrap().absent.is_empty());
        assert_eq!(selected("*,foo").unwrap_err(), "\"foo\" is not in the list of known controllers");
    }

    #[test]
    fn names_are_unique() {
        for (index, entry) in CONTROLLERS.iter().enumerate() {
            assert!(CONTROLLERS[index + 1..].iter().all(|other| other.name != entry.name));
            assert!(ABSENT.iter().all(|(name, _)| *name != entry.name), "{}", entry.name);
        }
    }
}
