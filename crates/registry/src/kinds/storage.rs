//! Persistent volumes, their claims, storage classes and what CSI drivers register.

mod attachment;
mod csi;
mod topology;

use api::Tree;
use api::json;
use api::status::Cause;
use machinery::Quantity;
use machinery::bounds::is_full;
use machinery::fieldpath::{Path, Shown};
use machinery::{labels, names};

use crate::internal;
use crate::kinds::{container, resources};
use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, as_object, ensure, entries, get, has, list, put, same, text, texts};

const GROUP: &str = "storage.k8s.io";

pub(super) const RULES: Table = &[
    ("k8s.io.api.storage.v1.CSIStorageCapacity", &[Rule::Check(room)]),
    ("k8s.io.api.storage.v1.VolumeAttachmentSource", &[Rule::Own("inlineVolumeSpec")]),
    (
        "k8s.io.api.core.v1.PersistentVolumeClaimSpec",
        &[Rule::Default("volumeMode", Literal::Text("Filesystem")), Rule::Check(claim)],
    ),
    ("k8s.io.api.core.v1.PersistentVolumeClaimStatus", &[Rule::Default("phase", Literal::Text("Pending"))]),
    (
        "k8s.io.api.core.v1.PersistentVolumeSpec",
        &[
            Rule::Default("persistentVolumeReclaimPolicy", Literal::Text("Retain")),
            Rule::Default("volumeMode", Literal::Text("Filesystem")),
            Rule::Check(volume),
            Rule::After(recycled),
        ],
    ),
    ("k8s.io.api.core.v1.PersistentVolumeStatus", &[Rule::Default("phase", Literal::Text("Pending"))]),
    (
        "k8s.io.api.storage.v1.StorageClass",
        &[
            Rule::Default("reclaimPolicy", Literal::Text("Delete")),
            Rule::Default("volumeBindingMode", Literal::Text("Immediate")),
        ],
    ),
    (
        "k8s.io.api.storage.v1.CSIDriverSpec",
        &[
            Rule::Default("attachRequired", Literal::Bool(true)),
            Rule::Default("podInfoOnMount", Literal::Bool(false)),
            Rule::Default("storageCapacity", Literal::Bool(false)),
            Rule::Default("fsGroupPolicy", Literal::Text("ReadWriteOnceWithFSType")),
            Rule::Default("volumeLifecycleModes", Literal::Json("[\"Persistent\"]")),
            Rule::Default("requiresRepublish", Literal::Bool(false)),
            Rule::Default("seLinuxMount", Literal::Bool(false)),
            Rule::Default("preventPodSchedulingIfMissing", Literal::Bool(false)),
        ],
    ),
];

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        status: true,
        status_bare_on_create: true,
        prepare: Some(prepare_claim),
        warn: Some(super::warnings::claim),
        check: Some(check_claim),
        full: true,
        ..Profile::new("", "persistentvolumeclaims")
    },
    Profile {
        status: true,
        prepare: Some(prepare_volume),
        warn: Some(super::warnings::volume),
        check: Some(check_volume),
        full: true,
        ..Profile::new("", "persistentvolumes")
    },
    Profile {
        check: Some(class),
        warn: Some(super::warnings::storage_class),
        full: true,
        ..Profile::new(GROUP, "storageclasses")
    },
    Profile {
        generation: Generation::Changes,
        unconditional_update: false,
        check: Some(csi::driver),
        warn: Some(super::warnings::csi_driver),
        full: true,
        ..Profile::new(GROUP, "csidrivers")
    },
    Profile {
        status: true,
        status_keeps: ALL_METADATA,
        unconditional_update: false,
        prepare_status: Some(csi::prepare_status),
        check: Some(csi::node),
        full: true,
        ..Profile::new(GROUP, "csinodes")
    },
    Profile {
        status: true,
        unconditional_update: false,
        status_keeps: ALL_METADATA,
        check: Some(attachment::check),
        check_status: Some(attachment::check),
        full: true,
        ..Profile::new(GROUP, "volumeattachments")
    },
    Profile {
        unconditional_update: false,
        check: Some(check_room),
        warn: Some(super::warnings::storage_capacity),
        full: true,
        ..Profile::new(GROUP, "csistoragecapacities")
    },
    Profile { check: Some(attributes_class), full: true, ..Profile::new(GROUP, "volumeattributesclasses") },
];

fn prepare_claim(_: &Context<'_>, claim: &mut Tree, old: Option<&Tree>) {
    // a source of another namespace is a feature that is off
    let foreign = |claim: &Tree| !text(claim, "spec.dataSourceRef.namespace").is_empty();
    if foreign(claim) && !old.is_some_and(foreign) {
        ensure(claim, "spec").remove("dataSourceRef");
    }
    same_source(claim, old.is_none());
}

