//! Paths in a definition: the dotted ones of columns and scales, and those that must lead to a field of the schema.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::tree::{get, has};

/// A path such as `.spec.replicas`.
pub(super) fn simple(path: &str, at: &Path<'_>, errors: &mut Vec<Cause>) -> bool {
    let good = path.starts_with('.');
    if !good {
        errors.push(at.invalid(path, "must be a simple json path starting with ."));
    }
    good
}

/// The path of a rule's field as errors name it, below the schema's own; empty where it leads nowhere.
pub(crate) fn field_path(path: &str, schema: &Tree) -> String {
    follow(path, schema, true).map(|(_, place)| place).unwrap_or_default()
}

/// The schema that a path leads to, or why it does not. `brackets`: names may stand in quotes and brackets.
pub(super) fn leads_to<'t>(path: &str, schema: &'t Tree, brackets: bool) -> Result<&'t Tree, String> {
    follow(path, schema, brackets).map(|(schema, _)| schema)
}

/// The schema that a path leads to, and how errors name its place.
fn follow<'t>(path: &str, schema: &'t Tree, brackets: bool) -> Result<(&'t Tree, String), String> {
    let (mut here, mut place) = (schema, String::new());
    let mut tokens = tokens(path).into_iter();
    while let Some(token) = tokens.next() {
        let name = match token {
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                match tokens.next() {
                    Some("]") => {}
                    Some(other) => return Err(format!("expected ] but got {other}")),
                    None => return Err("unexpected end of JSON path".to_owned()),
                }
                inner.replace("\\'", "'").replace("\\\\", "\\")
            }
            "." => tokens.next().ok_or("unexpected end of JSON path")?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let below = match (get(here, "properties"), get(here, "additionalProperties")) {
            (Tree::Object(properties), _) if !properties.is_empty() => {
                if !place.is_empty() {
                    place.push('.');
                }
                place.push_str(&name);
                properties.get(&name)
            }
            (_, values) => {
                place.push_str(&format!("[{name}]"));
                Some(values).filter(|values| values.is_object())
            }
        };
        here = below.ok_or("does not refer to a valid field")?;
    }
    Ok((here, place))
}

/// Dots and brackets, and what stands between them.
fn tokens(path: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = if rest.starts_with('\'') {
            let bytes = rest.as_bytes();
            let close = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
            close.map_or(rest.len(), |at| at + 1)
        } else if rest.starts_with(['.', '[', ']']) {
            1
        } else {
            rest.find(['.', '[', ']']).unwrap_or(rest.len())
        };
        let (token, next) = rest.split_at(end);
        tokens.push(token);
        rest = next;
    }
    tokens
}

/// Fields that objects can be selected by.
pub(super) fn selectable(
    fields: &[Tree],
    schema: &Tree,
    path: &Path<'_>,
    many: bool,
    errors: &mut Vec<Cause>,
) {
    const MOST: usize = 8;
    let mut seen = std::collections::HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let at = path.index(index);
        let at = at.field("jsonPath");
        let json_path = crate::tree::text(field, "jsonPath");
        if json_path.is_empty() {
            errors.push(at.required(""));
            continue;
        }
        let found = match leads_to(json_path, schema, false) {
            Ok(found) => found,
            Err(problem) => {
                errors.push(at.invalid(json_path, &format!("is an invalid path: {problem}")));
                continue;
            }
        };
        if json_path == ".metadata" || json_path.starts_with(".metadata.") {
            errors.push(at.invalid(json_path, "must not point to fields in metadata"));
        }
        if !matches!(crate::tree::text(found, "type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(at.invalid(json_path, detail));
        }
        if !seen.insert(json_path) {
            errors.push(at.duplicate(json_path));
        }
    }
    if seen.len() > MOST && !many {
        errors.push(path.too_many(seen.len(), MOST));
    }
}

/// Where a scale has its numbers.
pub(super) fn subresources(subresources: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let scale = get(subresources, "scale");
    if scale.is_null() {
        return;
    }
    let own = |field: &str| crate::tree::text(scale, field);
    let required = [
        ("specReplicasPath", "scale.specReplicasPath", ".spec.", "should be a json path under .spec"),
        ("statusReplicasPath", "scale.statusReplicasPath", ".status.", "should be a json path under .status"),
    ];
    for (field, shown, prefix, detail) in required {
        let (at, value) = (path.field(shown), own(field));
        if value.is_empty() {
            errors.push(at.required(""));
        } else if simple(value, &at, errors) && !value.starts_with(prefix) {
            errors.push(at.invalid(value, detail));
        }
    }
    let (at, value) = (path.field("scale.labelSelectorPath"), own("labelSelectorPath"));
    if has(scale, "labelSelectorPath")
        && !value.is_empty()
        && simple(value, &at, errors)
        && !value.starts_with(".spec.")
        && !value.starts_with(".status.")
    {
        errors.push(at.invalid(value, "should be a json path under either .spec or .status"));
    }
}
