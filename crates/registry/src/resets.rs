//! Fields that the strategies of a kind reset, so that nobody owns them who writes them there: the status of an object that
//! is not written through `status`, and what else a subresource does not change.

use api::model::Resource;
use machinery::ownership::Set;
use machinery::ownership::reset::Reset;

const STATUS: &[&str] = &["status"];
const SPEC: &[&str] = &["spec"];
const METADATA: &[&str] = &["metadata"];

/// Group and plural.
type Name = (&'static str, &'static str);

/// Kinds whose status is written without metadata.
const STATUS_KEEPS_METADATA: &[Name] = &[
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("apiregistration.k8s.io", "apiservices"),
    ("certificates.k8s.io", "podcertificaterequests"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("internal.apiserver.k8s.io", "storageversions"),
    ("lifecycle.k8s.io", "evictionrequests"),
    ("lifecycle.k8s.io", "evictions"),
    ("networking.k8s.io", "servicecidrs"),
    ("resource.k8s.io", "devicetaintrules"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourcepoolstatusrequests"),
    ("scheduling.k8s.io", "compositepodgroups"),
    ("scheduling.k8s.io", "podgroups"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
    ("storagemigration.k8s.io", "storageversionmigrations"),
];

/// What is reset, by subresource; empty for the object itself.
pub fn of(row: &Resource, custom: bool) -> Vec<(&'static str, Reset)> {
    let fields = |paths: &[&[&str]]| Reset::Fields(Set::of_fields(paths));
    let name = (&*row.group, &*row.plural);
    if name == ("certificates.k8s.io", "certificatesigningrequests") {
        return vec![
            ("", fields(&[SPEC, STATUS])),
            ("status", fields(&[SPEC, &["status", "conditions"]])),
            ("approval", fields(&[SPEC, &["status", "certificate"]])),
        ];
    }
    if row.subresource("status").is_none() {
        return Vec::new();
    }
    let status: &[&[&str]] = match name {
        ("", "pods") => &[SPEC, &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
        ("apps", "deployments") => &[SPEC, &["metadata", "labels"]],
        name if custom || STATUS_KEEPS_METADATA.contains(&name) => &[SPEC, METADATA],
        _ => &[SPEC],
    };
    let mut resets = vec![("", fields(&[STATUS])), ("status", fields(status))];
    if name == ("", "namespaces") {
        resets.push(("finalize", fields(&[STATUS])));
    }
    resets
}
