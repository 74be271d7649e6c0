//! Bytes of a YAML document as characters: UTF-8, or UTF-16 that says so.

use std::borrow::Cow;

pub(super) fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)?),
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(utf8(rest)?),
        _ => Cow::Borrowed(utf8(bytes)?),
    };
    match text.chars().all(is_printable) {
        true => Ok(text),
        false => Err("control characters are not allowed"),
    }
}

fn is_printable(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

fn utf8(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let rest = &bytes[error.valid_up_to()..];
        let width = match rest.first() {
            Some(0xc0..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf7) => 4,
            _ => return "invalid leading UTF-8 octet",
        };
        let trailing = rest.iter().skip(1).take(width - 1);
        if trailing.clone().any(|byte| byte & 0xc0 != 0x80) {
            return "invalid trailing UTF-8 octet";
        }
        if trailing.count() + 1 < width {
            return "incomplete UTF-8 octet sequence";
        }
        match (rest[0], rest[1]) {
            (0xc0 | 0xc1, _) | (0xe0, ..0xa0) | (0xf0, ..0x90) => "invalid length of a UTF-8 sequence",
            _ => "invalid Unicode character",
        }
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, &'static str> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<String, _>>();
    let text = text.map_err(|error| match error.unpaired_surrogate() {
        0xdc00.. => "unexpected low surrogate area",
        _ => "expected low surrogate area",
    })?;
    if rest.is_empty() { Ok(text) } else { Err("incomplete UTF-16 character") }
}
