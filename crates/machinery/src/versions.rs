//! The order of API versions: stable ones first, then betas, then alphas, the higher number before the lower one, and last whatever
//! has no such name.

use std::cmp::Ordering;

/// How two versions compare: the greater one is preferred (`v2` > `v1` > `v1beta1` > `v1alpha2` > `foo1` > `foo10`).
pub fn compare(one: &str, other: &str) -> Ordering {
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => other.cmp(one),
    }
}

/// The stability, the major and the minor number.
fn parse(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(end);
    let number = |text: &str| {
        let canonical =
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        canonical.then(|| text.parse().ok()).flatten()
    };
    let major = number(major)?;
    match (rest, rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        ("", ..) => Some((2, major, 0)),
        (_, Some(minor), _) => Some((1, major, number(minor)?)),
        (_, _, Some(minor)) => Some((0, major, number(minor)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_version_is_greater() {
        let order =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        let mut sorted = order;
        sorted.sort_by(|one, other| compare(other, one));
        assert_eq!(sorted, order);
    }
}
