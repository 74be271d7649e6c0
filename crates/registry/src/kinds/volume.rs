//! Volumes of pods: defaults and validation of the sources.

pub(super) mod legacy;
pub(super) mod sources;

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{Quantity, labels, names};

use crate::kinds::container::{self, field_ref, local_path, no_backsteps, resource_ref};
use crate::rules::{self, Literal, Rule, Table};
use crate::tree::{Object, fill, get, has, int, list, member, text, unset};

const MODE: Rule = Rule::Default("defaultMode", Literal::Number(0o644));

pub(super) const RULES: Table = &[
    ("k8s.io.api.core.v1.Volume", &[Rule::DefaultFn(empty_dir), Rule::Own(""), Rule::Check(one_source)]),
    ("k8s.io.api.core.v1.SecretVolumeSource", &[MODE, Rule::Required("secretName"), Rule::Check(keys)]),
    ("k8s.io.api.core.v1.ConfigMapVolumeSource", &[MODE, Rule::Required("name"), Rule::Check(keys)]),
    ("k8s.io.api.core.v1.DownwardAPIVolumeSource", &[MODE, Rule::Check(downward)]),
    ("k8s.io.api.core.v1.DownwardAPIProjection", &[Rule::Check(downward)]),
    ("k8s.io.api.core.v1.SecretProjection", &[Rule::Required("name"), Rule::Check(keys)]),
    ("k8s.io.api.core.v1.ConfigMapProjection", &[Rule::Required("name"), Rule::Check(keys)]),
    ("k8s.io.api.core.v1.ProjectedVolumeSource", &[MODE, Rule::Check(projected)]),
    (
        "k8s.io.api.core.v1.ServiceAccountTokenProjection",
        &[Rule::Default("expirationSeconds", Literal::Number(3600))],
    ),
    (
        "k8s.io.api.core.v1.HostPathVolumeSource",
        &[Rule::Default("type", Literal::Text("")), Rule::Check(host_path)],
    ),
    ("k8s.io.api.core.v1.EmptyDirVolumeSource", &[Rule::Check(size_limit)]),
    ("k8s.io.api.core.v1.PersistentVolumeClaimVolumeSource", &[Rule::Required("claimName")]),
    ("k8s.io.api.core.v1.NFSVolumeSource", &[Rule::Required("server"), Rule::Check(nfs)]),
    ("k8s.io.api.core.v1.CSIVolumeSource", &[Rule::Check(csi)]),
    ("k8s.io.api.core.v1.GitRepoVolumeSource", &[Rule::Required("repository")]),
    ("k8s.io.api.core.v1.EphemeralVolumeSource", &[Rule::Required("volumeClaimTemplate")]),
    ("k8s.io.api.core.v1.PersistentVolumeClaimTemplate", &[Rule::Check(claim_template)]),
    (
        "k8s.io.api.core.v1.ImageVolumeSource",
        &[
            Rule::DefaultFn(image),
            Rule::Required("reference"),
            Rule::OneOf("pullPolicy", &["Always", "IfNotPresent", "Never"]),
        ],
    ),
];

fn given(volume: &Object) -> impl Iterator<Item = &str> {
    volume.iter().filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key.as_str())
}

fn empty_dir(volume: &mut Object) {
    if given(volume).next().is_none() {
        volume.insert("emptyDir", Tree::Object(Object::new()));
    }
}

fn image(source: &mut Object) {
    let policy = container::default_pull_policy(member(source, "reference"));
    fill(source, "pullPolicy", policy);
}

fn one_source(volume: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    sources::check(volume, sources::OF_PODS, path, errors);
}

fn mode(tree: &Tree, field: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(bits) = int(tree, field).filter(|bits| !(0..=0o777).contains(bits)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(path.field(field).invalid(bits, detail));
    }
}

fn keys(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    mode(source, "defaultMode", path, errors);
    let all = path.field("items");
    for (index, item) in list(source, "items").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        if text(item, "key").is_empty() {
            errors.push(at.field("key").required(""));
        }
        volume_path(item, &at, errors);
        mode(item, "mode", &at, errors);
    }
}

fn volume_path(item: &Tree, at: &Path<'_>, errors: &mut Vec<Cause>) {
    let path = text(item, "path");
    if path.is_empty() {
        errors.push(at.field("path").required(""));
    } else {
        local_path(path, &at.field("path"), errors);
        if path.starts_with("..") && !path.starts_with("../") {
            errors.push(at.field("path").invalid(path, "must not start with '..'"));
        }
    }
}

fn downward(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const FIELDS: [&str; 5] =
        ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    mode(source, "defaultMode", path, errors);
    for item in list(source, "items") {
        if is_full(errors) {
            break;
        }
        volume_path(item, path, errors);
        if has(item, "fieldRef") {
            field_ref(get(item, "fieldRef"), &FIELDS, &path.field("fieldRef"), errors);
            if has(item, "resourceFieldRef") {
                errors.push(path.invalid(
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                ));
            }
        } else if has(item, "resourceFieldRef") {
            resource_ref(get(item, "resourceFieldRef"), true, &path.field("resourceFieldRef"), errors);
        } else {
            errors.push(path.required("one of fieldRef and resourceFieldRef is required"));
        }
        mode(item, "mode", path, errors);
    }
}

