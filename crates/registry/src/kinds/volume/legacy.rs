//! Volumes of storage that had a plugin in the tree: what must be said of each, whether or not anything here can mount it.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::rules::{self, Literal, Rule, Table};
use crate::tree::{entries, flag, get, has, int, list, text};

pub(in crate::kinds) const RULES: Table = &[
    ("k8s.io.api.core.v1.GCEPersistentDiskVolumeSource", &[Rule::Required("pdName"), Rule::Check(partition)]),
    (
        "k8s.io.api.core.v1.AWSElasticBlockStoreVolumeSource",
        &[Rule::Required("volumeID"), Rule::Check(partition)],
    ),
    ("k8s.io.api.core.v1.GlusterfsVolumeSource", &[Rule::Required("endpoints"), Rule::Required("path")]),
    (
        "k8s.io.api.core.v1.GlusterfsPersistentVolumeSource",
        &[Rule::Required("endpoints"), Rule::Required("path"), Rule::Check(endpoints_namespace)],
    ),
    ("k8s.io.api.core.v1.FlockerVolumeSource", &[Rule::Check(flocker)]),
    ("k8s.io.api.core.v1.RBDVolumeSource", RBD),
    ("k8s.io.api.core.v1.RBDPersistentVolumeSource", RBD),
    ("k8s.io.api.core.v1.CinderVolumeSource", &[Rule::Required("volumeID"), Rule::Check(secret_name)]),
    (
        "k8s.io.api.core.v1.CinderPersistentVolumeSource",
        &[Rule::Required("volumeID"), Rule::Check(secret_name), Rule::Check(secret_namespace)],
    ),
    ("k8s.io.api.core.v1.CephFSVolumeSource", &[Rule::Required("monitors")]),
    ("k8s.io.api.core.v1.CephFSPersistentVolumeSource", &[Rule::Required("monitors")]),
    ("k8s.io.api.core.v1.QuobyteVolumeSource", &[Rule::Check(quobyte), Rule::Required("volume")]),
    ("k8s.io.api.core.v1.FCVolumeSource", &[Rule::Check(fibre_channel)]),
    ("k8s.io.api.core.v1.FlexVolumeSource", &[Rule::Required("driver"), Rule::Check(flex_options)]),
    ("k8s.io.api.core.v1.FlexPersistentVolumeSource", &[Rule::Required("driver"), Rule::Check(flex_options)]),
    (
        "k8s.io.api.core.v1.AzureFileVolumeSource",
        &[Rule::Required("secretName"), Rule::Required("shareName")],
    ),
    (
        "k8s.io.api.core.v1.AzureFilePersistentVolumeSource",
        &[Rule::Required("secretName"), Rule::Required("shareName"), Rule::Check(azure_namespace)],
    ),
    ("k8s.io.api.core.v1.VsphereVirtualDiskVolumeSource", &[Rule::Required("volumePath")]),
    ("k8s.io.api.core.v1.PhotonPersistentDiskVolumeSource", &[Rule::Required("pdID")]),
    ("k8s.io.api.core.v1.PortworxVolumeSource", &[Rule::Required("volumeID")]),
    (
        "k8s.io.api.core.v1.AzureDiskVolumeSource",
        &[
            Rule::Default("cachingMode", Literal::Text("ReadWrite")),
            Rule::Default("kind", Literal::Text("Shared")),
            Rule::Default("fsType", Literal::Text("ext4")),
            Rule::Default("readOnly", Literal::Bool(false)),
            Rule::Required("diskName"),
            Rule::Required("diskURI"),
            Rule::OneOf("cachingMode", &["None", "ReadOnly", "ReadWrite"]),
            Rule::OneOf("kind", &["Dedicated", "Managed", "Shared"]),
            Rule::Check(azure_disk),
        ],
    ),
    ("k8s.io.api.core.v1.StorageOSVolumeSource", &[Rule::Check(storage_os), Rule::Check(secret_name)]),
    (
        "k8s.io.api.core.v1.StorageOSPersistentVolumeSource",
        &[Rule::Check(storage_os), Rule::Check(secret_name), Rule::Check(secret_namespace)],
    ),
    ("k8s.io.api.core.v1.ScaleIOVolumeSource", SCALE_IO),
    ("k8s.io.api.core.v1.ScaleIOPersistentVolumeSource", SCALE_IO),
    (
        "k8s.io.api.core.v1.ISCSIVolumeSource",
        &[
            Rule::Default("iscsiInterface", Literal::Text("default")),
            Rule::Required("targetPortal"),
            Rule::Check(iscsi),
        ],
    ),
    (
        "k8s.io.api.core.v1.ISCSIPersistentVolumeSource",
        &[
            Rule::Default("iscsiInterface", Literal::Text("default")),
            Rule::Required("targetPortal"),
            Rule::Check(iscsi_of_cluster),
        ],
    ),
];

