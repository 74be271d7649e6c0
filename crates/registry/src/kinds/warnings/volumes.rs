//! Volumes of kinds that are no more, and files of one volume that would lie in one place.

use api::Tree;

use crate::tree::{get, has, list, text};

/// Volumes that no kubelet mounts any more, in the order in which they are warned of: the field, its name in the warning, since when.
const REMOVED: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("ephemeral", "", ""),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The warning about a source of this kind, where there is one.
pub(super) fn removed(sources: &Tree, field: &str, at: &str) -> Option<String> {
    let (_, shown, since) = REMOVED.iter().find(|(name, ..)| *name == field)?;
    has(sources, field).then(|| format!("{at}.{shown}: {since}"))
}

/// Every volume's kind.
pub(super) fn kinds(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = format!("{at}.volumes[{index}]");
        for (field, ..) in REMOVED {
            if *field == "ephemeral" {
                let at = format!("{at}.ephemeral.volumeClaimTemplate.spec");
                super::claim_spec(get(volume, "ephemeral.volumeClaimTemplate.spec"), &at, warnings);
            } else {
                warnings.extend(removed(volume, field, &at));
            }
        }
    }
}

/// A path in a volume and what puts it there.
#[derive(PartialEq)]
struct File<'t> {
    path: &'t str,
    source: String,
}

impl std::fmt::Display for File<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.source.as_str() {
            "" => write!(f, "{:?}", self.path),
            source => write!(f, "{:?} ({source})", self.path),
        }
    }
}

/// Files of one volume of which one would hide the other.
pub(super) fn overlaps(spec: &Tree, warnings: &mut Vec<String>) {
    for volume in list(spec, "volumes") {
        let name = text(volume, "name");
        for (field, title) in [
            ("configMap", format!("ConfigMap {:?}", text(volume, "configMap.name"))),
            ("secret", format!("Secret {:?}", text(volume, "secret.secretName"))),
            ("downwardAPI", "DownwardAPI".to_owned()),
        ] {
            let mut files = Vec::new();
            for file in items(volume, field, "") {
                add(&mut files, file, name, &title, warnings);
            }
        }
        let mut files = Vec::new();
        for source in list(volume, "projected.sources") {
            if source.as_object().is_none_or(|kinds| kinds.values().all(Tree::is_null)) {
                warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
            for file in projected(source) {
                add(&mut files, file, name, "Projected", warnings);
            }
        }
    }
}

fn items<'t>(holder: &'t Tree, field: &str, source: &str) -> Vec<File<'t>> {
    let all = list(holder, &format!("{field}.items")).iter();
    all.map(|item| File { path: text(item, "path"), source: source.to_owned() }).collect()
}

fn projected(source: &Tree) -> Vec<File<'_>> {
    let one = |path: &str, from: &str| File { path: text(source, path), source: from.to_owned() };
    for field in ["configMap", "secret", "downwardAPI"] {
        if has(source, &format!("{field}.items")) {
            let from = match field {
                "configMap" => format!("ConfigMap {:?}", text(source, "configMap.name")),
                "secret" => format!("Secret {:?}", text(source, "secret.name")),
                _ => "DownwardAPI".to_owned(),
            };
            return items(source, field, &from);
        }
    }
    if has(source, "serviceAccountToken") {
        return vec![one("serviceAccountToken.path", "ServiceAccountToken")];
    }
    let bundle = get(source, "clusterTrustBundle");
    if !bundle.is_null() {
        let named = if has(bundle, "name") { text(bundle, "name") } else { text(bundle, "signerName") };
        return vec![one("clusterTrustBundle.path", &format!("ClusterTrustBundle {named:?}"))];
    }
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .map(|(field, from)| one(&format!("podCertificate.{field}"), from))
    .filter(|file| !file.path.is_empty())
    .collect()
}

/// How many others each file is compared with: a body full of equal ones costs its own length.
const COMPARED: usize = 32;

fn add<'t>(files: &mut Vec<File<'t>>, file: File<'t>, volume: &str, title: &str, warnings: &mut Vec<String>) {
    let file = File { path: file.path.trim_end_matches('/'), ..file };
    let below = |one: &str, other: &str| {
        one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let others = files.iter().take(COMPARED);
    for other in others.filter(|other| !file.path.is_empty() && !other.path.is_empty()) {
        if below(file.path, other.path) || below(other.path, file.path) {
            warnings.push(format!("volume {volume:?} ({title}): overlapping paths: {file} with {other}"));
        }
    }
    files.push(file);
}
