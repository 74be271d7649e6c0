//! Volumes of plugins whose work a CSI driver does by now: the annotations that say so, and the finalizers of volumes that
//! the control plane deletes itself.

use std::collections::BTreeMap;

use controllers::views::PersistentVolume;

use super::{BETA_PROVISIONER, MIGRATED_TO, PROVISIONED_BY, PROVISIONER};

/// Keeps a volume of a plugin of this process until its contents are deleted.
pub(super) const FINALIZER: &str = "kubernetes.io/pv-controller";
/// The same, of an external provisioner.
const EXTERNAL_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

type Annotations = BTreeMap<String, String>;

const DRIVERS: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// The driver that does the work of a plugin.
pub(in super::super) fn driver(plugin: &str) -> Option<&'static str> {
    DRIVERS.iter().find(|(own, _)| *own == plugin).map(|(_, driver)| *driver)
}

fn annotated(annotations: &Annotations, provisioner: &str) -> Option<Annotations> {
    let known = annotations.get(MIGRATED_TO).map(String::as_str);
    let wanted = driver(provisioner);
    (known != wanted).then(|| {
        let mut new = annotations.clone();
        match wanted {
            Some(driver) => new.insert(MIGRATED_TO.to_owned(), driver.to_owned()),
            None => new.remove(MIGRATED_TO),
        };
        new
    })
}

/// The annotations that a claim with these should have; none where it has them.
pub(super) fn of_claim(annotations: &Annotations) -> Option<Annotations> {
    let provisioner = annotations.get(PROVISIONER).or_else(|| annotations.get(BETA_PROVISIONER))?;
    annotated(annotations, provisioner)
}

#[derive(Debug, PartialEq)]
pub(super) struct OfVolume {
    pub(super) annotations: Annotations,
    pub(super) finalizers: Vec<String>,
}

/// The annotations and finalizers that a volume should have; none where it has them.
pub(super) fn of_volume(volume: &PersistentVolume) -> Option<OfVolume> {
    let meta = &volume.metadata;
    let provisioner = meta.annotation(PROVISIONED_BY)?;
    let annotations = annotated(&meta.annotations, provisioner);
    let mut finalizers = meta.finalizers.clone();
    let is_migrated = driver(provisioner).is_some();
    if is_migrated {
        finalizers.retain(|own| own != FINALIZER);
    } else if provisioner.starts_with("kubernetes.io/") {
        match volume.spec.persistent_volume_reclaim_policy.as_str() {
            "Delete" if !meta.has_finalizer(FINALIZER) => finalizers.push(FINALIZER.to_owned()),
            "Retain" | "Recycle" => finalizers.retain(|own| own != FINALIZER),
            _ => {}
        }
        finalizers.retain(|own| own != EXTERNAL_FINALIZER);
    }
    if annotations.is_none() && finalizers == meta.finalizers {
        return None;
    }
    Some(OfVolume { annotations: annotations.unwrap_or_else(|| meta.annotations.clone()), finalizers })
}
