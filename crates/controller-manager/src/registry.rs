//! The controllers by upstream's names, and which of them `--controllers` asks for.

use std::sync::Arc;

use ::controllers::{Context, Error};
use daemon::features::FeatureGates;
use futures::future::BoxFuture;

use crate::Options;
use crate::controllers::{
    access, certificates, cleanup, devices, network, nodes, policy, storage, versions, workloads,
};

type Run = fn(Context, Arc<Options>) -> BoxFuture<'static, Result<(), Error>>;

/// A controller that is implemented.
pub struct Entry {
    pub name: &'static str,
    /// The name it had before, which is still understood; empty where it had none.
    pub alias: &'static str,
    /// `*` selects it; others have to be named.
    pub on_by_default: bool,
    /// The feature gates without which it does not run.
    pub gates: &'static [&'static str],
    pub run: Run,
}

/// Settings of an entry besides its name.
#[derive(Clone, Copy)]
struct With {
    on_by_default: bool,
    gates: &'static [&'static str],
}

const DEFAULT: With = With { on_by_default: true, gates: &[] };
const NAMED: With = With { on_by_default: false, gates: &[] };

macro_rules! entries {
    ($($name:literal, $alias:literal, $with:expr, $run:path;)*) => {
        [$(Entry {
            name: $name,
            alias: $alias,
            on_by_default: $with.on_by_default,
            gates: $with.gates,
            run: |context, options| Box::pin($run(context, options)),
        }),*]
    };
}

/// What is implemented, in upstream's order of names.
pub static CONTROLLERS: &[Entry] = &entries! {
    "bootstrap-signer-controller", "bootstrapsigner", NAMED, access::bootstrap::run_signer;
    "certificatesigningrequest-approving-controller", "csrapproving", DEFAULT, certificates::approving::run;
    "certificatesigningrequest-cleaner-controller", "csrcleaner", DEFAULT, certificates::cleaning::run;
    "certificatesigningrequest-signing-controller", "csrsigning", DEFAULT, certificates::signing::run;
    "clusterrole-aggregation-controller", "clusterrole-aggregation", DEFAULT, access::role_aggregation::run;
    "cronjob-controller", "cronjob", DEFAULT, workloads::cronjob::run;
    "daemonset-controller", "daemonset", DEFAULT, workloads::daemonset::run;
    "deployment-controller", "deployment", DEFAULT, workloads::deployment::run;
    "device-taint-eviction-controller", "", With { gates: &["DynamicResourceAllocation", "DRADeviceTaints"], ..DEFAULT },
        devices::taint_eviction::run;
    "disruption-controller", "disruption", DEFAULT, policy::disruption::run;
    "endpoints-controller", "endpoint", DEFAULT, network::endpoints::run;
    "endpointslice-controller", "endpointslice", DEFAULT, network::endpointslice::run;
    "endpointslice-mirroring-controller", "endpointslicemirroring", DEFAULT, network::mirroring::run;
    "ephemeral-volume-controller", "ephemeral-volume", DEFAULT, storage::ephemeral::run;
    "garbage-collector-controller", "garbagecollector", DEFAULT, cleanup::garbage::run;
    "horizontal-pod-autoscaler-controller", "horizontalpodautoscaling", DEFAULT, workloads::autoscaler::run;
    "job-controller", "job", DEFAULT, workloads::job::run;
    "kube-apiserver-serving-clustertrustbundle-publisher-controller", "",
        With { gates: &["ClusterTrustBundle"], ..DEFAULT }, certificates::trust_bundle::run;
    "legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner", DEFAULT,
        access::token_cleaning::run;
    "namespace-controller", "namespace", DEFAULT, cleanup::namespace::run;
    "node-ipam-controller", "nodeipam", DEFAULT, nodes::nodeipam::run;
    "node-lifecycle-controller", "nodelifecycle", DEFAULT, nodes::nodelifecycle::run;
    "persistentvolume-attach-detach-controller", "attachdetach", DEFAULT, storage::attacher::run;
    "persistentvolume-binder-controller", "persistentvolume-binder", DEFAULT, storage::binder::run;
    "persistentvolume-expander-controller", "persistentvolume-expander", DEFAULT, storage::expander::run;
    "persistentvolume-protection-controller", "pv-protection", DEFAULT, storage::protection::run_volumes;
    "persistentvolumeclaim-protection-controller", "pvc-protection", DEFAULT, storage::protection::run_claims;
    "pod-garbage-collector-controller", "podgc", DEFAULT, cleanup::podgc::run;
    "podcertificaterequest-cleaner-controller", "",
        With { gates: &["PodCertificateRequest"], ..DEFAULT }, certificates::pod_requests::run;
    "podgroup-protection-controller", "", With { gates: &["GenericWorkload"], ..DEFAULT }, workloads::podgroups::run;
    "replicaset-controller", "replicaset", DEFAULT, workloads::replicaset::run_replicasets;
    "replicationcontroller-controller", "replicationcontroller", DEFAULT, workloads::replicaset::run_replicationcontrollers;
    "resourceclaim-controller", "resource-claim-controller", DEFAULT, devices::claims::run;
    "resourcequota-controller", "resourcequota", DEFAULT, policy::resourcequota::run;
    "root-ca-certificate-publisher-controller", "root-ca-cert-publisher", DEFAULT, certificates::root_ca::run;
    "selinux-warning-controller", "", With { gates: &["SELinuxChangePolicy"], ..NAMED }, storage::selinux::run;
    "service-cidr-controller", "", With { gates: &["MultiCIDRServiceAllocator"], ..DEFAULT }, network::service_cidr::run;
    "serviceaccount-controller", "serviceaccount", DEFAULT, access::serviceaccount::run;
    "serviceaccount-token-controller", "serviceaccount-token", DEFAULT, access::tokens::run;
    "statefulset-controller", "statefulset", DEFAULT, workloads::statefulset::run;
    "storage-version-migrator-controller", "svm", With { gates: &["StorageVersionMigrator"], ..DEFAULT },
        versions::migrator::run;
    "storageversion-garbage-collector-controller", "storage-version-gc",
        With { gates: &["APIServerIdentity", "StorageVersionAPI"], ..DEFAULT }, versions::garbage::run;
    "taint-eviction-controller", "", DEFAULT, nodes::taint_eviction::run;
    "token-cleaner-controller", "tokencleaner", NAMED, access::bootstrap::run_cleaner;
    "ttl-after-finished-controller", "ttl-after-finished", DEFAULT, cleanup::ttl_after_finished::run;
    "ttl-controller", "ttl", DEFAULT, nodes::ttl::run;
    "validatingadmissionpolicy-status-controller", "", DEFAULT, policy::admission::run;
    "volumeattributesclass-protection-controller", "",
        With { gates: &["VolumeAttributesClass"], ..DEFAULT }, storage::protection::run_classes;
};

