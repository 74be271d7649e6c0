//! The order of keys: letters after everything else, digits by the number that they make.

use std::cmp::Ordering;

use api::Tree;

type Entry<'t> = (&'t str, &'t Tree);

/// Entries in the order of their keys. It has cycles (`2`, `10`, `1e3`), which the library's sort may panic at.
pub(super) fn sorted<'t>(entries: &[Entry<'t>]) -> Vec<Entry<'t>> {
    if entries.len() < 2 {
        return entries.to_vec();
    }
    let (left, right) = entries.split_at(entries.len() / 2);
    let (left, right) = (sorted(left), sorted(right));
    let mut out = Vec::with_capacity(entries.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some((here, _)), Some((there, _))) = (left.peek(), right.peek()) {
        let from_right = compare(there, here) == Ordering::Less;
        out.extend(if from_right { right.next() } else { left.next() });
    }
    out.extend(left.chain(right));
    out
}

fn compare(left: &str, right: &str) -> Ordering {
    let both: (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let (left, right) = (&both.0[..], &both.1[..]);
    let Some(at) = left.iter().zip(right).position(|(left, right)| left != right) else {
        return left.len().cmp(&right.len());
    };
    let (here, there) = (left[at], right[at]);
    match (here.is_alphabetic(), there.is_alphabetic()) {
        (true, true) => return here.cmp(&there),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // a zero within a number is not one before it
    let within = (here == '0' || there == '0')
        && left[..at].iter().rev().take_while(|each| each.is_ascii_digit()).any(|digit| *digit != '0');
    let number = |of: &[char]| {
        let digits: Vec<char> = of[at..].iter().copied().take_while(char::is_ascii_digit).collect();
        let value = digits.iter().fold(i64::from(within), |value, digit| {
            value.wrapping_mul(10).wrapping_add(i64::from(digit.to_digit(10).unwrap_or_default()))
        });
        (value, digits.len())
    };
    number(left).cmp(&number(right)).then(here.cmp(&there))
}
