//! A document before its types are known: with duplicate keys, and numbers as they were written.

use std::borrow::Cow;

use super::MAX_DEPTH;
use crate::tree::{Number, Object, Tree};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// With where it stands in a JSON document.
    Object(Vec<(Cow<'a, str>, Node<'a>)>, Span),
}

/// A part of the document; empty for what has no text of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The text there.
    pub(super) fn of(self, document: &[u8]) -> Option<&str> {
        let text = document.get(self.start as usize..self.end as usize)?;
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
    }
}

impl<'a> Node<'a> {
    /// The last value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&Node<'a>> {
        match self {
            Node::Object(entries, _) => {
                entries.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// As a tree without a model. The last of duplicate keys counts.
    pub(super) fn to_tree(&self) -> Tree {
        match self {
            Node::Null => Tree::Null,
            Node::Bool(value) => Tree::Bool(*value),
            Node::Number(text) => number(text),
            Node::String(text) => Tree::from(&**text),
            Node::Array(items) => Tree::Array(items.iter().map(Node::to_tree).collect()),
            Node::Object(entries, _) => {
                let mut map = Object::with_capacity(entries.len());
                for (key, value) in entries {
                    map.insert(&**key, value.to_tree());
                }
                Tree::Object(map)
            }
        }
    }
}

/// A whole number where it fits, as upstream reads a number that has no type.
fn number(text: &str) -> Tree {
    if let Ok(value) = text.parse::<i64>() {
        return Tree::from(value);
    }
    text.parse().ok().and_then(Number::from_f64).map_or(Tree::Null, Tree::Number)
}

impl<'a> From<&'a Tree> for Node<'a> {
    fn from(tree: &'a Tree) -> Self {
        match tree {
            Tree::Null => Node::Null,
            Tree::Bool(value) => Node::Bool(*value),
            Tree::Number(number) => Node::Number(Cow::Owned(number.to_string())),
            Tree::String(text) => Node::String(Cow::Borrowed(text)),
            Tree::Array(items) => Node::Array(items.iter().map(Node::from).collect()),
            Tree::Object(map) => Node::Object(
                map.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), Node::from(value))).collect(),
                Span::default(),
            ),
        }
    }
}

/// Parses JSON. Errors are worded as upstream's scanner words them.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Node<'_>, String> {
    let mut parser = Parser { bytes, at: 0, depth: 0 };
    let node = parser.value()?;
    parser.space();
    match parser.peek() {
        None => Ok(node),
        Some(byte) => Err(invalid(byte, "after top-level value")),
    }
}

fn end() -> String {
    "unexpected end of JSON input".to_owned()
}

fn invalid(byte: u8, context: &str) -> String {
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b'"' => "\"".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        0x07 => "\\a".to_owned(),
        0x08 => "\\b".to_owned(),
        0x0b => "\\v".to_owned(),
        0x0c => "\\f".to_owned(),
        0..0x20 | 0x7f => format!("\\x{byte:02x}"),
        0x80..0xa0 | 0xad => format!("\\u{byte:04x}"),
        _ => char::from(byte).to_string(),
    };
    format!("invalid character '{shown}' {context}")
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Node<'a>, String> {
        self.space();
        match self.peek().ok_or_else(end)? {
            byte @ (b'{' | b'[') => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(invalid(byte, "exceeded max depth"));
                }
                self.at += 1;
                let start = self.at - 1;
                let node = match byte {
                    b'{' => self.object().map(|entries| Node::Object(entries, self.span(start))),
                    _ => self.array(),
                };
                self.depth -= 1;
                node
            }
            b'"' => Ok(Node::String(self.string()?)),
            b'-' | b'0'..=b'9' => Ok(Node::Number(Cow::Borrowed(self.number()?))),
            b't' => self.literal("true", Node::Bool(true)),
            b'f' => self.literal("false", Node::Bool(false)),
            b'n' => self.literal("null", Node::Null),
            byte => Err(invalid(byte, "looking for beginning of value")),
        }
    }

    /// The span that has been read since `start`.
    fn span(&self, start: usize) -> Span {
        match (u32::try_from(start), u32::try_from(self.at)) {
            (Ok(start), Ok(end)) => Span { start, end },
            _ => Span::default(),
        }
    }

    fn object(&mut self) -> Result<Vec<(Cow<'a, str>, Node<'a>)>, String> {
        let mut entries = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(entries);
        }
        loop {
            self.space();
            match self.peek().ok_or_else(end)? {
                b'"' => {}
                byte => return Err(invalid(byte, "looking for beginning of object key string")),
            }
            let key = self.string()?;
            self.space();
            match self.peek().ok_or_else(end)? {
                b':' => self.at += 1,
                byte => return Err(invalid(byte, "after object key")),
            }
            let value = self.value()?;
            entries.push((key, value));
            self.space();
            match self.peek().ok_or_else(end)? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(entries);
                }
                byte => return Err(invalid(byte, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Node<'a>, String> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            match self.peek().ok_or_else(end)? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Node::Array(items));
                }
                byte => return Err(invalid(byte, "after array element")),
            }
        }
    }

    /// What ends within a word or number is complained of as though a space came next.
    fn literal(&mut self, word: &str, node: Node<'a>) -> Result<Node<'a>, String> {
        for expected in word.bytes() {
            match self.peek().unwrap_or(b' ') {
                byte if byte == expected => self.at += 1,
                byte => {
                    let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                    return Err(invalid(byte, &context));
                }
            }
        }
        Ok(node)
    }

    fn number(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek().unwrap_or(b' ') {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            byte => return Err(invalid(byte, "in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| end())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Result<(), String> {
        match self.peek().unwrap_or(b' ') {
            b'0'..=b'9' => self.digits(),
            byte => return Err(invalid(byte, context)),
        }
        Ok(())
    }

    /// At a quote; leaves after the closing one.
    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.at += 1;
        let start = self.at;
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        self.at =
            self.bytes[start..].iter().position(special).map_or(self.bytes.len(), |plain| start + plain);
        match self.peek().ok_or_else(end)? {
            b'"' => {
                let text = String::from_utf8_lossy(&self.bytes[start..self.at]);
                self.at += 1;
                return Ok(text);
            }
            b'\\' => {}
            byte => return Err(invalid(byte, "in string literal")),
        }
        let mut out = self.bytes[start..self.at].to_vec();
        loop {
            match self.peek().ok_or_else(end)? {
                b'"' => {
                    self.at += 1;
                    return Ok(Cow::Owned(
                        String::from_utf8(out)
                            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
                    ));
                }
                b'\\' => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                byte @ 0..0x20 => return Err(invalid(byte, "in string literal")),
                byte => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let byte = self.peek().ok_or_else(end)?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => out.push(byte),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut code = self.hexadecimal()?;
                // a high surrogate wants a low one after it
                if (0xd800..0xdc00).contains(&code) && self.bytes.get(self.at..self.at + 2) == Some(b"\\u") {
                    let before = self.at;
                    self.at += 2;
                    let low = self.hexadecimal()?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    } else {
                        self.at = before;
                    }
                }
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            byte => return Err(invalid(byte, "in string escape code")),
        }
        Ok(())
    }

    fn hexadecimal(&mut self) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..4 {
            let byte = self.peek().ok_or_else(end)?;
            let digit = char::from(byte)
                .to_digit(16)
                .ok_or_else(|| invalid(byte, "in \\u hexadecimal character escape"))?;
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}
