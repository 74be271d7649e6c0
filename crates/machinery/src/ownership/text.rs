//! `FieldsV1`: a set of fields as JSON, read and written as upstream does, byte for byte.
//!
//! `{"f:spec":{".":{},"f:replicas":{}}}`: a member without content is part of the set, one with content is where it has
//! `.`. Most sets are only asked whether a change concerns them, so [`Set::within`] reads no more than that needs.

use std::borrow::Cow;

use super::element::Unreadable;
use super::{Element, Node, Set};

/// Levels within each other that are read.
pub(super) const MAX_DEPTH: usize = 500;

/// A text that is no `FieldsV1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed set of fields")]
pub struct Malformed;

impl Set {
    /// Reads a set of fields.
    pub fn parse(text: &str) -> Result<Set, Malformed> {
        let mut reader = Reader::new(text);
        let (set, _) = reader.set(0)?;
        reader.end()?;
        Ok(set)
    }

    /// The members of a text that are also members of this set. The rest of the text is skipped.
    pub fn within(&self, text: &str) -> Result<Set, Malformed> {
        let mut reader = Reader::new(text);
        let (set, _) = reader.intersection(self, 0)?;
        reader.end()?;
        Ok(set)
    }

    /// The set's text.
    pub fn to_text(&self) -> String {
        let mut out = Vec::with_capacity(256);
        out.push(b'{');
        self.write(true, &mut out);
        out.push(b'}');
        String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    fn write(&self, first: bool, out: &mut Vec<u8>) {
        let mut first = first;
        let mut name = Vec::new();
        for node in &self.nodes {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            name.clear();
            node.element.write(&mut name);
            write_string(&name, out);
            out.extend_from_slice(b":{");
            if !node.below.nodes.is_empty() {
                if node.member {
                    out.extend_from_slice(b"\".\":{}");
                }
                node.below.write(!node.member, out);
            }
            out.push(b'}');
        }
    }
}

/// Appends a quoted text without the escapes that are for HTML.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte if byte < 0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Reads the JSON of a set from front to back.
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed) }
    }

    /// A text in quotes, with its escapes.
    fn quoted(&mut self) -> Result<&'t str, Malformed> {
        self.take(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at).ok_or(Malformed)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at - 1).ok_or(Malformed)
    }

    /// Calls `each` with the name of each member, which must read the member's value. `null` has none.
    pub(super) fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, &'t str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if self.peek() == Some(b'n') {
            return self.skip(0);
        }
        self.take(b'{')?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.quoted()?;
            self.take(b':')?;
            each(self, name)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Malformed),
            }
        }
    }

    /// Skips a value.
    pub(super) fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        match self.peek().ok_or(Malformed)? {
            b'"' => self.quoted().map(drop),
            b'{' => self.members(|reader, _| reader.skip(depth + 1)),
            b'[' => {
                self.at += 1;
                if self.peek() == Some(b']') {
                    self.at += 1;
                    return Ok(());
                }
                loop {
                    self.skip(depth + 1)?;
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b']') => {
                            self.at += 1;
                            return Ok(());
                        }
                        _ => return Err(Malformed),
                    }
                }
            }
            _ => {
                let rest = &self.text[self.at..];
                let length = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                serde_json::from_str::<serde_json::Value>(&rest[..length]).map_err(|_| Malformed)?;
                self.at += length;
                Ok(())
            }
        }
    }

    /// The fields below one, and whether that one is a member.
    fn set(&mut self, depth: usize) -> Result<(Set, bool), Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        let mut nodes = Vec::new();
        let mut member = false;
        self.members(|reader, name| {
            if name == "." {
                member = true;
                return reader.skip(depth);
            }
            let Some(element) = element(name)? else { return reader.skip(depth) };
            let (below, member) = reader.set(depth + 1)?;
            nodes.push(Node { element, member, below });
            Ok(())
        })?;
        member |= nodes.is_empty();
        Ok((Set::from_nodes(nodes), member))
    }

    /// Like [`Reader::set`], of what another set has too.
    fn intersection(&mut self, other: &Set, depth: usize) -> Result<(Set, bool), Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        let mut nodes = Vec::new();
        let mut member = false;
        let mut empty = true;
        let fields_only = other.nodes.last().is_none_or(|node| matches!(node.element, Element::Field(_)));
        self.members(|reader, name| {
            if name == "." {
                member = true;
                return reader.skip(depth);
            }
            empty = false;
            let wanted = match name.strip_prefix("f:") {
                Some(field) if !field.contains('\\') => other.get_field(field),
                None if fields_only => None,
                _ => match element(name)? {
                    Some(element) => other.get(&element),
                    None => None,
                },
            };
            let Some(wanted) = wanted else { return reader.skip(depth) };
            let (below, is_member) = reader.intersection(&wanted.below, depth + 1)?;
            let member = is_member && wanted.member;
            if member || !below.is_empty() {
                nodes.push(Node { element: wanted.element.clone(), member, below });
            }
            Ok(())
        })?;
        Ok((Set::from_nodes(nodes), member || empty))
    }
}

/// An element out of a quoted name; `None` for a sort that is not known.
fn element(quoted: &str) -> Result<Option<Element>, Malformed> {
    let name = match quoted.contains('\\') {
        false => Cow::Borrowed(quoted),
        true => serde_json::from_str(&format!("\"{quoted}\"")).map(Cow::Owned).map_err(|_| Malformed)?,
    };
    match Element::parse(&name) {
        Ok(element) => Ok(Some(element)),
        Err(Unreadable::Unknown) => Ok(None),
        Err(Unreadable::Malformed) => Err(Malformed),
    }
}
