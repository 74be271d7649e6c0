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
use crate::kinds::volume::sources;
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
            Rule::Own(""),
            Rule::Check(volume),
            Rule::After(recycled),
        ],
    ),
    ("k8s.io.api.core.v1.LocalVolumeSource", &[Rule::Required("path"), Rule::Check(local)]),
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
        check_status: Some(check_claim_status),
        full: true,
        answers_deleted: true,
        completed_on_read: true,
        ..Profile::new("", "persistentvolumeclaims")
    },
    Profile {
        status: true,
        prepare: Some(prepare_volume),
        prepare_status: Some(prepare_volume_status),
        warn: Some(super::warnings::volume),
        check: Some(check_volume),
        full: true,
        answers_deleted: true,
        ..Profile::new("", "persistentvolumes")
    },
    Profile {
        check: Some(class),
        warn: Some(super::warnings::storage_class),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "storageclasses")
    },
    Profile {
        generation: Generation::Changes,
        unconditional_update: false,
        check: Some(csi::driver),
        warn: Some(super::warnings::csi_driver),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "csidrivers")
    },
    Profile {
        status: true,
        status_keeps: ALL_METADATA,
        unconditional_update: false,
        prepare_status: Some(csi::prepare_status),
        check: Some(csi::node),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "csinodes")
    },
    Profile {
        status: true,
        unconditional_update: false,
        status_keeps: ALL_METADATA,
        check: Some(attachment::check),
        check_status: Some(attachment::check),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "volumeattachments")
    },
    Profile {
        unconditional_update: false,
        check: Some(check_room),
        warn: Some(super::warnings::storage_capacity),
        full: true,
        ..Profile::new(GROUP, "csistoragecapacities")
    },
    Profile {
        check: Some(attributes_class),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "volumeattributesclasses")
    },
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

/// A volume says since when it is in its phase.
fn prepare_volume_status(context: &Context<'_>, volume: &mut Tree, old: Option<&Tree>) {
    let Some(old) = old else { return };
    let since = "status.lastPhaseTransitionTime";
    let phase = |volume: &Tree| match text(volume, "status.phase") {
        "" => "Pending".to_owned(),
        phase => phase.to_owned(),
    };
    let (time, time_before) = (get(volume, since).clone(), get(old, since).clone());
    if phase(volume) == phase(old) {
        if time.is_null() && !time_before.is_null() {
            put(ensure(volume, "status"), "lastPhaseTransitionTime", time_before);
        }
    } else if time.is_null() || time == time_before {
        let now = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        put(ensure(volume, "status"), "lastPhaseTransitionTime", now.into());
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
}

fn class_and_mode(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        let at = path.field("storageClassName");
        errors.extend(names::dns1123_subdomain(class).iter().map(|problem| at.invalid(class, problem)));
    }
    rules::one_of(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
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
    class_and_mode(spec, path, errors);
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
    let namespace = text(source, "namespace");
    if !namespace.is_empty() {
        rules::format(namespace, names::dns1123_label(namespace), &path.field("namespace"), errors);
    }
}

fn check_claim(_: &Context<'_>, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    let (fixed, before) = fixed_specs(object, old);
    if !same(&fixed, &before) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let changed = internal::difference(&before, &fixed, "core.v1.PersistentVolumeClaimSpec");
        errors.push(Path::new("spec").forbidden(&format!("{detail}\n{changed}")));
    }
    let amount = |tree: &Tree, path: &str| Quantity::from_tree(get(tree, path)).unwrap_or(Quantity::ZERO);
    let (wanted, before) =
        ("spec.resources.requests.storage", amount(old, "spec.resources.requests.storage"));
    if amount(object, wanted) < before && amount(object, wanted) <= amount(old, "status.capacity.storage") {
        errors.push(Path::new(wanted).forbidden("field can not be less than status.capacity"));
    }
    if get(object, "spec.volumeMode") != get(old, "spec.volumeMode") {
        let path = Path::new("volumeMode");
        errors.push(path.invalid(get(object, "spec.volumeMode"), "field is immutable"));
    }
    let (class, class_before) = (get(object, CLASS), get(old, CLASS));
    if !same(class, class_before) && has(old, "status.currentVolumeAttributesClassName") {
        let what = match class.as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let detail =
            format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(Path::new(CLASS).forbidden(&detail));
    }
}

const CLASS: &str = "spec.volumeAttributesClassName";

