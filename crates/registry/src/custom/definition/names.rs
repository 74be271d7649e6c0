//! The names of a definition.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names::dns1035_label;

use super::label;
use crate::tree::{text, texts};

/// Checks names as they are requested or accepted.
pub(super) fn of(names: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for field in ["plural", "singular"] {
        let name = text(names, field);
        errors.extend(label(name).map(|problems| path.field(field).invalid(name, &problems)));
    }
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        if let Some(problems) = label(&name.to_lowercase()) {
            let detail = format!("may have mixed case, but should otherwise match: {problems}");
            errors.push(path.field(field).invalid(name, &detail));
        }
    }
    let each = |field: &'static str, errors: &mut Vec<Cause>| {
        let list = path.field(field);
        for (index, name) in texts(names, field).enumerate() {
            let problems = dns1035_label(name);
            if !problems.is_empty() {
                errors.push(list.index(index).invalid(name, &problems.join(",")));
            }
        }
    };
    each("shortNames", errors);
    let (kind, list_kind) = (text(names, "kind"), text(names, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        errors.push(path.field("listKind").invalid(list_kind, "kind and listKind may not be the same"));
    }
    each("categories", errors);
}
