//! The text of an expression, and errors that point into it as upstream prints them.

use std::fmt;

use crate::syntax::Id;

/// Errors printed at most; the rest is counted.
const MAX_ERRORS: usize = 100;
/// Longest line, in bytes, that is printed under an error.
const MAX_SNIPPET: usize = 16_384;

/// An expression's text and the place of each node in it, in characters from its start.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub text: String,
    pub offsets: Vec<u32>,
}

impl Source {
    pub fn offset(&self, id: Id) -> u32 {
        self.offsets.get(id).copied().unwrap_or(0)
    }

    pub fn place(&self, id: Id) -> Place {
        let offset = self.offset(id) as usize;
        let (mut line, mut start) = (1, 0);
        for (at, c) in self.text.chars().take(offset).enumerate() {
            if c == '\n' {
                line += 1;
                start = at + 1;
            }
        }
        Place { line, column: (offset - start) as i64 }
    }
}

/// Where an error is. Lines count from one, columns from zero and in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: i64,
    pub column: i64,
}

impl Place {
    /// For errors of the expression as a whole.
    pub const NONE: Place = Place { line: -1, column: -1 };
}

/// One error of an expression that does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub place: Place,
    pub message: String,
}

/// Errors of an expression that does not compile. Prints as upstream's do, with the line and a mark below its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    text: String,
    issues: Vec<Issue>,
    /// Counted and not kept.
    more: usize,
}

impl Issues {
    pub(crate) fn new(text: &str) -> Issues {
        Issues { text: text.to_owned(), issues: Vec::new(), more: 0 }
    }

    pub(crate) fn report(&mut self, place: Place, message: String) {
        if self.issues.len() < MAX_ERRORS {
            self.issues.push(Issue { place, message });
        } else {
            self.more += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    /// In the order of their places.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// `Err` where there are errors.
    pub(crate) fn into_result(self) -> Result<(), Issues> {
        if self.issues.is_empty() { Ok(()) } else { Err(self.sorted()) }
    }

    pub(crate) fn sorted(mut self) -> Issues {
        self.issues.sort_by_key(|issue| issue.place);
        self
    }
}

impl std::error::Error for Issues {}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, issue) in self.issues.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            self.print(f, issue)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{more} more errors were truncated"),
        }
    }
}

impl Issues {
    fn print(&self, f: &mut fmt::Formatter<'_>, issue: &Issue) -> fmt::Result {
        let Place { line, column } = issue.place;
        write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
        let Some(snippet) = usize::try_from(line - 1).ok().and_then(|line| self.text.split('\n').nth(line))
        else {
            return Ok(());
        };
        if self.text.is_empty() || snippet.len() > MAX_SNIPPET {
            return Ok(());
        }
        let snippet = snippet.replace('\t', " ");
        write!(f, "\n | {snippet}\n | ")?;
        let mut characters = snippet.chars();
        for c in characters.by_ref().take(usize::try_from(column).unwrap_or(0)) {
            f.write_str(if c.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
        }
        f.write_str(if characters.next().is_some_and(|c| c.len_utf8() > 1) { "\u{ff3e}" } else { "^" })
    }
}
