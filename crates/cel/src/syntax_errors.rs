//! Errors of the grammar in upstream's words. Both parsers are generated from one grammar, and differ in which tokens they
//! expect after a complete operand: upstream's names what closes the construct, the other one all operators too.

use std::ops::Range;

use cel_parser::parser::ParseErrors;

use crate::source::{Issues, Place};

/// Tokens that continue an operand.
const OPERATORS: [&str; 17] = [
    "'=='", "'!='", "'in'", "'<'", "'<='", "'>='", "'>'", "'&&'", "'||'", "'['", "'.'", "'-'", "'?'", "'+'",
    "'*'", "'/'", "'%'",
];
const EXPECTING: &str = " expecting {";

pub(crate) fn issues(text: &str, errors: &ParseErrors) -> Issues {
    let mut issues = Issues::new(text);
    let mut skipped: Vec<Range<usize>> = Vec::new();
    let mut recovered = None;
    for error in &errors.errors {
        let (line, column) = (error.pos.0 as i64, error.pos.1 as i64 - 1);
        let before = before(text, line, column);
        skipped.push(before.len()..before.len() + skipped_by(&error.msg));
        if let Some(message) = message(&error.msg, before, &skipped, recovered) {
            let column = if text.is_empty() { -1 } else { column };
            issues.report(Place { line, column }, message);
        }
        if error.msg.contains("no viable alternative") || error.msg.contains("mismatched input") {
            recovered = Some(before.len());
        }
    }
    if issues.is_empty() {
        issues.report(Place::NONE, "unknown parse element encountered".to_owned());
    }
    issues.sorted()
}

/// Bytes that the parser skips at an error: what is no token.
fn skipped_by(message: &str) -> usize {
    match message.split_once("token recognition error at: '") {
        Some((_, skipped)) => skipped.len().saturating_sub(1),
        None => 0,
    }
}

/// The text before a place.
fn before(text: &str, line: i64, column: i64) -> &str {
    let lines = text.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0));
    let start: usize = lines.map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    let column = usize::try_from(column).unwrap_or(0);
    let end = rest.char_indices().nth(column).map_or(rest.len(), |(place, _)| place);
    text.get(..start + end).unwrap_or(text)
}

/// The message as upstream has it; `None` for errors that follow from another one.
fn message(
    message: &str,
    before: &str,
    skipped: &[Range<usize>],
    recovered: Option<usize>,
) -> Option<String> {
    if message.starts_with("invalid string") || message.starts_with("invalid bytes") {
        return Some("unable to unescape string".to_owned());
    }
    let is_internal =
        message.starts_with("No `") || message.starts_with("Incomplete") || message == "UNKNOWN";
    (!is_internal).then(|| with_closers(message, before, skipped, recovered))
}

/// Names what closes the construct that is open, where tokens after an operand are expected.
fn with_closers(message: &str, before: &str, skipped: &[Range<usize>], recovered: Option<usize>) -> String {
    let Some((start, tokens)) = message.split_once(EXPECTING) else { return message.to_owned() };
    let tokens: Vec<&str> = tokens.trim_end_matches('}').split(", ").collect();
    // One of them is missing where a second conditional may not follow.
    if !OPERATORS.iter().all(|operator| *operator == "'?'" || tokens.contains(operator)) {
        return message.to_owned();
    }
    let closers = match recovered.and_then(|at| before.get(at..)) {
        // The parser has given up all that was open, and goes on after the error.
        Some(after) if has_conditional(after) => "':'",
        Some(_) => "<EOF>",
        None => closers(before, skipped),
    };
    format!("{start} expecting {closers}")
}

/// Whether a conditional is open at the end of a text whose brackets do not count.
fn has_conditional(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 0usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' | b'\'' => at = crate::depth::string_end(bytes, at - 1),
            b'?' => open += 1,
            b':' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    open > 0
}

/// An open bracket.
struct Open {
    bracket: u8,
    /// Follows an operand, and so is an index or a call.
    is_suffix: bool,
    /// Conditionals whose second branch is still to come.
    conditionals: usize,
    /// The key of a map's entry has been read.
    has_key: bool,
}

/// What closes the innermost construct that is open at the end of a text. What earlier errors have skipped opens nothing.
fn closers(text: &str, skipped: &[Range<usize>]) -> &'static str {
    let bytes = text.as_bytes();
    let open = |bracket, is_suffix| Open { bracket, is_suffix, conditionals: 0, has_key: false };
    let mut levels = vec![open(b' ', false)];
    let (mut at, mut after_operand) = (0, false);
    while let Some(byte) = bytes.get(at) {
        let is_inner = levels.len() > 1;
        let Some(level) = levels.last_mut() else { break };
        at += 1;
        if skipped.iter().any(|range| range.contains(&(at - 1))) {
            continue;
        }
        match byte {
            b'"' | b'\'' => {
                at = crate::depth::string_end(bytes, at - 1);
                after_operand = true;
                continue;
            }
            b'(' | b'[' | b'{' => levels.push(open(*byte, after_operand)),
            b')' | b']' | b'}' if is_inner => drop(levels.pop()),
            b'?' if !matches!(bytes.get(at.wrapping_sub(2)), Some(b'.' | b'[')) => level.conditionals += 1,
            b':' if level.conditionals > 0 => level.conditionals -= 1,
            b':' => level.has_key = true,
            b',' => (level.conditionals, level.has_key) = (0, false),
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            after_operand = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b')' | b']' | b'}');
        }
    }
    match levels.last() {
        Some(level) if level.conditionals > 0 => "':'",
        Some(Open { bracket: b'(', .. }) => "')'",
        Some(Open { bracket: b'[', is_suffix: true, .. }) => "']'",
        Some(Open { bracket: b'[', .. }) => "{']', ','}",
        Some(Open { bracket: b'{', has_key: false, .. }) => "':'",
        Some(Open { bracket: b'{', .. }) => "{'}', ','}",
        _ => "<EOF>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_to_be_closed() {
        for (text, expect) in [
            ("a", "<EOF>"),
            ("f(a)", "<EOF>"),
            ("f(a", "')'"),
            ("(a", "')'"),
            ("a[1", "']'"),
            ("[1", "{']', ','}"),
            ("{1", "':'"),
            ("{1: 2", "{'}', ','}"),
            ("a ? b", "':'"),
            ("a.?b", "<EOF>"),
            ("'([{'", "<EOF>"),
        ] {
            assert_eq!(closers(text, &[]), expect, "{text}");
        }
    }
}