/// `dataSource` can say less than `dataSourceRef`, and is dropped where it says what it cannot; each is filled from the
/// other.
fn same_source(claim: &mut Tree, new: bool) {
    let Some(spec) = claim.get_mut("spec").and_then(Tree::as_object_mut) else { return };
    let null = |spec: &Object, field: &str| spec.get(field).is_none_or(Tree::is_null);
    if let Some(source) = spec.get("dataSource").filter(|source| new && !source.is_null()) {
        let known = matches!(
            (text(source, "apiGroup"), text(source, "kind")),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        );
        if !known {
            spec.remove("dataSource");
        }
    }
    match (null(spec, "dataSource"), null(spec, "dataSourceRef")) {
        (false, true) => {
            let source = spec["dataSource"].clone();
            spec.insert("dataSourceRef", source);
        }
        (true, false) if text(&spec["dataSourceRef"], "namespace").is_empty() => {
            let mut source = spec["dataSourceRef"].clone();
            as_object(&mut source).remove("namespace");
            spec.insert("dataSource", source);
        }
        _ => {}
    }
}

fn prepare_volume(context: &Context<'_>, volume: &mut Tree, old: Option<&Tree>) {
    if old.is_none() {
        put(as_object(volume), "status", json!({"phase": "Pending"}));
        let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        ensure(volume, "status").insert("lastPhaseTransitionTime", now.into());
    }
}

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn modes(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = path.field("accessModes");
    for mode in texts(spec, "accessModes") {
        if is_full(errors) {
            break;
        }
        if !MODES.contains(&mode) {
            errors.push(at.not_supported(mode, &MODES));
        }
    }
    let alone = |mode: &str| mode == "ReadWriteOncePod";
    let mut known = texts(spec, "accessModes").filter(|mode| MODES.contains(mode));
    if texts(spec, "accessModes").any(alone) && known.any(|mode| !alone(mode)) {
        errors.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
    rules::one_of(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        let at = path.field("storageClassName");
        errors.extend(names::dns1123_subdomain(class).iter().map(|problem| at.invalid(class, problem)));
    }
}

fn positive(value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let amount = Quantity::from_tree(value).unwrap_or(Quantity::ZERO);
    if amount.nanos() <= 0 {
        errors.push(path.invalid(&*amount.to_string(), "must be greater than zero"));
    }
}

fn claim(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if list(spec, "accessModes").is_empty() {
        errors.push(path.field("accessModes").required("at least 1 access mode is required"));
    }
    labels::validate_label_selector(get(spec, "selector"), &path.field("selector"), errors);
    modes(spec, path, errors);
    let at = path.field("resources");
    match get(spec, "resources.requests.storage") {
        Tree::Null => errors.push(at.key("storage").required("")),
        value => positive(value, &at.key("storage"), errors),
    }
    // The one says what the other says where both can.
    let (old, new) = (get(spec, "dataSource"), get(spec, "dataSourceRef"));
    if !old.is_null() {
        data_source(old, &path.field("dataSource"), errors);
    }
    if !new.is_null() {
        data_source(new, &path.field("dataSourceRef"), errors);
    }
    if let Some(class) = rules::given(spec, "volumeAttributesClassName").filter(|class| !class.is_empty()) {
        let at = path.field("volumeAttributesClassName");
        rules::format(class, names::dns1123_subdomain(class), &at, errors);
    }
}

/// What a volume is filled from.
fn data_source(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let [group, kind, name] = ["apiGroup", "kind", "name"].map(|field| text(source, field));
    for (field, value) in [("name", name), ("kind", kind)] {
        if value.is_empty() {
            errors.push(path.field(field).required(""));
        }
    }
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(path.invalid(kind, detail));
        }
    } else {
        rules::format(group, names::dns1123_subdomain(group), &path.field("apiGroup"), errors);
    }
}

