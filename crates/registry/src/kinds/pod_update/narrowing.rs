//! Placement changes of a gated pod: it may only be narrowed.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};

use super::SPEC;
use crate::internal;
use crate::tree::{Alike, Object, as_object, get, list, put, same};

const TERMS: &str = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";

/// Checks node selector and node affinity, and makes them the old pod's in `spec`, where the rest is compared.
pub(super) fn check(pod: &Tree, old: &Tree, spec: &mut Object, errors: &mut Vec<Cause>) {
    let (now, before) = (get(pod, "spec.nodeSelector"), get(old, "spec.nodeSelector"));
    let kept = before.as_object().into_iter().flatten().all(|(key, value)| now.get(key) == Some(value));
    if !kept {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(SPEC.field("nodeSelector").invalid(now, detail));
    }
    put(spec, "nodeSelector", before.clone());
    let affinity = |pod: &Tree| get(pod, "spec.affinity.nodeAffinity").clone();
    if same(&affinity(pod), &affinity(old)) {
        return;
    }
    terms(get(get(pod, "spec"), TERMS), list(get(old, "spec"), TERMS), &SPEC.field(TERMS), errors);
    let mut munged = get(pod, "spec.affinity").clone();
    put(as_object(&mut munged), "nodeAffinity", affinity(old));
    put(spec, "affinity", munged);
}

fn terms(now: &Tree, before: &[Tree], path: &Path<'_>, errors: &mut Vec<Cause>) {
    if before.is_empty() {
        return;
    }
    let shown = |term: &Tree| internal::shown(term, "core.v1.NodeSelectorTerm");
    let terms = now.as_array().map(Vec::as_slice).unwrap_or_default();
    if terms.len() != before.len() {
        let all: Vec<String> = terms.iter().map(|term| shown(term).to_string()).collect();
        let value = if now.is_null() { Shown::Null } else { Shown::Plain(format!("[{}]", all.join(","))) };
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(path.invalid(value, detail));
        return;
    }
    for (index, (term, before)) in terms.iter().zip(before).enumerate() {
        if is_full(errors) {
            break;
        }
        let kept = |field: &str| {
            let now: Seen<Alike> = list(term, field).iter().map(Alike).collect();
            list(before, field).iter().all(|one| now.contains(&Alike(one)))
        };
        // a term of nothing matches no node
        let empty =
            |term: &Tree| list(term, "matchExpressions").is_empty() && list(term, "matchFields").is_empty();
        if !kept("matchExpressions") || !kept("matchFields") || (empty(before) && !empty(term)) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(path.index(index).invalid(shown(term), detail));
        }
    }
}
