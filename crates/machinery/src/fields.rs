//! Field selectors: `metadata.name=x,spec.nodeName!=y`, with `\` before a comma, an equals sign or itself in a value.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub value: String,
    /// `!=`.
    pub negated: bool,
}

/// Terms of which all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub terms: Vec<Term>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(u32),
}

impl Selector {
    pub fn parse(text: &str) -> Result<Selector, Error> {
        let mut terms = Vec::new();
        for part in split(text) {
            if part.is_empty() {
                continue;
            }
            let Some((field, negated, value)) = operator(part) else {
                return Err(Error::Term { selector: text.to_owned(), term: part.to_owned() });
            };
            let value = unescape(value)?;
            // a bare operator asks for nothing
            if !field.is_empty() || !value.is_empty() {
                terms.push(Term { field: field.to_owned(), value, negated });
            }
        }
        Ok(Selector { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// `value` answers with a field's text; a field that an object lacks is empty.
    pub fn matches<'a>(&self, mut value: impl FnMut(&str) -> std::borrow::Cow<'a, str>) -> bool {
        self.terms.iter().all(|term| (value(&term.field) == term.value) != term.negated)
    }

    /// The value that `field` must have, where the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| !term.negated && term.field == field).map(|term| term.value.as_str())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, term) in self.terms.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn operator(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        let rest = &term[index..];
        for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..index], negated, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => return Err(Error::Escape(format!("\\{next}"))),
                None => return Err(Error::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(Error::Unescaped(character as u32)),
            _ => out.push(character),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing() {
        for (text, expect) in [
            ("a=b", Ok("a=b")),
            ("a==b,c!=d", Ok("a=b,c!=d")),
            ("a=b\\,c", Ok("a=b\\,c")),
            (",", Ok("")),
            ("=,!=,a=b,==", Ok("a=b")),
            ("=b", Ok("=b")),
            ("a", Err("invalid selector: 'a'; can't understand 'a'")),
            ("a=b\\x", Err("invalid field selector: invalid escape sequence: \\x")),
            ("a=b=c", Err("invalid field selector: unescaped character in value: 61")),
        ] {
            let got = Selector::parse(text).map(|s| s.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
        let selector = Selector::parse("a=1,b!=2").unwrap();
        let value = |b: &'static str| move |f: &str| if f == "a" { "1".into() } else { b.into() };
        assert!(selector.matches(value("3")));
        assert!(!selector.matches(value("2")));
    }
}
