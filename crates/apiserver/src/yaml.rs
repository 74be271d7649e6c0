//! Writes a tree as block YAML, keys in sorted order as upstream's encoder does.

use api::Tree;

/// Appends the document.
pub fn write(tree: &Tree, out: &mut String) {
    value(tree, 0, out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

fn value(tree: &Tree, indent: usize, out: &mut String) {
    if let Some(opened) = api::raw::opened(tree) {
        return value(&opened, indent, out);
    }
    match tree {
        Tree::Object(map) if map.is_empty() => out.push_str("{}"),
        Tree::Array(items) if items.is_empty() => out.push_str("[]"),
        Tree::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    pad(indent, out);
                }
                scalar(key, out);
                out.push(':');
                nested(item, indent, out);
            }
        }
        Tree::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    pad(indent, out);
                }
                out.push_str("- ");
                value(item, indent + 2, out);
                end(out);
            }
        }
        Tree::String(text) => scalar(text, out),
        other => out.push_str(&other.to_string()),
    }
}

fn nested(item: &Tree, indent: usize, out: &mut String) {
    match item {
        Tree::Object(map) if !map.is_empty() => {
            out.push('\n');
            pad(indent + 2, out);
            value(item, indent + 2, out);
        }
        Tree::Array(items) if !items.is_empty() => {
            out.push('\n');
            pad(indent, out);
            value(item, indent, out);
        }
        other => {
            out.push(' ');
            value(other, indent, out);
        }
    }
    end(out);
}

fn end(out: &mut String) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// What begins with a digit and would not be read as text.
fn is_number_or_time(text: &str) -> bool {
    let bare = text.replace('_', "");
    let first_four = text.len() > 4 && text.bytes().take(4).all(|byte| byte.is_ascii_digit());
    text.starts_with(|first: char| first.is_ascii_digit())
        && (bare.parse::<f64>().is_ok()
            || matches!(bare.get(..2), Some("0x" | "0b" | "0o"))
            || first_four && text.as_bytes()[4] == b'-')
}

/// Plain where that cannot be read as anything else; JSON's quotes, which YAML knows too, otherwise.
fn scalar(text: &str, out: &mut String) {
    let plain = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/')
        && !is_number_or_time(text)
        && text.chars().all(|each| each.is_ascii_alphanumeric() || "-_./ ".contains(each))
        && !text.ends_with(' ')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        out.push_str(text);
    } else {
        out.push_str(&Tree::from(text).to_string());
    }
}
