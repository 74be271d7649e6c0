//! Writes a tree as block YAML, in the form that upstream's answers have to the byte: order of keys, quotes, folded lines.

mod order;
mod page;
mod scalar;

use api::Tree;
use api::tree::Number;

use page::Page;

/// Longest key, in bytes, that stands before its value on one line.
const LONGEST_SIMPLE_KEY: usize = 128;

/// Appends the document.
pub fn write(tree: &Tree, out: &mut String) {
    let mut page = Page::new(out);
    node(tree, None, false, &mut page);
    page.end();
}

/// Writes a value. `indent` is that of the collection around it; `in_map` says that it is the value of a key on the same line.
fn node(tree: &Tree, indent: Option<usize>, in_map: bool, page: &mut Page<'_>) {
    if let Some(opened) = api::raw::opened(tree) {
        return node(&opened, indent, in_map, page);
    }
    let deeper = indent.map_or(2, |indent| indent + 2);
    match tree {
        Tree::Object(map) if map.is_empty() => page.word("{}"),
        Tree::Array(items) if items.is_empty() => page.word("[]"),
        Tree::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(key, item)| (key.as_str(), item)).collect();
            let indent = indent.map_or(0, |indent| indent + 2);
            for (key, item) in order::sorted(&entries) {
                page.new_line(indent);
                let simple = key.len() <= LONGEST_SIMPLE_KEY && !key.chars().any(page::is_break);
                if simple {
                    scalar::key(key, page);
                } else {
                    page.nesting("?");
                    scalar::text(key, indent + 2, page);
                    page.new_line(indent);
                    page.nesting(":");
                }
                if simple {
                    page.colon();
                }
                node(item, Some(indent), simple, page);
            }
        }
        Tree::Array(items) => {
            // a list stands as deep as the key that it belongs to
            let indent = indent.map_or(0, |indent| if in_map { indent } else { indent + 2 });
            for item in items {
                page.new_line(indent);
                page.nesting("-");
                node(item, Some(indent), false, page);
            }
        }
        Tree::String(text) => scalar::text(text, deeper, page),
        Tree::Number(own) => page.word(&number(own)),
        other => page.word(&other.to_string()),
    }
}

/// Whole numbers as they are, others in the shortest form that reads the same.
fn number(own: &Number) -> String {
    let value = own.as_f64().unwrap_or_default();
    let whole = value.fract() == 0.0 && (i64::MIN as f64..u64::MAX as f64).contains(&value);
    if own.as_i64().is_some() || own.as_u64().is_some() {
        return own.to_string();
    }
    if whole {
        return value.to_string();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests;
