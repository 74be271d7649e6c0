//! How violations are worded.

use api::Tree;
use registry::references::containers;
use registry::tree::text;

use super::Violation;

pub fn violation(reason: &str, detail: String) -> Violation {
    Violation { reason: reason.to_owned(), detail }
}

/// `"a", "b"`
pub fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

pub fn plural<'s>(one: &'s str, many: &'s str, count: usize) -> &'s str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`
pub fn named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// The names of the containers of which this holds.
pub fn bad<'t>(pod: &'t Tree, mut is_bad: impl FnMut(&'t Tree) -> bool) -> Vec<&'t str> {
    containers(pod).filter(|container| is_bad(container)).map(|container| text(container, "name")).collect()
}

/// `pod and containers "a", "b"`, where there is one of them.
pub fn setters(by_pod: bool, containers: &[&str]) -> Option<String> {
    match (by_pod, containers) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (false, names) => Some(named(names)),
        (true, names) => Some(format!("pod and {}", named(names))),
    }
}
