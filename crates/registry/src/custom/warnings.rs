//! Warnings about objects of custom resources.

use api::Tree;
use machinery::fieldpath::Quoted;
use machinery::names;

use crate::tree::{get, texts};

/// Finalizers that are new and may be another's tomorrow.
pub fn finalizers(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let known =
        |name: &str| old.is_some_and(|old| texts(get(old, "metadata"), "finalizers").any(|own| own == name));
    let mut new: Vec<&str> =
        texts(get(object, "metadata"), "finalizers").filter(|name| !known(name)).collect();
    new.sort_unstable();
    new.dedup();
    let mut warnings = Vec::new();
    for name in new {
        let mut warn =
            |detail: &str| warnings.push(format!("metadata.finalizers: {}: {detail}", Quoted(name)));
        names::qualified_name(name).iter().for_each(|problem| warn(problem));
        if name.contains('/') || matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
            continue;
        }
        warn(match name.contains('.') {
            true => {
                "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
            }
            false => {
                "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
            }
        });
    }
    warnings
}