const RBD: &[Rule] = &[
    Rule::Default("pool", Literal::Text("rbd")),
    Rule::Default("user", Literal::Text("admin")),
    Rule::Default("keyring", Literal::Text("/etc/ceph/keyring")),
    Rule::Required("monitors"),
    Rule::Required("image"),
];

const SCALE_IO: &[Rule] = &[
    Rule::Default("storageMode", Literal::Text("ThinProvisioned")),
    Rule::Default("fsType", Literal::Text("xfs")),
    Rule::Required("gateway"),
    Rule::Required("system"),
    Rule::Required("volumeName"),
];

fn partition(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let partition = int(source, "partition").unwrap_or(0);
    if !(0..=255).contains(&partition) {
        errors.push(path.field("partition").invalid(partition, "must be between 1 and 255, inclusive"));
    }
}

fn endpoints_namespace(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = path.field("endpointsNamespace");
    match rules::given(source, "endpointsNamespace") {
        None => {}
        Some("") => {
            errors.push(at.invalid("", "if the endpointnamespace is set, it must be a valid namespace name"));
        }
        Some(namespace) => rules::format(namespace, names::dns1123_label(namespace), &at, errors),
    }
}

fn flocker(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let [name, uuid] = ["datasetName", "datasetUUID"].map(|field| text(source, field));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => errors.push(path.required("one of datasetName and datasetUUID is required")),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(path.invalid("resource", detail));
        }
        _ => {}
    }
    if name.contains('/') {
        errors.push(path.field("datasetName").invalid(name, "must not contain '/'"));
    }
}

fn secret_name(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if has(source, "secretRef") && text(source, "secretRef.name").is_empty() {
        errors.push(path.field("secretRef.name").required(""));
    }
}

fn secret_namespace(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if has(source, "secretRef") && text(source, "secretRef.namespace").is_empty() {
        errors.push(path.field("secretRef.namespace").required(""));
    }
}

fn quobyte(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        errors.push(path.field("registry").required(detail));
    } else if text(source, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(path.field("tenant").required(detail));
    } else if let Some(wrong) = registry.split(',').find(|pair| !is_host_and_port(pair)) {
        let wrong = registry.split(',').filter(|pair| *pair == wrong || !is_host_and_port(pair)).count();
        let complaint = path.field("registry").invalid(registry, detail);
        errors.extend(std::iter::repeat_n(complaint, wrong.min(8)));
    }
}

/// A host and its port, as Go splits them: one colon outside of brackets.
fn is_host_and_port(pair: &str) -> bool {
    let host = match pair.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, port)) => return port.starts_with(':') && !port[1..].contains([':', '[', ']']),
            None => return false,
        },
        None => pair,
    };
    host.matches(':').count() == 1 && !host.contains(['[', ']'])
}

