//! Groups of the Kubernetes project: who defines a kind there says who approved of it.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::tree::{get, text};

const ANNOTATION: &str = "api-approved.kubernetes.io";

/// What the annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    Invalid,
    Approved,
    Bypassed,
    Missing,
}

/// What a definition of a protected group says about its approval, and that in words; `None` for other groups.
pub fn approval(definition: &Tree) -> Option<(Approval, String)> {
    is_protected(text(definition, "spec.group")).then(|| state(definition))
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn state(definition: &Tree) -> (Approval, String) {
    let annotation =
        get(definition, "metadata.annotations").get(ANNOTATION).and_then(Tree::as_str).unwrap_or_default();
    let must = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let host = annotation.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
    match annotation {
        "" => (Approval::Missing, format!("{must}, {see}")),
        _ if annotation.starts_with("unapproved") => {
            (Approval::Bypassed, format!("not approved: {annotation:?}"))
        }
        _ if host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) => {
            (Approval::Approved, format!("approved in {annotation}"))
        }
        _ => {
            let form = "with either a URL or a reason starting with \"unapproved\"";
            (Approval::Invalid, format!("{must} {form}, {see}"))
        }
    }
}

/// An approval that an update leaves as it was is not looked at.
pub(super) fn check(new: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some((now, reason)) = approval(new) else { return };
    if old.is_some_and(|old| state(old).0 == now) {
        return;
    }
    let path = Path::new("metadata.annotations");
    let path = path.key(ANNOTATION);
    match now {
        Approval::Invalid => {
            let annotation = get(new, "metadata.annotations").get(ANNOTATION);
            errors.push(path.invalid(annotation, &reason));
        }
        Approval::Missing => errors.push(path.required(&reason)),
        Approval::Approved | Approval::Bypassed => {}
    }
}
