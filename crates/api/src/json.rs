//! Writes JSON as upstream's encoder does: compact, with `<`, `>`, `&`, U+2028 and U+2029 escaped, and
//! with its format of floating-point numbers.

use crate::tree::Tree;
use serde::de::IgnoredAny;

use crate::raw;

/// Appends a tree.
pub fn write(tree: &Tree, out: &mut Vec<u8>) {
    match tree {
        Tree::Null => out.extend_from_slice(b"null"),
        Tree::Bool(true) => out.extend_from_slice(b"true"),
        Tree::Bool(false) => out.extend_from_slice(b"false"),
        Tree::Number(number) => {
            if let Some(value) = number.as_i64() {
                write_integer(value, out);
            } else if let Some(value) = number.as_u64() {
                out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            } else {
                write_double(number.as_f64().unwrap_or_default(), out);
            }
        }
        Tree::String(text) => write_string(text, out),
        Tree::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Tree::Object(map) => {
            if let Some(text) = raw::text(map) {
                if write_compact(text.as_bytes(), out).is_err() {
                    out.extend_from_slice(b"null");
                }
                return;
            }
            out.push(b'{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

/// A tree's JSON.
pub fn to_vec(tree: &Tree) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write(tree, &mut out);
    out
}

/// Appends compact JSON spread over lines, two spaces a level, as upstream answers to a terminal.
pub fn write_indented(compact: &[u8], out: &mut Vec<u8>) {
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    let line = |depth: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for (index, &byte) in compact.iter().enumerate() {
        if in_string {
            out.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !matches!(compact.get(index + 1), Some(b'}' | b']')) {
                    line(depth, out);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(index.checked_sub(1).and_then(|before| compact.get(before)), Some(b'{' | b'[')) {
                    line(depth, out);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(depth, out);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                in_string = true;
                out.push(byte);
            }
            _ => out.push(byte),
        }
    }
}

pub fn write_integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest digits that read back, with an exponent below 1e-6 and from 1e21.
pub fn write_double(value: f64, out: &mut Vec<u8>) {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                out.extend_from_slice(format!("{digits}e+{exponent}").as_bytes())
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
    } else {
        out.extend_from_slice(format!("{value}").as_bytes());
    }
}

/// Appends a string with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// [`write_string`] for bytes that should be UTF-8; what is not becomes U+FFFD.
pub(crate) fn write_bytes_as_string(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => write_string(text, out),
        Err(_) => write_string(&String::from_utf8_lossy(bytes), out),
    }
}

/// Bytes that need a closer look: control characters, `"`, `\`, `<`, `>`, `&`, and 0xE2, which may start U+2028.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0xE2] = true;
    table
};

fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut position = 0;
    while position < bytes.len() {
        let byte = bytes[position];
        if !SPECIAL[usize::from(byte)] {
            position += 1;
            continue;
        }
        let hex;
        let (replacement, length): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0x08 => (b"\\b", 1),
            0x0c => (b"\\f", 1),
            0xE2 => match bytes.get(position + 1..position + 3) {
                Some([0x80, 0xA8]) => (b"\\u2028", 3),
                Some([0x80, 0xA9]) => (b"\\u2029", 3),
                _ => {
                    position += 1;
                    continue;
                }
            },
            other => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                hex = [
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    DIGITS[usize::from(other >> 4)],
                    DIGITS[usize::from(other & 15)],
                ];
                (&hex, 1)
            }
        };
        out.extend_from_slice(&bytes[copied..position]);
        out.extend_from_slice(replacement);
        position += length;
        copied = position;
    }
    out.extend_from_slice(&bytes[copied..]);
}

#[derive(Debug)]
pub(crate) struct NotJson;

/// Appends a JSON text without its white space, escaped like the rest; an error when it is not JSON.
pub(crate) fn write_compact(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotJson> {
    let checked = std::str::from_utf8(text).map_err(|_| NotJson)?;
    serde_json::from_str::<IgnoredAny>(checked).map_err(|_| NotJson)?;
    let mut in_string = false;
    let mut escaped = false;
    for (index, &byte) in text.iter().enumerate() {
        if !in_string {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => continue,
                b'"' => in_string = true,
                _ => {}
            }
        } else if escaped {
            escaped = false;
        } else {
            match byte {
                b'\\' => escaped = true,
                b'"' => in_string = false,
                b'<' => {
                    out.extend_from_slice(b"\\u003c");
                    continue;
                }
                b'>' => {
                    out.extend_from_slice(b"\\u003e");
                    continue;
                }
                b'&' => {
                    out.extend_from_slice(b"\\u0026");
                    continue;
                }
                0xA8 | 0xA9 if index >= 2 && text[index - 2..index] == [0xE2, 0x80] => {
                    out.truncate(out.len() - 2);
                    out.extend_from_slice(if byte == 0xA8 { b"\\u2028" } else { b"\\u2029" });
                    continue;
                }
                _ => {}
            }
        }
        out.push(byte);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_strings_look_like_upstreams() {
        let check = |tree: Tree, expect: &str| assert_eq!(String::from_utf8(to_vec(&tree)).unwrap(), expect);
        check(Tree::from(1e21), "1e+21");
        check(Tree::from(1.5e-7), "1.5e-7");
        check(Tree::from(1.0), "1");
        check(Tree::from(-0.25), "-0.25");
        check(Tree::from(u64::MAX), "18446744073709551615");
        check(Tree::from("a<b>&\u{2028}\u{7}\"\\é€"), "\"a\\u003cb\\u003e\\u0026\\u2028\\u0007\\\"\\\\é€\"");
    }

    #[test]
    fn compacting_keeps_strings() {
        let mut out = Vec::new();
        write_compact(b"{ \"a b\" : [ 1 , \"x\\\" <\" ] }", &mut out).unwrap();
        assert_eq!(out, b"{\"a b\":[1,\"x\\\" \\u003c\"]}");
        assert!(write_compact(b"{", &mut out).is_err());
        assert!(write_compact(b"\"\xff\"", &mut out).is_err());

        let text = "{\n  \"a b\": [\n    1,\n    \"x,{\\\"\"\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        let mut indented = Vec::new();
        write_indented(br#"{"a b":[1,"x,{\""],"c":{},"d":[]}"#, &mut indented);
        assert_eq!(String::from_utf8(indented).unwrap(), text);
    }
}