fn fibre_channel(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (targets, wwids) = (list(source, "targetWWNs"), list(source, "wwids"));
    let at = path.field("targetWWNs");
    if targets.is_empty() && wwids.is_empty() {
        errors.push(at.required("must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !wwids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(at.invalid(get(source, "targetWWNs"), detail));
    }
    if targets.is_empty() {
        return;
    }
    match int(source, "lun") {
        None => errors.push(path.field("lun").required("lun is required if targetWWNs is specified")),
        Some(lun) if !(0..=255).contains(&lun) => {
            errors.push(path.field("lun").invalid(lun, "must be between 0 and 255, inclusive"));
        }
        Some(_) => {}
    }
}

fn flex_options(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = path.field("options");
    for (key, _) in entries(source, "options") {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
        let namespace = format!(".{}", namespace.to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(at.key(key).invalid(key, detail));
        }
    }
}

fn azure_namespace(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if rules::given(source, "secretNamespace") == Some("") {
        errors.push(path.field("secretNamespace").required(""));
    }
}

fn azure_disk(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (uri, at) = (text(source, "diskURI"), path.field("diskURI"));
    match rules::given(source, "kind") {
        Some("Managed") if !uri.starts_with("/subscriptions/") => {
            errors.push(at.not_supported(uri, &[MANAGED]));
        }
        None | Some("Managed") => {}
        Some(_) if !uri.starts_with("https://") => errors.push(at.not_supported(uri, &[BLOB])),
        Some(_) => {}
    }
}

fn storage_os(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let [name, namespace] = ["volumeName", "volumeNamespace"].map(|field| text(source, field));
    if name.is_empty() {
        errors.push(path.field("volumeName").required(""));
    } else {
        rules::format(name, names::dns1123_label(name), &path.field("volumeName"), errors);
    }
    if !namespace.is_empty() {
        rules::format(namespace, names::dns1123_label(namespace), &path.field("volumeNamespace"), errors);
    }
}

fn iscsi(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let start = "must be valid format starting with iqn, eui, or naa";
    iscsi_names(source, start, false, path, errors);
}

fn iscsi_of_cluster(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    iscsi_names(source, "must be valid format", true, path, errors);
}

fn iscsi_names(source: &Tree, start: &str, names_secret: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let named = |name: &str, at: &Path<'_>, errors: &mut Vec<Cause>| match iscsi_name(name) {
        None => errors.push(at.invalid(name, start)),
        Some(false) => errors.push(at.invalid(name, "must be valid format")),
        Some(true) => {}
    };
    match text(source, "iqn") {
        "" => errors.push(path.field("iqn").required("")),
        iqn => named(iqn, &path.field("iqn"), errors),
    }
    let lun = int(source, "lun").unwrap_or(0);
    if !(0..=255).contains(&lun) {
        errors.push(path.field("lun").invalid(lun, "must be between 0 and 255, inclusive"));
    }
    let authenticated = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|field| flag(source, field));
    if authenticated && !has(source, "secretRef") {
        errors.push(path.field("secretRef").required(""));
    }
    if names_secret {
        secret_name(source, path, errors);
    }
    if let Some(initiator) = rules::given(source, "initiatorName") {
        named(initiator, &path.field("initiatorname"), errors);
    }
}

/// Whether a name of an initiator or target is well formed; `None` where it is of no known sort.
fn iscsi_name(name: &str) -> Option<bool> {
    let digits = |text: &str, count: usize| {
        text.chars().count() == count && text.chars().all(|each| each.is_ascii_alphanumeric())
    };
    let after_any = |rest: &str| rest.chars().next().map_or(0, char::len_utf8);
    if let Some(rest) = name.strip_prefix("eui") {
        let (any, rest) = rest.split_at(after_any(rest));
        return Some(!any.is_empty() && digits(rest, 16));
    }
    if let Some(rest) = name.strip_prefix("naa") {
        let (any, rest) = rest.split_at(after_any(rest));
        return Some(!any.is_empty() && digits(rest, 32));
    }
    let rest = name.strip_prefix("iqn")?;
    let dated = || {
        let rest = rest.strip_prefix('.')?;
        let (date, rest) = rest.split_at_checked(7)?;
        let is_date = date.bytes().enumerate().all(|(place, byte)| match place {
            4 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        let (authority, own) = rest.strip_prefix('.')?.split_once(':')?;
        let is_authority = !authority.is_empty()
            && authority.chars().all(|each| each.is_ascii_alphanumeric() || matches!(each, '-' | '.'));
        let is_own = !own.is_empty() && !own.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\r']);
        Some(is_date && is_authority && is_own)
    };
    Some(dated().unwrap_or(false))
}
