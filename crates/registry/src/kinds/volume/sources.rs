//! Which sources a volume has: one, the first in upstream's order, counts and is checked; the others are refused.

use api::Tree;
use api::model::Type;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::rules;
use crate::tree::{get, has};

/// A sort of source: the field, the name under which it is refused beside another, and that of what is wrong in it.
type Sort = (&'static str, &'static str, &'static str);

/// Sources of a pod's volumes.
pub(in crate::kinds) const OF_PODS: (&str, &[Sort]) = (
    "k8s.io.api.core.v1.VolumeSource",
    &[
        same("emptyDir"),
        same("hostPath"),
        same("gitRepo"),
        ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
        same("awsElasticBlockStore"),
        same("secret"),
        same("nfs"),
        same("iscsi"),
        same("glusterfs"),
        same("flocker"),
        same("persistentVolumeClaim"),
        same("rbd"),
        same("cinder"),
        ("cephfs", "cephFS", "cephfs"),
        same("quobyte"),
        ("downwardAPI", "downwarAPI", "downwardAPI"),
        same("fc"),
        same("flexVolume"),
        same("configMap"),
        same("azureFile"),
        same("vsphereVolume"),
        same("photonPersistentDisk"),
        same("portworxVolume"),
        same("azureDisk"),
        same("storageos"),
        same("projected"),
        same("scaleIO"),
        same("csi"),
        same("ephemeral"),
        same("image"),
    ],
);

/// Sources of persistent volumes.
pub(in crate::kinds) const OF_CLUSTER: (&str, &[Sort]) = (
    "k8s.io.api.core.v1.PersistentVolumeSource",
    &[
        same("hostPath"),
        ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
        same("awsElasticBlockStore"),
        same("glusterfs"),
        same("flocker"),
        same("nfs"),
        same("rbd"),
        same("quobyte"),
        ("cephfs", "cephFS", "cephfs"),
        same("iscsi"),
        same("cinder"),
        same("fc"),
        // counts, and is never refused
        ("flexVolume", "", "flexVolume"),
        same("azureFile"),
        same("vsphereVolume"),
        same("photonPersistentDisk"),
        same("portworxVolume"),
        same("azureDisk"),
        same("scaleIO"),
        same("local"),
        same("storageos"),
        same("csi"),
    ],
);

const fn same(name: &'static str) -> Sort {
    (name, name, name)
}

/// Checks the sources of a volume, which has no others. Returns the field of the one that counts.
pub(in crate::kinds) fn check(
    volume: &Tree,
    (message, sorts): (&str, &'static [Sort]),
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) -> Option<&'static str> {
    let message = api::tables::message(message)?;
    let mut first = None;
    for (field, refused, shown) in sorts {
        if !has(volume, field) {
            continue;
        }
        if first.is_some() && !refused.is_empty() {
            errors.push(path.field(refused).forbidden("may not specify more than 1 volume type"));
            continue;
        }
        first.get_or_insert(*field);
        let own = message.fields().iter().find(|own| own.json == *field);
        if let Some(Type::Message(inner)) = own.map(|own| &own.ty) {
            rules::descend(get(volume, field), &message.at(*inner).name, &path.field(shown), errors);
        }
    }
    first
}