fn projected(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    mode(source, "defaultMode", path, errors);
    let mut seen = Seen::new();
    let all = path.field("sources");
    for (index, one) in list(source, "sources").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let kinds = one.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null());
        if kinds.count() > 1 {
            errors.push(all.index(index).forbidden("may not specify more than 1 volume type per source"));
        }
        if has(one, "serviceAccountToken") {
            let at = all.index(index);
            token(get(one, "serviceAccountToken"), &at.field("serviceAccountToken"), errors);
        }
        if has(one, "serviceAccountToken") && text(one, "serviceAccountToken.path").is_empty() {
            errors.push(path.field("path").required(""));
        }
        let token = text(one, "serviceAccountToken.path");
        if !token.is_empty() {
            local_path(token, &path.field("path"), errors);
        }
        if has(one, "clusterTrustBundle") {
            let at = all.index(index);
            trust_bundle(get(one, "clusterTrustBundle"), &at.field("clusterTrustBundle"), errors);
        }
        // The source is named, where it has a name.
        let named = |source: &str| text(one, &format!("{source}.name"));
        let items = ["secret", "configMap", "downwardAPI"].into_iter().flat_map(|source| {
            let items = list(one, &format!("{source}.items"));
            items.iter().map(move |item| (text(item, "path"), named(source)))
        });
        for (place, name) in items.chain([(text(one, "clusterTrustBundle.path"), "")]) {
            if is_full(errors) {
                break;
            }
            if !place.is_empty() && seen.repeats(place) {
                let shown = if name.is_empty() { place } else { name };
                errors.push(path.invalid(shown, "conflicting duplicate paths"));
            }
        }
    }
}

fn trust_bundle(bundle: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match (rules::given(bundle, "name"), rules::given(bundle, "signerName")) {
        (Some(_), Some(_)) => errors.push(path.invalid(
            crate::internal::shown(bundle, "core.v1.ClusterTrustBundleProjection"),
            "only one of name and signerName may be used",
        )),
        (Some(""), None) => errors.push(path.field("name").required("must be a valid object name")),
        (Some(name), None) => {
            let problems = names::dns1123_subdomain(&name.replace(':', "."));
            rules::format(name, problems, &path.field("name"), errors);
            if has(bundle, "labelSelector") {
                let selector = get(bundle, "labelSelector");
                let detail = "labelSelector must be unset if name is specified";
                errors.push(path.field("labelSelector").invalid(selector, detail));
            }
        }
        (None, Some(signer)) => {
            let at = path.field("signerName");
            if signer.is_empty() {
                errors.push(at.required("must be a valid signer name"));
            }
            super::certificates::signer_name(signer, &at, errors);
            let selector = path.field("labelSelector");
            labels::validate_label_selector(get(bundle, "labelSelector"), &selector, errors);
        }
        (None, None) => errors.push(path.required("either name or signerName must be specified")),
    }
    match text(bundle, "path") {
        "" => errors.push(path.field("path").required("")),
        place => local_path(place, &path.field("path"), errors),
    }
}

fn csi(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    driver_name(text(source, "driver"), &path.field("driver"), errors);
    if has(source, "nodePublishSecretRef") {
        match text(source, "nodePublishSecretRef.name") {
            "" => errors.push(path.field("nodePublishSecretRef.name").required("")),
            name => rules::format(name, names::dns1123_subdomain(name), &path.field("name"), errors),
        }
    }
}

/// The name of a storage driver.
pub(super) fn driver_name(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if name.is_empty() {
        errors.push(path.required(""));
        return;
    }
    if name.len() > 63 {
        errors.push(path.too_long(63));
    }
    let lower = name.to_lowercase();
    errors.extend(names::dns1123_subdomain(&lower).iter().map(|problem| path.invalid(name, problem)));
}

fn token(projection: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (seconds, at) =
        (int(projection, "expirationSeconds").unwrap_or(3600), path.field("expirationSeconds"));
    if seconds < 600 {
        errors.push(at.invalid(seconds, "may not specify a duration less than 10 minutes"));
    } else if seconds > 1 << 32 {
        errors.push(at.invalid(seconds, "may not specify a duration larger than 2^32 seconds"));
    }
}

fn host_path(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let at = text(source, "path");
    if at.is_empty() {
        errors.push(path.field("path").required(""));
        return;
    }
    no_backsteps(at, &path.field("path"), errors);
    let kind = text(source, "type");
    if !TYPES.contains(&kind) {
        errors.push(path.field("type").not_supported(kind, &TYPES));
    }
}

fn size_limit(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if Quantity::from_tree(get(source, "sizeLimit")).is_ok_and(|limit| limit.nanos() < 0) {
        errors.push(path.field("sizeLimit").forbidden("SizeLimit field must be a valid resource quantity"));
    }
}

fn claim_template(template: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const NOT_THEIRS: [&str; 13] = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ];
    let at = path.field("metadata");
    let metadata = get(template, "metadata");
    crate::meta::validate_annotations(get(metadata, "annotations"), &at.field("annotations"), errors);
    labels::validate_labels(get(metadata, "labels"), &at.field("labels"), errors);
    for field in NOT_THEIRS {
        let value = get(metadata, field);
        // a period is a pointer
        let is_set = if field == "deletionGracePeriodSeconds" { !value.is_null() } else { !unset(value) };
        if is_set {
            errors.push(at.field(field).forbidden("cannot be set"));
        }
    }
}

fn nfs(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = text(source, "path");
    if at.is_empty() {
        errors.push(path.field("path").required(""));
    }
    if !at.starts_with('/') {
        errors.push(path.field("path").invalid(at, "must be an absolute path"));
    }
}
