//! What is counted of volumes, claims of them, and claims of devices.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use client::Informer;
use controllers::views::{PersistentVolume, PersistentVolumeClaim, ResourceClaim};
use daemon::metrics::{Counter, Samples, registry};

static RETROACTIVE: LazyLock<[Arc<Counter>; 2]> = LazyLock::new(|| {
    let all = "Total number of retroactive StorageClass assignments to persistent volume claim";
    let failed = "Total number of failed retroactive StorageClass assignments to persistent volume claim";
    [
        registry().counter("retroactive_storageclass_total", all),
        registry().counter("retroactive_storageclass_errors_total", failed),
    ]
});

static EPHEMERAL: LazyLock<[Arc<Counter>; 2]> = LazyLock::new(|| {
    let help = "Number of PersistentVolumeClaim creation requests";
    [
        registry().counter("ephemeral_volume_controller_create_total", help),
        registry().counter("ephemeral_volume_controller_create_failures_total", help),
    ]
});

/// A claim without a class was to get the default one.
pub(crate) fn class_assigned(failed: bool) {
    RETROACTIVE[0].inc();
    if failed {
        RETROACTIVE[1].inc();
    }
}

/// A claim was to be made for a pod's volume.
pub(crate) fn ephemeral_created(failed: bool) {
    EPHEMERAL[0].inc();
    if failed {
        EPHEMERAL[1].inc();
    }
}

fn counted(labels: impl Iterator<Item = Vec<String>>) -> Samples {
    let mut counts: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    labels.for_each(|labels| *counts.entry(labels).or_default() += 1.0);
    counts.into_iter().collect()
}

/// The plugin of a volume that this daemon has for recycling or deleting it, as metrics name it.
fn plugin(volume: &PersistentVolume) -> &'static str {
    match &volume.spec {
        spec if spec.host_path.is_some() => "kubernetes.io/host-path",
        spec if spec.nfs.is_some() => "kubernetes.io/nfs",
        _ => "N/A",
    }
}

/// Counts volumes and claims when it is asked for.
pub(crate) fn follow(volumes: &Informer<PersistentVolume>, claims: &Informer<PersistentVolumeClaim>) {
    LazyLock::force(&RETROACTIVE);
    let of_volumes = |name: &str,
                      help: &str,
                      labels: &[&'static str],
                      of: fn(&PersistentVolume) -> Option<Vec<String>>| {
        let volumes = volumes.clone();
        registry().gauge_fn(name, help, labels, move || {
            counted(volumes.list().iter().filter_map(|volume| of(volume)))
        });
    };
    of_volumes(
        "pv_collector_total_pv_count",
        "Gauge measuring total number of persistent volumes",
        &["plugin_name", "volume_mode"],
        |volume| Some(vec![plugin(volume).to_owned(), volume.mode().to_owned()]),
    );
    of_volumes(
        "pv_collector_bound_pv_count",
        "Gauge measuring number of persistent volume currently bound",
        &["storage_class"],
        |volume| (volume.status.phase == "Bound").then(|| vec![volume.spec.storage_class_name.to_string()]),
    );
    of_volumes(
        "pv_collector_unbound_pv_count",
        "Gauge measuring number of persistent volume currently unbound",
        &["storage_class"],
        |volume| (volume.status.phase != "Bound").then(|| vec![volume.spec.storage_class_name.to_string()]),
    );
    for (name, help, bound) in [
        (
            "pv_collector_bound_pvc_count",
            "Gauge measuring number of persistent volume claim currently bound",
            true,
        ),
        (
            "pv_collector_unbound_pvc_count",
            "Gauge measuring number of persistent volume claim currently unbound",
            false,
        ),
    ] {
        let claims = claims.clone();
        let labels = &["namespace", "storage_class", "volume_attributes_class"];
        registry().gauge_fn(name, help, labels, move || {
            let claims = claims.list();
            let of_it = claims.iter().filter(|claim| (claim.status.phase == "Bound") == bound);
            counted(of_it.map(|claim| {
                let attributes = claim.spec.volume_attributes_class_name.clone().unwrap_or_default();
                let class = claim.class().unwrap_or_default().to_owned();
                vec![claim.metadata.namespace.to_string(), class, attributes]
            }))
        });
    }
}

/// Counts the volumes that are in use on nodes, as plugin and node, when it is asked for.
pub(crate) fn follow_uses(uses: impl Fn() -> Vec<(String, String)> + Send + Sync + 'static) {
    let labels = &["node", "volume_plugin"];
    registry().gauge_fn(
        "storage_count_attachable_volumes_in_use",
        "Measure number of volumes in use",
        labels,
        move || counted(uses().into_iter().map(|(node, plugin)| vec![node, plugin])),
    );
}

/// Counts claims of devices when it is asked for.
pub(crate) fn follow_device_claims(claims: &Informer<ResourceClaim>) {
    let claims = claims.clone();
    registry().gauge_fn(
        "dynamic_resource_allocation_resource_claims",
        "Number of ResourceClaims, categorized by allocation status, admin access, and source. Source can be 'resource_claim_template' (created from a template), 'extended_resource' (extended resources), or empty (manually created by a user).",
        &["admin_access", "allocated", "source"],
        move || {
            counted(claims.list().iter().map(|claim| {
                let has = |name: &str| claim.metadata.annotations.contains_key(name);
                let source = match () {
                    () if has("resource.kubernetes.io/pod-claim-name") => "resource_claim_template",
                    () if has("resource.kubernetes.io/extended-resource-claim") => "extended_resource",
                    () => "",
                };
                let allocated = claim.status.allocation.is_some();
                vec![claim.needs_admin_access().to_string(), allocated.to_string(), source.to_owned()]
            }))
        },
    );
}
