//! The text as it grows: where the line stands, and whether the next word needs a space before it.

/// Column from which on a space in a text becomes a line break.
pub(super) const WIDTH: usize = 80;

pub(super) struct Page<'a> {
    out: &'a mut String,
    column: usize,
    /// Nothing but indentation and marks of nesting on this line, so that a collection may begin on it.
    at_start: bool,
    /// The last character is a space, or nothing precedes.
    after_space: bool,
}

impl<'a> Page<'a> {
    pub(super) fn new(out: &'a mut String) -> Page<'a> {
        Page { out, column: 0, at_start: true, after_space: true }
    }

    /// Goes to a column of a line, this one where nothing stands on it that it could not follow.
    pub(super) fn new_line(&mut self, indent: usize) {
        if !self.at_start || self.column > indent || (self.column == indent && !self.after_space) {
            self.line_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.after_space = true;
        self.at_start = true;
    }

    /// A mark behind which a collection may begin on the same line.
    pub(super) fn nesting(&mut self, mark: &str) {
        self.space();
        self.plain(mark);
        self.after_space = false;
    }

    /// The mark between a key and its value.
    pub(super) fn colon(&mut self) {
        self.plain(":");
        self.word_ended();
    }

    /// A word that is never broken.
    pub(super) fn word(&mut self, word: &str) {
        self.space();
        self.plain(word);
        self.word_ended();
    }

    /// The space before a word, where one is missing.
    pub(super) fn space(&mut self) {
        if !self.after_space {
            self.put(' ');
        }
    }

    pub(super) fn word_ended(&mut self) {
        self.after_space = false;
        self.at_start = false;
    }

    pub(super) fn plain(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    pub(super) fn put(&mut self, character: char) {
        self.out.push(character);
        self.column += 1;
    }

    /// A break within a text.
    pub(super) fn line_break(&mut self, character: char) {
        self.out.push(character);
        self.column = 0;
        self.at_start = true;
        self.after_space = true;
    }

    pub(super) fn is_full(&self) -> bool {
        self.column > WIDTH
    }

    pub(super) fn end(&mut self) {
        if self.column > 0 {
            self.out.push('\n');
        }
    }
}

/// What ends a line in YAML 1.1.
pub(super) fn is_break(character: char) -> bool {
    matches!(character, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}
