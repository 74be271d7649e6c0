//! ConfigMaps, Secrets, volumes and what belongs to them.

use api::Tree;
use jiff::Timestamp;

use super::format::{UNSET, age, joined, or};
use super::{AGE, NAME, Printer, boolean, integer, name, string, wide};
use crate::tree::{entries, flag, get, has, list, text, texts};

const GROUP: &str = "storage.k8s.io";

pub(super) const PRINTERS: &[Printer] = &[
    Printer {
        group: "",
        plural: "configmaps",
        columns: &[NAME, string("Data"), AGE],
        cells: |object, now| {
            let count = entries(object, "data").count() + entries(object, "binaryData").count();
            vec![name(object), count.into(), age(object, now)]
        },
    },
    Printer {
        group: "",
        plural: "secrets",
        columns: &[NAME, string("Type"), string("Data"), AGE],
        cells: |object, now| {
            vec![
                name(object),
                text(object, "type").into(),
                entries(object, "data").count().into(),
                age(object, now),
            ]
        },
    },
    Printer {
        group: "",
        plural: "persistentvolumeclaims",
        columns: &[
            NAME,
            string("Status"),
            string("Volume"),
            string("Capacity"),
            string("Access Modes"),
            string("StorageClass"),
            string("VolumeAttributesClass"),
            AGE,
            wide("VolumeMode"),
        ],
        cells: claim,
    },
    Printer {
        group: "",
        plural: "persistentvolumes",
        columns: &[
            NAME,
            string("Capacity"),
            string("Access Modes"),
            string("Reclaim Policy"),
            string("Status"),
            string("Claim"),
            string("StorageClass"),
            string("VolumeAttributesClass"),
            string("Reason"),
            AGE,
            wide("VolumeMode"),
        ],
        cells: volume,
    },
    Printer {
        group: GROUP,
        plural: "storageclasses",
        columns: &[
            NAME,
            string("Provisioner"),
            string("ReclaimPolicy"),
            string("VolumeBindingMode"),
            string("AllowVolumeExpansion"),
            AGE,
        ],
        cells: |object, now| {
            vec![
                name(object),
                text(object, "provisioner").into(),
                or(text(object, "reclaimPolicy"), "Delete").into(),
                or(text(object, "volumeBindingMode"), "Immediate").into(),
                flag(object, "allowVolumeExpansion").into(),
                age(object, now),
            ]
        },
    },
    Printer {
        group: GROUP,
        plural: "volumeattributesclasses",
        columns: &[NAME, string("DriverName"), AGE],
        cells: |object, now| vec![name(object), text(object, "driverName").into(), age(object, now)],
    },
    Printer {
        group: GROUP,
        plural: "volumeattachments",
        columns: &[
            NAME,
            super::Column { format: "name", ..string("Attacher") },
            string("PV"),
            string("Node"),
            boolean("Attached"),
            AGE,
        ],
        cells: |object, now| {
            vec![
                name(object),
                text(object, "spec.attacher").into(),
                text(object, "spec.source.persistentVolumeName").into(),
                text(object, "spec.nodeName").into(),
                flag(object, "status.attached").into(),
                age(object, now),
            ]
        },
    },
    Printer {
        group: GROUP,
        plural: "csinodes",
        columns: &[NAME, integer("Drivers"), AGE],
        cells: |object, now| vec![name(object), list(object, "spec.drivers").len().into(), age(object, now)],
    },
    Printer {
        group: GROUP,
        plural: "csidrivers",
        columns: &[
            NAME,
            boolean("AttachRequired"),
            boolean("PodInfoOnMount"),
            boolean("StorageCapacity"),
            string("TokenRequests"),
            boolean("RequiresRepublish"),
            string("Modes"),
            AGE,
        ],
        cells: driver,
    },
];

fn modes(object: &Tree, path: &str) -> String {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let present: Vec<&str> = texts(object, path).map(short).collect();
    let ordered = ["RWO", "ROX", "RWX", "RWOP"].into_iter().filter(|mode| present.contains(mode));
    ordered.collect::<Vec<_>>().join(",")
}

fn class(object: &Tree) -> &str {
    let old = "volume.beta.kubernetes.io/storage-class";
    let annotation = get(object, "metadata.annotations").get(old).and_then(Tree::as_str);
    annotation.unwrap_or_else(|| text(object, "spec.storageClassName"))
}

fn phase(object: &Tree) -> Tree {
    if has(object, "metadata.deletionTimestamp") { "Terminating" } else { text(object, "status.phase") }
        .into()
}

fn claim(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let bound = !text(object, "spec.volumeName").is_empty();
    let capacity = match text(object, "status.capacity.storage") {
        _ if !bound => "",
        "" => "0",
        capacity => capacity,
    };
    let modes = if bound { modes(object, "status.accessModes") } else { String::new() };
    vec![
        name(object),
        phase(object),
        text(object, "spec.volumeName").into(),
        capacity.into(),
        modes.into(),
        class(object).into(),
        or(text(object, "spec.volumeAttributesClassName"), UNSET).into(),
        age(object, now),
        or(text(object, "spec.volumeMode"), UNSET).into(),
    ]
}

fn volume(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let reference = get(object, "spec.claimRef");
    let claim = if reference.is_null() {
        String::new()
    } else {
        format!("{}/{}", text(reference, "namespace"), text(reference, "name"))
    };
    vec![
        name(object),
        text(object, "spec.capacity.storage").into(),
        modes(object, "spec.accessModes").into(),
        text(object, "spec.persistentVolumeReclaimPolicy").into(),
        phase(object),
        claim.into(),
        class(object).into(),
        or(text(object, "spec.volumeAttributesClassName"), UNSET).into(),
        text(object, "status.reason").into(),
        age(object, now),
        or(text(object, "spec.volumeMode"), UNSET).into(),
    ]
}

fn driver(object: &Tree, now: Timestamp) -> Vec<Tree> {
    let spec = get(object, "spec");
    let tokens: Vec<&str> = list(spec, "tokenRequests").iter().map(|token| text(token, "audience")).collect();
    let tokens = if tokens.is_empty() { UNSET.to_owned() } else { tokens.join(",") };
    vec![
        name(object),
        spec.get("attachRequired").and_then(Tree::as_bool).unwrap_or(true).into(),
        flag(spec, "podInfoOnMount").into(),
        flag(spec, "storageCapacity").into(),
        tokens.into(),
        flag(spec, "requiresRepublish").into(),
        or(&joined(spec, "volumeLifecycleModes", ","), "<none>").into(),
        age(object, now),
    ]
}
