//! Sets of completion indexes, as statuses write them: `1,3-5,7`.

use std::collections::BTreeSet;

/// Reads a set; what is not below `limit`, or malformed, is left out.
pub(super) fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let mut set = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            set.extend((first..=last).filter(|index| *index < limit));
        }
    }
    set
}

pub(super) fn text(set: &BTreeSet<i32>) -> String {
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for index in set {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let part = |(first, last): (i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for case in ["", "0", "1,3-5,7", "0,1", "0-2", "5,7,9"] {
            assert_eq!(text(&parse(case, 100)), case);
        }
        assert_eq!(text(&parse("0-9,x", 3)), "0-2");
    }
}