fn check_claim(_: &Context<'_>, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    let bound = text(old, "status.phase") == "Bound";
    let fixed = |object: &Tree| {
        let mut spec = get(object, "spec").clone();
        let map = as_object(&mut spec);
        // The binder fills in the volume, the default class comes late.
        for field in ["volumeName", "storageClassName", "volumeAttributesClassName"] {
            if get(old, "spec").get(field).is_none() || field == "volumeAttributesClassName" {
                map.remove(field);
            }
        }
        if bound {
            put(map, "resources", Tree::Null);
        }
        spec
    };
    if !same(&fixed(object), &fixed(old)) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let changed = internal::difference(&fixed(old), &fixed(object), "core.v1.PersistentVolumeClaimSpec");
        errors.push(Path::new("spec").forbidden(&format!("{detail}\n{changed}")));
    }
    let amount = |tree: &Tree, path: &str| Quantity::from_tree(get(tree, path)).unwrap_or(Quantity::ZERO);
    let (wanted, before) =
        ("spec.resources.requests.storage", amount(old, "spec.resources.requests.storage"));
    if amount(object, wanted) < before && amount(object, wanted) < amount(old, "status.capacity.storage") {
        errors.push(Path::new(wanted).forbidden("field can not be less than status.capacity"));
    }
    if get(object, "spec.volumeMode") != get(old, "spec.volumeMode") {
        let path = Path::new("volumeMode");
        errors.push(path.invalid(get(object, "spec.volumeMode"), "field is immutable"));
    }
}

const NOT_SOURCES: [&str; 10] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
    "",
];

fn sources(spec: &Tree) -> impl Iterator<Item = (&str, &Tree)> {
    let members = spec.as_object().into_iter().flatten();
    let members = members.map(|(key, value)| (key.as_str(), value));
    members.filter(|(key, value)| !NOT_SOURCES.contains(key) && !value.is_null())
}

/// The root of a node is not emptied.
fn recycled(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    let root = text(spec, "hostPath.path");
    if policy == "Recycle" && !root.is_empty() && root.split('/').all(|step| matches!(step, "" | ".")) {
        errors.push(
            path.field("persistentVolumeReclaimPolicy")
                .forbidden("may not be 'recycle' for a hostPath mount of '/'"),
        );
    }
}

/// What a class provides somewhere is of that class and that place.
fn check_room(_: &Context<'_>, room: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    for field in ["nodeTopology", "storageClassName"] {
        if old.is_some_and(|old| !same(get(room, field), get(old, field))) {
            errors.push(Path::new(field).invalid(Shown::of(room, field), "field is immutable"));
        }
    }
}

/// What a class can still provide somewhere.
fn room(room: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    labels::validate_label_selector(get(room, "nodeTopology"), &path.field("nodeTopology"), errors);
    let class = text(room, "storageClassName");
    rules::format(class, names::dns1123_subdomain(class), &path.field("storageClassName"), errors);
    if has(room, "capacity") {
        resources::not_negative(get(room, "capacity"), &path.field("capacity"), errors);
    }
}

/// Checks the volume of an attachment that has no object of its own: it is a CSI driver's.
fn inline_volume(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const INLINE: &str = "in the context of inline volumes";
    for field in ["claimRef", "capacity"] {
        if !crate::tree::unset(get(spec, field)) {
            errors.push(path.field(field).forbidden(&format!("may not be specified {INLINE}")));
        }
    }
    if !has(spec, "csi") {
        errors.push(path.field("csi").required(&format!("has to be specified {INLINE}")));
    }
    if list(spec, "accessModes").is_empty() {
        errors.push(path.field("accessModes").required(""));
    }
    modes(spec, path, errors);
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !matches!(policy, "" | "Retain") {
        let at = path.field("persistentVolumeReclaimPolicy");
        errors.push(at.forbidden(&format!("may only be Retain {INLINE}")));
    }
    if has(spec, "nodeAffinity") {
        errors.push(path.field("nodeAffinity").forbidden(&format!("may not be specified {INLINE}")));
    }
    one_source(spec, path, errors);
}

fn one_source(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if sources(spec).next().is_none() {
        errors.push(path.required("must specify a volume type"));
    }
    for (extra, _) in sources(spec).skip(1) {
        errors.push(path.field(extra).forbidden("may not specify more than 1 volume type"));
    }
    if has(spec, "csi") {
        csi::volume(get(spec, "csi"), &path.field("csi"), errors);
    }
}

