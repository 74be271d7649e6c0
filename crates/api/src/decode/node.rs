//! A document before its types are known: with duplicate keys, and numbers as they were written.

use std::borrow::Cow;
use std::fmt;

use crate::tree::{Number, Object, Tree};
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};

/// Objects and lists within each other; beyond it a document is refused.
const MAX_DEPTH: usize = 400;

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

fn number(text: &str) -> Tree {
    if let Ok(value) = text.parse::<i64>() {
        return Tree::from(value);
    }
    if let Ok(value) = text.parse::<u64>() {
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

/// The first of the documents in `bytes`.
fn first_document(bytes: &[u8]) -> &[u8] {
    let mut begun = false;
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        if text == b"---" || text.starts_with(b"--- ") || text == b"..." {
            if begun {
                return &bytes[..at];
            }
        } else {
            begun |= !text.is_empty() && !text.starts_with(b"#") && !text.starts_with(b"%");
        }
        at += line.len();
    }
    bytes
}

pub(super) fn parse_yaml(bytes: &[u8]) -> Result<Node<'static>, String> {
    let bytes = first_document(bytes);
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
    options.legacy_octal_numbers = true;
    options.non_finite_float_policy = serde_saphyr::NonFiniteFloatPolicy::PassThrough;
    serde_saphyr::from_slice_with_options(bytes, options).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        // YAML features without a JSON equivalent have messages of their own.
        match [KEY, VALUE].iter().find_map(|words| line.find(words)) {
            Some(at) => line[at..].to_owned(),
            None => format!("yaml: {}", located(line)),
        }
    })
}

/// The lines and names of keys that a map has twice.
pub(super) fn repeated_keys(bytes: &[u8]) -> Vec<(u64, String)> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
    let keys = serde_saphyr::from_slice_with_options::<Keys>(first_document(bytes), options);
    keys.map(|keys| keys.repeated).unwrap_or_default()
}

/// Keys that are repeated somewhere below a value.
#[derive(Default)]
struct Keys {
    repeated: Vec<(u64, String)>,
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

macro_rules! none_of {
    ($($visit:ident: $of:ty),*) => {$(
        fn $visit<E>(self, _: $of) -> Result<Keys, E> {
            Ok(Keys::default())
        }
    )*};
}

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    none_of!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_none<E>(self) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        while let Some(below) = items.next_element::<Keys>()? {
            keys.repeated.extend(below.repeated);
        }
        Ok(keys)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = members.next_key::<serde_saphyr::Spanned<String>>()? {
            if !seen.insert(key.value.clone()) {
                keys.repeated.push((key.referenced.line(), key.value));
            }
            keys.repeated.extend(members.next_value::<Keys>()?.repeated);
        }
        Ok(keys)
    }
}

/// The text of an error in YAML as upstream has it: with its line where that is not the first.
fn located(text: &str) -> String {
    let parsed = text.strip_prefix("error: line ").and_then(|rest| {
        let (line, rest) = rest.split_once(" column ")?;
        Some((line, rest.split_once(": ")?.1))
    });
    match parsed {
        Some(("1", text)) => text.to_owned(),
        Some((line, text)) => format!("line {line}: {text}"),
        None => text.to_owned(),
    }
}

const KEY: &str = "unsupported map key of type: ";
const VALUE: &str = "json: unsupported value: ";

/// A value in the syntax of Go, as the message on a key of no use shows it.
fn go_syntax(node: &Node<'_>) -> String {
    match node {
        Node::Null => "<nil>".to_owned(),
        Node::Bool(value) => value.to_string(),
        Node::Number(text) => text.clone().into_owned(),
        Node::String(text) => format!("{text:?}"),
        Node::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Node::Object(entries, _) => {
            let mut entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key:?}:{}", go_syntax(value))).collect();
            entries.sort();
            format!("map[interface {{}}]interface {{}}{{{}}}", entries.join(", "))
        }
    }
}

impl<'de> Deserialize<'de> for Node<'static> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'static>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Node::Number(Cow::Owned(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Node::Number(Cow::Owned(value.to_string())))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        let unsupported = match value {
            f64::INFINITY => "+Inf",
            f64::NEG_INFINITY => "-Inf",
            value if value.is_nan() => "NaN",
            _ => "",
        };
        if !unsupported.is_empty() {
            return Err(E::custom(format!("{VALUE}{unsupported}")));
        }
        let mut text = Vec::new();
        crate::json::write_double(value, &mut text);
        Ok(Node::Number(Cow::Owned(String::from_utf8_lossy(&text).into_owned())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Node::String(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Node::String(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = access.next_entry::<Node<'static>, Node<'static>>()? {
            let key = match key {
                Node::String(text) | Node::Number(text) => text,
                Node::Bool(value) => Cow::Owned(value.to_string()),
                Node::Null => {
                    let words = format!("{KEY}%!s(<nil>), key: <nil>, value: {}", go_syntax(&value));
                    return Err(serde::de::Error::custom(words));
                }
                _ => return Err(serde::de::Error::custom("a key that is not a scalar")),
            };
            entries.push((key, value));
        }
        // upstream reads YAML by way of JSON that it writes in order of the keys
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Node::Object(entries, Span::default()))
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
