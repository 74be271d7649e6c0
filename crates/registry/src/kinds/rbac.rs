//! Roles and their bindings. Whether somebody may grant what a role holds is the API server's to decide.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::{Path, Shown};
use machinery::{labels, names};

use crate::profile::Profile;
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, fill, get, has, list, member, same, text};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) const RULES: Table = &[
    ("k8s.io.api.rbac.v1.RoleRef", &[Rule::Default("apiGroup", Literal::Text(GROUP))]),
    ("k8s.io.api.rbac.v1.Subject", &[Rule::DefaultFn(subject_group), Rule::Check(subject)]),
    ("k8s.io.api.rbac.v1.RoleBinding", &[Rule::Check(role_reference)]),
    ("k8s.io.api.rbac.v1.ClusterRoleBinding", &[Rule::Own("subjects"), Rule::Check(cluster_role_reference)]),
    ("k8s.io.api.rbac.v1.PolicyRule", &[Rule::Check(rule)]),
];

const RBAC: Profile =
    Profile { name: names::path_segment, create_on_update: true, full: true, ..Profile::new(GROUP, "") };

pub(super) const PROFILES: &[Profile] = &[
    Profile { plural: "roles", check: Some(role), ..RBAC },
    Profile { plural: "clusterroles", check: Some(cluster_role), ..RBAC },
    Profile { plural: "rolebindings", check: Some(binding), ..RBAC },
    Profile { plural: "clusterrolebindings", check: Some(binding), ..RBAC },
];

fn subject_group(subject: &mut Object) {
    if matches!(member(subject, "kind"), "User" | "Group") {
        fill(subject, "apiGroup", GROUP);
    }
}

fn subject(subject: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let [kind, name, group] = ["kind", "name", "apiGroup"].map(|field| text(subject, field));
    if name.is_empty() {
        errors.push(path.field("name").required(""));
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                rules::format(name, names::dns1123_subdomain(name), &path.field("name"), errors);
            }
            if !group.is_empty() {
                errors.push(path.field("apiGroup").not_supported(group, &[""]));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(path.field("apiGroup").not_supported(group, &[GROUP]));
            }
        }
        other => errors.push(path.field("kind").not_supported(other, &["ServiceAccount", "User", "Group"])),
    }
}

fn rule(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if list(rule, "verbs").is_empty() {
        errors.push(path.field("verbs").required(""));
    }
    let empty = |field: &str| list(rule, field).is_empty();
    if !empty("nonResourceURLs") {
        if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(path.field("nonResourceURLs").invalid(get(rule, "nonResourceURLs"), detail));
        }
        return;
    }
    if empty("apiGroups") {
        errors.push(path.field("apiGroups").required("resource rules must supply at least one api group"));
    }
    if empty("resources") {
        errors.push(path.field("resources").required("resource rules must supply at least one resource"));
    }
}

fn role(_: &Context<'_>, role: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let all = Path::new("rules");
    for (index, rule) in list(role, "rules").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        if !list(rule, "nonResourceURLs").is_empty() {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            let at = all.index(index);
            let cause = at.field("nonResourceURLs").invalid(get(rule, "nonResourceURLs"), detail);
            let before = errors.iter().position(|error| error.field == cause.field).unwrap_or(errors.len());
            errors.insert(before, cause);
        }
    }
}

fn cluster_role(_: &Context<'_>, role: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    if !has(role, "aggregationRule") {
        return;
    }
    let path = Path::new("aggregationRule.clusterRoleSelectors");
    let selectors = list(role, "aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        errors.push(path.required("at least one clusterRoleSelector required if aggregationRule is non-nil"));
    }
    for (index, selector) in selectors.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let before = errors.len();
        labels::validate_label_selector(selector, &path.index(index), errors);
        if errors.len() > before {
            errors.push(path.index(index).invalid(Shown::Null, "invalid label selector."));
        }
    }
}

fn role_reference(binding: &Tree, _: &Path<'_>, errors: &mut Vec<Cause>) {
    reference(get(binding, "roleRef"), &["Role", "ClusterRole"], errors);
}

fn cluster_role_reference(binding: &Tree, _: &Path<'_>, errors: &mut Vec<Cause>) {
    reference(get(binding, "roleRef"), &["ClusterRole"], errors);
    let all = Path::new("subjects");
    for (index, one) in list(binding, "subjects").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        subject(one, &all.index(index), errors);
        if text(one, "kind") == "ServiceAccount" && text(one, "namespace").is_empty() {
            errors.push(all.index(index).field("namespace").required(""));
        }
    }
}

fn reference(reference: &Tree, kinds: &[&str], errors: &mut Vec<Cause>) {
    let path = Path::new("roleRef");
    let [group, kind, name] = ["apiGroup", "kind", "name"].map(|field| text(reference, field));
    if group != GROUP {
        errors.push(path.field("apiGroup").not_supported(group, &[GROUP]));
    }
    if !kinds.contains(&kind) {
        errors.push(path.field("kind").not_supported(kind, kinds));
    }
    if name.is_empty() {
        errors.push(path.field("name").required(""));
    } else {
        rules::format(name, names::path_segment(name), &path.field("name"), errors);
    }
}

fn binding(_: &Context<'_>, binding: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let reference = get(binding, "roleRef");
    if let Some(old) = old
        && !same(reference, get(old, "roleRef"))
    {
        let shown = crate::internal::shown(reference, "rbac.v1.RoleRef");
        errors.push(Path::new("roleRef").invalid(shown, "field is immutable"));
    }
}
