//! What calls cost, as upstream counts it: by function for Kubernetes' libraries, by overload for the language's own.

use crate::value::{List, Map, Value};

/// Cost per character of going through a string.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// Cost of comparing an item with another one.
pub(crate) const COMPARE: f64 = 2.0;
/// Cost per character of a regular expression.
pub(crate) const PATTERN: f64 = 0.25;
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// An authorization check: two fit into an expression.
pub(crate) const CHECK: u64 = 350_000;
/// Longest pattern behind a named format.
pub(crate) const NAMED_FORMAT: u64 = 128;

/// How the cost of a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// One, as for all that does not go through its arguments.
    One,
    Check,
    /// Parses a field or label selector, its second argument.
    Selector,
    /// Goes through its first argument, with all below it.
    Traverse,
    /// Goes through its first argument, a string, which is about as long as the result.
    Text,
    /// Goes through its first argument, a string, once.
    Parse,
    Replace,
    Split,
    Join,
    /// Searches its first argument for a pattern, its second; finds strings.
    Find,
    /// Goes through a string and compares it.
    ParseTwice,
    ContainsIp {
        parses: bool,
    },
    ContainsCidr {
        parses: bool,
    },
    Validate,
    /// Goes through the second argument, a string.
    Affix,
    /// Converts a string to bytes or back, or quotes it.
    ToBytes,
    ToString,
    Quote,
    Format,
    /// Compares with each item of a list, its second argument.
    InList,
    /// Compares two values up to the size of the smaller one.
    Compare,
    Equal,
    Concatenate,
    ConcatenateLists,
    Matches,
    Contains,
    /// Compares each item of a list with each, the list being this argument.
    SelfCompare {
        list: usize,
    },
    /// Compares each item of one list with each of another, once or twice.
    Sets {
        rounds: u64,
    },
    /// Makes lists as long as their result is.
    Range,
    Slice,
    Reverse,
    Flatten,
}

/// How calls of a function are counted, when one overload is known to be meant and when it is not.
pub(crate) fn of(function: &str, overload: Option<&str>) -> Cost {
    match function {
        "check" => return Cost::Check,
        "fieldSelector" | "labelSelector" => return Cost::Selector,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => return Cost::Traverse,
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" => {
            return Cost::Text;
        }
        "replace" => return Cost::Replace,
        "split" => return Cost::Split,
        "join" => return Cost::Join,
        "find" | "findAll" => return Cost::Find,
        "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => return Cost::Parse,
        "ip" if overload != Some("cidr_ip") => return Cost::Parse,
        "ip.isCanonical" => return Cost::ParseTwice,
        "containsIP" => return Cost::ContainsIp { parses: overload == Some("cidr_contains_ip_string") },
        "containsCIDR" => {
            return Cost::ContainsCidr { parses: overload == Some("cidr_contains_cidr_string") };
        }
        "validate" => return Cost::Validate,
        _ => {}
    }
    match overload.unwrap_or_default() {
        "starts_with_string" | "ends_with_string" => Cost::Affix,
        "string_to_bytes" => Cost::ToBytes,
        "bytes_to_string" => Cost::ToString,
        "strings_quote" => Cost::Quote,
        "string_format" => Cost::Format,
        "in_list" => Cost::InList,
        "equals" => Cost::Equal,
        "not_equals" => Cost::Compare,
        "add_string" | "add_bytes" => Cost::Concatenate,
        "add_list" => Cost::ConcatenateLists,
        "matches" | "matches_string" => Cost::Matches,
        "contains_string" => Cost::Contains,
        overload if is_text_order(overload) => Cost::Compare,
        overload => by_list_overload(overload),
    }
}

fn is_text_order(overload: &str) -> bool {
    let order = overload.strip_suffix("_string").or_else(|| overload.strip_suffix("_bytes"));
    matches!(order, Some("less" | "less_equals" | "greater" | "greater_equals"))
}

fn by_list_overload(overload: &str) -> Cost {
    match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => Cost::Sets { rounds: 1 },
        "list_sets_equivalent_list" => Cost::Sets { rounds: 2 },
        "list_distinct" => Cost::SelfCompare { list: 0 },
        "lists_range" => Cost::Range,
        "list_slice" => Cost::Slice,
        "list_flatten" | "list_flatten_int" => Cost::Flatten,
        "list_reverse" => Cost::Reverse,
        _ if overload.ends_with("_sortByAssociatedKeys") => Cost::SelfCompare { list: 1 },
        _ if overload.starts_with("list_") && overload.ends_with("_sort") => Cost::SelfCompare { list: 0 },
        _ => Cost::One,
    }
}

