//! What changed between two texts, as a unified diff without file names.
//!
//! Which lines are paired follows Ratcliff and Obershelp: the longest run in common, then the same to its left and to
//! its right. In a text of 200 lines and more, lines that make up over a hundredth of it start no run. Upstream's error
//! texts are made so, and a shortest edit script would differ from them.

use std::collections::HashMap;
use std::fmt::Write as _;

const CONTEXT: usize = 3;

/// A stretch of the old text that is kept (`same`), or replaced by one of the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    same: bool,
    old: (usize, usize),
    new: (usize, usize),
}

/// The changes with three lines around each; empty when there are none.
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for hunk in hunks(&stretches(&old, &new)) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let old_range = range(first.old.0, last.old.1);
        let new_range = range(first.new.0, last.new.1);
        let _ = writeln!(out, "@@ -{old_range} +{new_range} @@");
        for stretch in hunk {
            let mut lines = |sign: char, lines: &[&str]| {
                lines.iter().for_each(|line| {
                    let _ = writeln!(out, "{sign}{line}");
                });
            };
            if stretch.same {
                lines(' ', &old[stretch.old.0..stretch.old.1]);
            } else {
                lines('-', &old[stretch.old.0..stretch.old.1]);
                lines('+', &new[stretch.new.0..stretch.new.1]);
            }
        }
    }
    out
}

fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => (start + 1).to_string(),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

/// Stretches grouped so that changes with little between them stand together.
fn hunks(stretches: &[Stretch]) -> Vec<Vec<Stretch>> {
    let mut hunks = Vec::new();
    let mut hunk: Vec<Stretch> = Vec::new();
    let last = stretches.len().saturating_sub(1);
    for (index, stretch) in stretches.iter().enumerate() {
        let length = stretch.old.1 - stretch.old.0;
        if !stretch.same {
            hunk.push(*stretch);
            continue;
        }
        let (mut head, mut tail) = (*stretch, *stretch);
        head.old.1 = head.old.1.min(head.old.0 + CONTEXT);
        head.new.1 = head.new.1.min(head.new.0 + CONTEXT);
        tail.old.0 = tail.old.0.max(tail.old.1.saturating_sub(CONTEXT));
        tail.new.0 = tail.new.0.max(tail.new.1.saturating_sub(CONTEXT));
        match (index == 0, index == last) {
            (true, true) => {}
            (true, false) => hunk.push(tail),
            (false, true) => hunk.push(head),
            _ if length > 2 * CONTEXT => {
                hunk.push(head);
                hunks.push(std::mem::take(&mut hunk));
                hunk.push(tail);
            }
            _ => hunk.push(*stretch),
        }
    }
    if hunk.iter().any(|stretch| !stretch.same) {
        hunks.push(hunk);
    }
    hunks
}

/// In larger texts than this, all between what both begin and end with counts as changed: the search for runs takes the
/// product of their lengths.
const LINES_COMPARED: usize = 4000;

fn stretches(old: &[&str], new: &[&str]) -> Vec<Stretch> {
    if old.len().max(new.len()) > LINES_COMPARED {
        return ends(old, new);
    }
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(place);
    }
    if new.len() >= 200 {
        let popular = new.len() / 100 + 1;
        places.retain(|_, found| found.len() <= popular);
    }
    let mut matches = Vec::new();
    let mut left = vec![(0, old.len(), 0, new.len())];
    while let Some((old_from, old_to, new_from, new_to)) = left.pop() {
        let (i, j, length) = longest(old, new, &places, (old_from, old_to), (new_from, new_to));
        if length > 0 {
            matches.push((i, j, length));
            left.push((old_from, i, new_from, j));
            left.push((i + length, old_to, j + length, new_to));
        }
    }
    matches.sort_unstable();
    matches.push((old.len(), new.len(), 0));
    let mut out: Vec<Stretch> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (from_old, from_new, length) in matches {
        if i < from_old || j < from_new {
            out.push(Stretch { same: false, old: (i, from_old), new: (j, from_new) });
        }
        (i, j) = (from_old + length, from_new + length);
        match out.last_mut() {
            // Runs that touch are one.
            Some(last) if last.same && last.old.1 == from_old && last.new.1 == from_new => {
                (last.old.1, last.new.1) = (i, j);
            }
            _ if length > 0 => out.push(Stretch { same: true, old: (from_old, i), new: (from_new, j) }),
            _ => {}
        }
    }
    out
}

/// Common beginning, differing middle and common end of two texts.
fn ends(old: &[&str], new: &[&str]) -> Vec<Stretch> {
    let head = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let behind = old[head..].iter().rev().zip(new[head..].iter().rev());
    let tail = behind.take_while(|(one, other)| one == other).count();
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    let same = |old, new| Stretch { same: true, old, new };
    let all = [
        same((0, head), (0, head)),
        Stretch { same: false, old: (head, old_end), new: (head, new_end) },
        same((old_end, old.len()), (new_end, new.len())),
    ];
    all.into_iter().filter(|one| one.old.0 < one.old.1 || one.new.0 < one.new.1).collect()
}

/// The longest run in common within the bounds, the earliest of several: where it starts in both, and its length.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (old_from, old_to): (usize, usize),
    (new_from, new_to): (usize, usize),
) -> (usize, usize, usize) {
    let (mut i, mut j, mut length) = (old_from, new_from, 0);
    // The lengths of the runs that end at the line before, by where in the new text.
    let mut running: HashMap<usize, usize> = HashMap::new();
    for (at, line) in old.iter().enumerate().take(old_to).skip(old_from) {
        let mut next = HashMap::new();
        for &place in places.get(line).map(Vec::as_slice).unwrap_or_default() {
            if place < new_from {
                continue;
            }
            if place >= new_to {
                break;
            }
            let run = place.checked_sub(1).and_then(|before| running.get(&before)).copied().unwrap_or(0) + 1;
            next.insert(place, run);
            if run > length {
                (i, j, length) = (at + 1 - run, place + 1 - run, run);
            }
        }
        running = next;
    }
    // Lines too common to start a run may belong to one.
    while i > old_from && j > new_from && old[i - 1] == new[j - 1] {
        (i, j, length) = (i - 1, j - 1, length + 1);
    }
    while i + length < old_to && j + length < new_to && old[i + length] == new[j + length] {
        length += 1;
    }
    (i, j, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(unified("a\nb", "a\nb"), "");
        assert_eq!(
            unified("1\n2\n3\n4\n5\n6\n7\n8", "1\n2\n3\n4\nx\n6\n7\n8"),
            "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"
        );
        assert_eq!(unified("a", "a\nb"), "@@ -1 +1,2 @@\n a\n+b\n");
        let old: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let new = old.join("\n").replace("\n5\n", "\n").replace("\n25\n", "\nx\ny\n");
        assert_eq!(
            unified(&old.join("\n"), &new),
            "@@ -3,7 +3,6 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n@@ -23,7 +22,8 @@\n 22\n 23\n 24\n-25\n+x\n+y\n 26\n 27\n 28\n"
        );
    }
}