fn volume(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if list(spec, "accessModes").is_empty() {
        errors.push(path.field("accessModes").required(""));
    }
    modes(spec, path, errors);
    let at = path.field("capacity");
    if entries(spec, "capacity").next().is_none() {
        errors.push(at.required(""));
    }
    match get(spec, "capacity.storage") {
        Tree::Null => errors.push(at.not_supported(get(spec, "capacity"), &["storage"])),
        value => {
            let amount = Quantity::from_tree(value).unwrap_or(Quantity::ZERO);
            if amount.nanos() < 0 {
                let shown = Shown::Plain(amount.value().to_string());
                errors.push(at.key("storage").invalid(shown, "must be a valid resource quantity"));
            }
            positive(value, &at.key("storage"), errors);
        }
    }
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !matches!(policy, "Delete" | "Recycle" | "Retain") {
        let values = ["Delete", "Recycle", "Retain"];
        errors.push(path.field("persistentVolumeReclaimPolicy").not_supported(policy, &values));
    }
    if has(spec, "nodeAffinity") && !has(spec, "nodeAffinity.required") {
        let detail = "must specify required node constraints";
        errors.push(path.field("nodeAffinity.required").required(detail));
    }
    one_source(spec, path, errors);
    if has(spec, "local") {
        match text(spec, "local.path") {
            "" => errors.push(path.field("local.path").required("")),
            place => container::no_backsteps(place, &path.field("local.path"), errors),
        }
        if !has(spec, "nodeAffinity") {
            errors.push(path.field("nodeAffinity").required("Local volume requires node affinity"));
        }
    }
}

/// Kinds of volumes that take options for mounting from an annotation.
const WITH_OPTIONS: &[&str] = &[
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

fn mount_options(volume: &Tree, errors: &mut Vec<Cause>) {
    const KEY: &str = "volume.beta.kubernetes.io/mount-options";
    let taken = WITH_OPTIONS.iter().any(|kind| has(get(volume, "spec"), kind));
    if !taken && get(volume, "metadata.annotations").get(KEY).is_some() {
        let path = Path::new("metadata.annotations");
        errors.push(path.field(KEY).forbidden("may not specify mount options for this volume type"));
    }
}

fn check_volume(_: &Context<'_>, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    mount_options(object, errors);
    let Some(old) = old else { return };
    let (spec, before) = (get(object, "spec"), get(old, "spec"));
    if !sources(spec).eq(sources(before)) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        let changed = internal::difference(before, spec, "core.v1.PersistentVolumeSource");
        errors.push(Path::new("spec.persistentvolumesource").forbidden(&format!("{detail}\n{changed}")));
    }
    if has(before, "nodeAffinity") && !same(get(spec, "nodeAffinity"), get(before, "nodeAffinity")) {
        let affinity = get(spec, "nodeAffinity");
        let shown = match affinity {
            Tree::Null => Shown::Null,
            affinity => internal::shown(affinity, "core.v1.VolumeNodeAffinity"),
        };
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(Path::new("nodeAffinity").invalid(shown, detail));
    }
    if has(before, "volumeMode") && get(spec, "volumeMode") != get(before, "volumeMode") {
        errors.push(Path::new("volumeMode").invalid(get(spec, "volumeMode"), "field is immutable"));
    }
}

fn class(_: &Context<'_>, class: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    provisioner(class, "provisioner", errors);
    parameters(class, errors);
    for (field, values) in [
        ("reclaimPolicy", ["Delete", "Retain"]),
        ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
    ] {
        let value = text(class, field);
        let unsaid = value.is_empty() && field == "reclaimPolicy";
        if !unsaid && !values.contains(&value) {
            errors.push(Path::new(field).not_supported(value, &values));
        }
    }
    topology::check(list(class, "allowedTopologies"), errors);
}

/// The name of what provides volumes.
fn provisioner(class: &Tree, field: &str, errors: &mut Vec<Cause>) {
    let name = text(class, field).to_lowercase();
    if name.is_empty() {
        errors.push(Path::new(field).required(""));
    } else {
        rules::format(&name, names::qualified_name(&name), &Path::new(field), errors);
    }
}

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES: usize = 256 << 10;

fn parameters(class: &Tree, errors: &mut Vec<Cause>) {
    let path = Path::new("parameters");
    if entries(class, "parameters").count() > PARAMETERS_MAX {
        errors.push(path.too_long(PARAMETERS_MAX));
        return;
    }
    if entries(class, "parameters").any(|(key, _)| key.is_empty()) {
        errors.push(path.invalid("", "field can not be empty."));
    }
    let size = |(key, value): (&str, &Tree)| key.len() + value.as_str().map_or(0, str::len);
    if entries(class, "parameters").map(size).sum::<usize>() > PARAMETERS_BYTES {
        errors.push(path.too_long(PARAMETERS_BYTES));
    }
}

/// How volumes may be changed: what a class says never changes.
fn attributes_class(_: &Context<'_>, class: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    for field in ["driverName", "parameters"] {
        if old.is_some_and(|old| !same(get(class, field), get(old, field))) {
            errors.push(Path::new(field).forbidden(&format!("updates to {field} are forbidden.")));
        }
    }
    provisioner(class, "driverName", errors);
    parameters(class, errors);
    if entries(class, "parameters").next().is_none() {
        errors.push(Path::new("parameters").required("must contain at least one key/value pair"));
    }
}
