//! How cells are written: ages, lists, labels.

use api::Tree;
use jiff::Timestamp;

use crate::tree::{entries, get, list, text, texts};

pub(super) const NONE: &str = "<none>";
pub(super) const UNKNOWN: &str = "<unknown>";
pub(super) const UNSET: &str = "<unset>";

/// A span of seconds with two or three significant digits: `5s`, `3m20s`, `47h`, `2d5h`, `3y40d`.
pub fn human_duration(seconds: i64) -> String {
    let pair = |whole: i64, unit: &str, part: i64, part_unit: &str| match part {
        0 => format!("{whole}{unit}"),
        _ => format!("{whole}{unit}{part}{part_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => pair(days, "d", hours % 24, "h"),
        _ if days < 2 * 365 => format!("{days}d"),
        _ if days < 8 * 365 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

pub(super) fn time(tree: &Tree, path: &str) -> Option<Timestamp> {
    text(tree, path).parse().ok()
}

pub(super) fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| UNKNOWN.to_owned(), |time| human_duration(now.as_second() - time.as_second()))
}

/// How long ago an object was created.
pub fn age(object: &Tree, now: Timestamp) -> Tree {
    since(time(object, "metadata.creationTimestamp"), now).into()
}

pub(super) fn or<'t>(value: &'t str, default: &'t str) -> &'t str {
    if value.is_empty() { default } else { value }
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn labels(tree: &Tree, path: &str) -> String {
    let mut pairs: Vec<String> = entries(tree, path)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

pub(super) fn selector(tree: &Tree, path: &str) -> Tree {
    machinery::labels::format_label_selector(get(tree, path)).into()
}

/// Names and images of a template's containers, comma-separated.
pub(super) fn containers(spec: &Tree) -> [Tree; 2] {
    let join = |field: &str| {
        list(spec, "containers").iter().map(|one| text(one, field)).collect::<Vec<_>>().join(",")
    };
    [join("name").into(), join("image").into()]
}

/// The first three, and how many there are more.
pub(super) fn some(all: &[String]) -> String {
    match all.len() {
        0 => NONE.to_owned(),
        1..=3 => all.join(","),
        more => format!("{} + {} more...", all[..3].join(","), more - 3),
    }
}

pub(super) fn joined(tree: &Tree, path: &str, separator: &str) -> String {
    texts(tree, path).collect::<Vec<_>>().join(separator)
}

/// The condition of a type.
pub(super) fn condition<'t>(object: &'t Tree, kind: &str) -> Option<&'t Tree> {
    list(object, "status.conditions").iter().find(|condition| text(condition, "type") == kind)
}

pub(super) fn condition_is_true(object: &Tree, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "status") == "True")
}

/// `True`, `False`, or `<unset>` where there is none.
pub(super) fn optional_bool(value: &Tree) -> Tree {
    match value.as_bool() {
        Some(true) => "True".into(),
        Some(false) => "False".into(),
        None => UNSET.into(),
    }
}
