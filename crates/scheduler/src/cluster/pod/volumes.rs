//! A pod's volumes as far as they matter to scheduling: claims, and disks that not every pod may use at once.

use serde::Deserialize;

use crate::cluster::Symbol;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodClaim {
    pub name: Symbol,
    /// The claim is made for the pod, and of its name.
    pub is_ephemeral: bool,
}

/// A disk that is named in the pod itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    kind: Kind,
    name: Symbol,
    /// Of a Ceph cluster: two disks are one when they share a monitor.
    monitors: Vec<Symbol>,
    read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Gce,
    Aws,
    Iscsi,
    Rbd,
}

impl Disk {
    /// Whether two pods with these disks cannot be on one node.
    pub fn conflicts(&self, other: &Disk) -> bool {
        let same = self.kind == other.kind && self.name == other.name;
        let shared = |disk: &Disk| disk.read_only && disk.kind != Kind::Aws;
        let met = self.kind != Kind::Rbd || self.monitors.iter().any(|one| other.monitors.contains(one));
        same && met && !(shared(self) && shared(other))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawVolume {
    name: String,
    persistent_volume_claim: Option<RawClaim>,
    ephemeral: Option<serde::de::IgnoredAny>,
    gce_persistent_disk: Option<RawDisk>,
    aws_elastic_block_store: Option<RawDisk>,
    iscsi: Option<RawDisk>,
    rbd: Option<RawDisk>,
    image: Option<RawImage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawImage {
    reference: String,
}

impl RawVolume {
    /// The image that the volume is made of.
    pub fn image(&self) -> Option<&str> {
        self.image.as_ref().map(|image| image.reference.as_str())
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaim {
    claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawDisk {
    pd_name: String,
    #[serde(rename = "volumeID")]
    volume_id: String,
    iqn: String,
    monitors: Vec<String>,
    pool: String,
    image: String,
    read_only: bool,
}

pub(super) fn claims(pod: &str, volumes: &[RawVolume]) -> Vec<PodClaim> {
    let claim = |volume: &RawVolume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(PodClaim { name: Symbol::new(&claim.claim_name), is_ephemeral: false }),
        (None, Some(_)) => {
            Some(PodClaim { name: Symbol::new(&format!("{pod}-{}", volume.name)), is_ephemeral: true })
        }
        (None, None) => None,
    };
    volumes.iter().filter_map(claim).collect()
}

pub(super) fn disks(volumes: &[RawVolume]) -> Vec<Disk> {
    let disk = |kind: Kind, name: &str, raw: &RawDisk| Disk {
        kind,
        name: Symbol::new(name),
        monitors: raw.monitors.iter().map(|monitor| Symbol::new(monitor)).collect(),
        read_only: raw.read_only,
    };
    let mut disks = Vec::new();
    for volume in volumes {
        let gce = volume.gce_persistent_disk.as_ref();
        disks.extend(gce.map(|raw| disk(Kind::Gce, &raw.pd_name, raw)));
        let aws = volume.aws_elastic_block_store.as_ref();
        disks.extend(aws.map(|raw| disk(Kind::Aws, &raw.volume_id, raw)));
        disks.extend(volume.iscsi.as_ref().map(|raw| disk(Kind::Iscsi, &raw.iqn, raw)));
        let rbd = volume.rbd.as_ref();
        disks.extend(rbd.map(|raw| {
            let pool = if raw.pool.is_empty() { "rbd" } else { &raw.pool };
            disk(Kind::Rbd, &format!("{pool}/{}", raw.image), raw)
        }));
    }
    disks
}