/// Upstream's others, with their earlier names: known, so that flags which name them are understood.
static ABSENT: &[(&str, &str)] = &[
    // Its kind is alpha and off by default.
    ("resourcepoolstatusrequest-controller", ""),
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
pub fn select(flags: &[String], gates: &FeatureGates) -> Result<Selection, String> {
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
    let wanted = |entry: &&Entry| {
        let named = on.contains(&entry.name);
        let by_default = everything && entry.on_by_default && !off.contains(&entry.name);
        (named || by_default) && entry.gates.iter().all(|gate| gates.enabled(gate))
    };
    selection.run = CONTROLLERS.iter().filter(wanted).map(|entry| entry.name).collect();
    Ok(selection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(flag: &str) -> Result<Selection, String> {
        gated(flag, "")
    }

    fn gated(flag: &str, gates: &str) -> Result<Selection, String> {
        let mut set = FeatureGates::default();
        set.parse(gates).unwrap();
        select(&flag.split(',').map(str::to_owned).collect::<Vec<_>>(), &set)
    }

    #[test]
    fn a_controller_whose_gate_is_off_does_not_run() {
        let name = "taint-eviction-controller";
        assert!(gated("*", "").unwrap().run.contains(&name));
        for entry in CONTROLLERS {
            for gate in entry.gates {
                assert!(!gate.is_empty() && FeatureGates::default().knows(gate), "{gate} of {}", entry.name);
            }
        }
    }

    #[test]
    fn selections() {
        let all = selected("*").unwrap().run;
        let gates = FeatureGates::default();
        for entry in CONTROLLERS {
            let runs = entry.on_by_default && entry.gates.iter().all(|gate| gates.enabled(gate));
            assert_eq!(all.contains(&entry.name), runs, "{}", entry.name);
        }
        let some = selected("*,-deployment-controller,-replicaset").unwrap();
        assert_eq!(some.run.len(), all.len() - 2);
        assert_eq!(selected("deployment").unwrap().run, ["deployment-controller"]);
        let kubeadm = selected("*,bootstrapsigner,tokencleaner").unwrap();
        assert_eq!(kubeadm.run.len(), all.len() + 2);
        let absent = "resourcepoolstatusrequest-controller";
        assert_eq!(selected(&format!("*,{absent}")).unwrap().absent, [absent]);
        assert!(selected(&format!("*,-{absent}")).unwrap().absent.is_empty());
        // Those of cloud providers left with them.
        assert_eq!(selected("*,-route").unwrap_err(), "\"route\" is not in the list of known controllers");
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
