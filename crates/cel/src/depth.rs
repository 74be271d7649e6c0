//! An upper bound of how deep the parser recurses on a text, found without recursion before the text is given to it.

/// Bounds of the depth of a text's syntax tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Brackets and conditionals within each other.
    pub nesting: usize,
    /// The same, with operators and selections that lean on each other.
    pub total: usize,
}

/// What one level of brackets has seen so far.
#[derive(Default)]
struct Level {
    /// Selections, indexes and calls since the last operator.
    members: usize,
    /// The longest chain of these on this level.
    longest: usize,
    operators: usize,
    conditionals: usize,
}

impl Level {
    fn depth(&self) -> usize {
        1 + self.longest + self.operators + self.conditionals
    }

    fn operator(&mut self) {
        self.operators += 1;
        self.members = 0;
    }

    fn member(&mut self) {
        self.members += 1;
        self.longest = self.longest.max(self.members);
    }
}

pub(crate) fn estimate(text: &str) -> Depth {
    let bytes = text.as_bytes();
    let mut levels = vec![Level::default()];
    let mut outer = Depth::default();
    let mut found = Depth::default();
    let mut at = 0;
    while at < bytes.len() {
        let inner = levels.len() > 1;
        let level = levels.last_mut().expect("the outermost level is never popped");
        let byte = bytes[at];
        at += 1;
        match byte {
            b'"' | b'\'' => at = string_end(bytes, at - 1),
            b'/' if bytes.get(at) == Some(&b'/') => {
                at += bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
            }
            b'(' | b'[' | b'{' => {
                level.member();
                outer.nesting += 1 + level.conditionals;
                outer.total += level.depth();
                levels.push(Level::default());
            }
            b')' | b']' | b'}' if inner => {
                levels.pop();
                let level = levels.last().expect("there is one more");
                outer.nesting = outer.nesting.saturating_sub(1 + level.conditionals);
                outer.total = outer.total.saturating_sub(level.depth());
            }
            b'.' => level.member(),
            b'?' if bytes.get(at.wrapping_sub(2)) != Some(&b'.') => level.conditionals += 1,
            b',' => *level = Level { longest: level.longest, ..Level::default() },
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => level.operator(),
            b'i' if bytes[at..].starts_with(b"n") => level.operator(),
            _ => {}
        }
        if let Some(level) = levels.last() {
            found.nesting = found.nesting.max(outer.nesting + level.conditionals);
            found.total = found.total.max(outer.total + level.depth());
        }
    }
    found
}

/// The position after the string literal that begins at `start`. An escaped quote ends no string, in raw strings neither: the
/// bound is then of a text that is cut differently, and no lower for what follows.
pub(crate) fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
    let mut at = start + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if !raw => at += 1,
            byte if byte == quote && (!triple || bytes[at..].starts_with(&[quote; 3])) => {
                return at + if triple { 3 } else { 1 };
            }
            b'\n' if !triple => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded_from_above() {
        let total = |text: &str| estimate(text).total;
        assert!(total("1") <= 1);
        assert!(total(&"(".repeat(300)) >= 300);
        assert!(total(&"1+".repeat(300)) >= 300);
        assert!(total(&"a.".repeat(300)) >= 300);
        assert!(total(&"'a.b.c.d.e.f'".repeat(300)) < 10);
        assert!(total("// ((((((((((((((((") < 10);
        assert!(total("[1, 2, 3, 4, 5, 6, 7, 8].all(x, x > 1 && x < 5)") < 12);
        assert_eq!(estimate("b ? 1 : (c ? 2 : 3)").nesting, 3);
        assert_eq!(estimate("a.?b.?c[?1]").nesting, 1 + 1);
    }
}