/// A size times a factor, rounded up.
pub(crate) fn scaled(size: u64, factor: f64) -> u64 {
    let cost = (size as f64 * factor).ceil();
    if cost >= 18_446_744_073_709_551_615.0 { u64::MAX } else { cost as u64 }
}

pub(crate) fn traversal(size: u64) -> u64 {
    scaled(size, TRAVERSAL)
}

pub(crate) fn pattern(size: u64) -> u64 {
    scaled(size, PATTERN)
}

pub(crate) fn selector(size: u64) -> u64 {
    let requirements = scaled(size, 0.5);
    LIST.saturating_add(traversal(size)).saturating_add(scaled(requirements, (LIST + STRUCT) as f64))
}

/// Characters in a string that is searched for a pattern: one more, because a pattern is work even in an empty string.
fn searched(size: u64) -> u64 {
    ((1.0 + size as f64) * TRAVERSAL).ceil() as u64
}

/// What a call has cost, by its arguments and its result.
pub(crate) fn actual(cost: Cost, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let size = |at: usize| args.get(at).map_or(1, Value::cost_size);
    match cost {
        Cost::One | Cost::ConcatenateLists => 1,
        Cost::Check => CHECK,
        Cost::Selector => selector(size(1)),
        Cost::Traverse => args.first().map_or(0, walked),
        Cost::Text | Cost::Parse | Cost::ToBytes | Cost::ToString | Cost::Quote | Cost::Format => {
            traversal(size(0))
        }
        Cost::ParseTwice | Cost::Replace | Cost::Split => scaled(size(0), 2.0 * TRAVERSAL),
        Cost::Join => scaled(result.map_or(1, Value::cost_size), 2.0 * TRAVERSAL),
        Cost::Find | Cost::Matches => searched(size(0)).saturating_mul(pattern(size(1))),
        Cost::ContainsIp { parses } => traversal(2 * size(0)) + if parses { traversal(size(1)) } else { 0 },
        Cost::ContainsCidr { parses } => {
            traversal(2 * size(0)) + traversal(size(0)) + 1 + if parses { traversal(size(1)) } else { 0 }
        }
        Cost::Validate => match args.first() {
            Some(Value::Extended(format)) => searched(size(1)).saturating_mul(pattern(format.pattern_size())),
            _ => 1,
        },
        Cost::Affix => traversal(size(1)),
        Cost::InList => size(1),
        Cost::Equal if matches!(args.first(), Some(Value::Extended(_))) => 1,
        Cost::Compare | Cost::Equal => traversal(size(0).min(size(1))),
        Cost::Concatenate => traversal(size(0).saturating_add(size(1))),
        Cost::Contains => traversal(size(0)).saturating_mul(traversal(size(1))),
        Cost::SelfCompare { list } => self_compare(args.get(list)),
        Cost::Sets { rounds } => size(0).saturating_mul(size(1)).saturating_mul(rounds).saturating_add(1),
        Cost::Range | Cost::Slice | Cost::Reverse => making(1.0, result.map_or(1, Value::cost_size)),
        Cost::Flatten => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => *depth as f64,
                _ => 1.0,
            };
            making(depth, size(0))
        }
    }
}

/// Makes a list with so much work for each of so many items.
fn making(factor: f64, size: u64) -> u64 {
    let factor = if factor < 0.0 { 1.0 } else { factor };
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

fn self_compare(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return making(COMPARE, 1) };
    let size = list.len() as u64;
    let is_text = matches!(list.get(0), Ok(Value::String(_) | Value::Bytes(_)));
    making(if is_text { COMPARE + TRAVERSAL } else { COMPARE }, size.saturating_mul(size))
}

/// Cost of going through a value and all below it.
fn walked(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => walked_list(list),
        Value::Map(map) => walked_map(map),
        _ => 1,
    }
}

fn walked_list(list: &List<'_>) -> u64 {
    list.iter().map(|item| item.map_or(1, |item| walked(&item))).sum()
}

fn walked_map(map: &Map<'_>) -> u64 {
    map.entries().map_or(1, |entries| entries.iter().map(|(key, value)| walked(key) + walked(value)).sum())
}