/// Specs of a claim and of what it was before, without the differences that are allowed.
fn fixed_specs(object: &Tree, old: &Tree) -> (Tree, Tree) {
    let (mut spec, mut before) = (get(object, "spec").clone(), get(old, "spec").clone());
    let take = |to: &mut Tree, from: &Tree, field: &str| put(as_object(to), field, get(from, field).clone());
    // The binder fills in the volume, the default class comes late.
    if text(&before, "volumeName").is_empty() {
        take(&mut before, &spec, "volumeName");
    }
    if !has(&before, "storageClassName") {
        take(&mut spec, &before, "storageClassName");
    }
    if text(old, "status.phase") == "Bound" {
        take(&mut spec, &before, "volumeAttributesClassName");
        if has(&spec, "resources.requests") {
            let size = get(&before, "resources.requests.storage").clone();
            put(ensure(&mut spec, "resources.requests"), "storage", size);
        }
    }
    (spec, before)
}

/// What is said of a claim's resizing: by resource, how far it is, and what is set aside.
fn check_claim_status(_: &Context<'_>, claim: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    const STATES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let at = Path::new("status.capacity");
    for (name, value) in entries(claim, "status.capacity") {
        if is_full(errors) {
            return;
        }
        valid_amount(value, &at.key(name), errors);
    }
    let at = Path::new("status.allocatedResourceStatuses");
    for (name, state) in entries(claim, "status.allocatedResourceStatuses") {
        if is_full(errors) {
            return;
        }
        claimed(name, &at, errors);
        if !STATES.contains(&state.as_str().unwrap_or_default()) {
            errors.push(at.not_supported(name, &STATES));
        }
    }
    let at = Path::new("status.allocatedResources");
    for (name, value) in entries(claim, "status.allocatedResources") {
        if is_full(errors) {
            return;
        }
        let before = errors.len();
        claimed(name, &at, errors);
        if errors.len() == before {
            valid_amount(value, &at.key(name), errors);
        }
    }
}

/// Of the resources without a domain a claim has storage alone.
fn claimed(name: &str, at: &Path<'_>, errors: &mut Vec<Cause>) {
    let problems = names::qualified_name(name);
    errors.extend(problems.iter().map(|problem| at.invalid(name, problem)));
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if problems.is_empty() && native && name != "storage" {
        errors.push(at.not_supported(name, &["storage"]));
    }
}

fn valid_amount(value: &Tree, at: &Path<'_>, errors: &mut Vec<Cause>) {
    let amount = Quantity::from_tree(value).unwrap_or(Quantity::ZERO);
    if amount.nanos() < 0 {
        let shown = Shown::Plain(amount.value().to_string());
        errors.push(at.invalid(shown, "must be a valid resource quantity"));
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

fn one_source(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let source = sources::check(spec, sources::OF_CLUSTER, path, errors);
    match source {
        None => errors.push(path.required("must specify a volume type")),
        Some("local") if !has(spec, "nodeAffinity") => {
            errors.push(path.field("nodeAffinity").required("Local volume requires node affinity"));
        }
        Some("csi") => csi::volume(get(spec, "csi"), &path.field("csi"), errors),
        Some(_) => {}
    }
}

fn local(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    container::no_backsteps(text(source, "path"), &path.field("path"), errors);
}

/// The root of a node is not emptied, and classes of attributes are those of CSI volumes.
fn recycled(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    let root = text(spec, "hostPath.path");
    if policy == "Recycle" && !root.is_empty() && root.split('/').all(|step| matches!(step, "" | ".")) {
        errors.push(
            path.field("persistentVolumeReclaimPolicy")
                .forbidden("may not be 'recycle' for a hostPath mount of '/'"),
        );
    }
    class_and_mode(spec, path, errors);
    let Some(class) = rules::given(spec, "volumeAttributesClassName") else { return };
    let at = path.field("volumeAttributesClassName");
    match class {
        "" => errors.push(at.required("an empty string is disallowed")),
        class => rules::format(class, names::dns1123_subdomain(class), &at, errors),
    }
    if !has(spec, "csi") {
        errors.push(path.field("csi").required("has to be specified when using volumeAttributesClassName"));
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
    class_and_mode(spec, path, errors);
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

fn volume(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if list(spec, "accessModes").is_empty() {
        errors.push(path.field("accessModes").required(""));
    }
    modes(spec, path, errors);
    let at = path.field("capacity");
    if entries(spec, "capacity").next().is_none() {
        errors.push(at.required(""));
    }
    if !has(spec, "capacity.storage") || entries(spec, "capacity").count() > 1 {
        let mut shown = get(spec, "capacity").clone();
        shown.as_object_mut().into_iter().for_each(Object::sort_keys);
        errors.push(at.not_supported(&shown, &["storage"]));
    }
    for (name, value) in entries(spec, "capacity") {
        if is_full(errors) {
            break;
        }
        valid_amount(value, &at.key(name), errors);
        positive(value, &at.key(name), errors);
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
    if has(old, CLASS) && !has(object, CLASS) {
        errors.push(Path::new(CLASS).forbidden("update from non-nil value to nil is forbidden"));
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
