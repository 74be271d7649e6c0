//! Regular expressions. RE2's syntax is nearly that of the `regex` crate, and both take time linear to the text.

use regex::{Regex, RegexBuilder};

use super::{Context, Row, row, take};
use crate::error::EvalError;
use crate::value::{Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row("matches", "matches(string, string) -> bool", matches),
    row("matches_string", ".matches(string, string) -> bool", matches),
    row("string_find_string", ".find(string, string) -> string", find),
    row("string_find_all_string", ".findAll(string, string) -> list(string)", find_all),
    row("string_find_all_string_int", ".findAll(string, string, int) -> list(string)", find_all),
];

/// Largest compiled pattern in bytes. Patterns come from users.
const MAX_PROGRAM: usize = 1 << 20;

/// Names of classes, as in `[[:alpha:]]`.
const NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];
/// Most repetitions that a pattern may ask for.
const MAX_REPEAT: u32 = 1_000;

/// Compiles a pattern as RE2 reads it: classes such as `\d` are ASCII's.
pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    re2(pattern).map_err(EvalError::message)
}

/// The same, for patterns that are in no expression; the error is what RE2 says.
pub fn re2(pattern: &str) -> Result<Regex, String> {
    let wrong = |reason: String| format!("error parsing regexp: {reason}");
    let translated = translate(pattern).map_err(wrong)?;
    let built = RegexBuilder::new(&translated).size_limit(MAX_PROGRAM).build();
    built.map_err(|error| wrong(reason(pattern, &error)))
}

/// Rewrites what the `regex` crate reads differently: `\d`, `\s`, `\w` and `\b` of Unicode are ASCII's in RE2, `\Q…\E`
/// quotes, `[[a]` has a bracket in it, `{,2}` is text, and repetitions are not repeated.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut in_class = false;
    // Where the repetition right before began.
    let mut repeated: Option<usize> = None;
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let at = pattern.len() - rest.len();
        rest = &rest[c.len_utf8()..];
        let before = repeated.take();
        match c {
            '\\' => rest = escape(rest, in_class, &mut out),
            '*' | '+' | '?' | '{' if !in_class => {
                let Some(length) = repetition(&pattern[at..])? else {
                    out.push_str("\\{");
                    continue;
                };
                let lazy = usize::from(pattern[at + length..].starts_with('?'));
                if let Some(start) = before {
                    let operators = &pattern[start..at + length];
                    return Err(format!("invalid nested repetition operator: `{operators}`"));
                }
                out.push_str(&pattern[at..at + length + lazy]);
                rest = &pattern[at + length + lazy..];
                repeated = Some(at);
            }
            '[' if in_class && !rest.starts_with(':') => out.push_str(r"\["),
            '[' if in_class => {
                let name = rest[1..].split_once(":]").map_or("", |(name, _)| name);
                if !NAMES.contains(&name.trim_start_matches('^')) {
                    return Err(format!("invalid character class range: `[:{name}:]`"));
                }
                out.push('[');
            }
            '[' => {
                in_class = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    rest = after;
                    out.push('^');
                }
                // A bracket right after the start is a member.
                if let Some(after) = rest.strip_prefix(']') {
                    rest = after;
                    out.push_str(r"\]");
                }
            }
            ']' if in_class && out.ends_with(':') && class_is_named(&out) => out.push(']'),
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && rest.starts_with('-') => out.push_str(r"\-"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// Copies an escape whose backslash has been read, and returns what follows it.
fn escape<'p>(rest: &'p str, in_class: bool, out: &mut String) -> &'p str {
    let Some(c) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    let after = &rest[c.len_utf8()..];
    match c {
        'd' => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str(if in_class { r"\t\n\x0C\r " } else { r"[\t\n\x0C\r ]" }),
        'S' => out.push_str(r"[^\t\n\x0C\r ]"),
        'w' => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'b' if !in_class => out.push_str(r"(?-u:\b)"),
        'B' if !in_class => out.push_str(r"(?-u:\B)"),
        'C' => out.push('.'),
        'Q' => {
            let (quoted, after) = after.split_once(r"\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(quoted));
            return after;
        }
        other => {
            out.push('\\');
            out.push(other);
        }
    }
    after
}

/// Length of the repetition operator that a text begins with; `None` for a brace that is text.
fn repetition(text: &str) -> Result<Option<usize>, String> {
    let Some(inner) = text.strip_prefix('{') else { return Ok(Some(1)) };
    let Some((inner, _)) = inner.split_once('}') else { return Ok(None) };
    let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(least) || !(most.is_empty() || is_number(most)) {
        return Ok(None);
    }
    let number = |digits: &str| digits.parse().unwrap_or(u32::MAX);
    let (least, most) = (number(least), if most.is_empty() { number(least) } else { number(most) });
    if least > MAX_REPEAT || most > MAX_REPEAT || least > most {
        return Err(format!("invalid repeat count: `{{{inner}}}`"));
    }
    Ok(Some(inner.len() + 2))
}

/// Whether the class that is open ends a name such as `[:alpha:`.
fn class_is_named(out: &str) -> bool {
    out.rfind("[:").is_some_and(|start| {
        out[start + 2..out.len() - 1].chars().all(|c| c.is_ascii_alphabetic() || c == '^')
    })
}

/// What RE2 says of a pattern that it refuses, for the usual mistakes.
fn reason(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let at = |needle: &str| pattern.rfind(needle).map_or(pattern, |at| &pattern[at..]);
    if text.contains("unclosed character class") {
        format!("missing closing ]: `{}`", at("["))
    } else if text.contains("unclosed group") {
        format!("missing closing ): `{pattern}`")
    } else if text.contains("unopened group") {
        format!("unexpected ): `{pattern}`")
    } else if text.contains("repetition operator missing expression") {
        let operator = pattern.find(['*', '+', '?', '{']).map_or(pattern, |at| &pattern[at..=at]);
        format!("missing argument to repetition operator: `{operator}`")
    } else if text.contains("look-around") {
        let start = pattern.find("(?").map_or(pattern, |at| pattern.get(at..at + 3).unwrap_or(pattern));
        format!("invalid or unsupported Perl syntax: `{start}`")
    } else if text.contains("invalid character class range") {
        format!("invalid character class range: `{}`", pattern.trim_matches(['[', ']']))
    } else if text.contains("incomplete escape sequence") {
        "trailing backslash at end of expression: ``".to_owned()
    } else if text.contains("unrecognized escape sequence") {
        let escape = at("\\");
        format!("invalid escape sequence: `{}`", escape.get(..2).unwrap_or(escape))
    } else {
        format!("invalid pattern: `{pattern}`")
    }
}

/// Calls with the pattern that is known already, or compiles it.
fn with<'v, T>(context: &Context<'_>, pattern: &str, of: impl FnOnce(&Regex) -> T, prefix: &str) -> Outcome<T>
where
    T: 'v,
{
    match context.pattern {
        Some(known) => Ok(of(known)),
        None => match compile(pattern) {
            Ok(compiled) => Ok(of(&compiled)),
            Err(error) => Err(EvalError::message(format!("{prefix}{error}"))),
        },
    }
}

fn matches<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            with(context, pattern, |regex| Value::Bool(regex.is_match(text)), "")
        }
        [Value::String(_), _] => Err(EvalError::no_such_overload()),
        _ => Err(EvalError::message(format!("no such overload: {}", context.function))),
    }
}

fn find<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text), Value::String(pattern)] => {
        let found = |regex: &Regex| regex.find(text).map_or("", |found| found.as_str()).to_owned();
        with(context, pattern, found, "Illegal regex: ").map(Value::text)
    })
}

fn find_all<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (text, pattern, most) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, usize::MAX),
        [Value::String(text), Value::String(pattern), Value::Int(most)] => {
            (text, pattern, usize::try_from(*most).unwrap_or(usize::MAX))
        }
        args => return Err(super::mismatch(context.function, args)),
    };
    let found = |regex: &Regex| {
        let found = regex.find_iter(text).take(most);
        found.map(|found| Value::text(found.as_str())).collect()
    };
    with(context, pattern, found, "Illegal regex: ").map(Value::list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_re2s() {
        let matches = |pattern: &str, text: &str| compile(pattern).map(|regex| regex.is_match(text)).ok();
        assert_eq!(matches(r"^\d+$", "\u{663}"), Some(false));
        assert_eq!(matches(r"^[\w.]+$", "a.b_c"), Some(true));
        assert_eq!(matches(r"^[[:alpha:]]+$", "abc"), Some(true));
        assert_eq!(matches(r"^[[a]+$", "[a"), Some(true));
        assert_eq!(matches(r"^[]a]+$", "]a"), Some(true));
        assert_eq!(matches(r"^[a&&b]+$", "&"), Some(true));
        assert_eq!(matches(r"\Qa.b\E", "a.b"), Some(true));
        assert_eq!(matches(r"\bfoo\b", "a foo b"), Some(true));
        assert_eq!(matches("a{,2}", "a{,2}"), Some(true));
        assert_eq!(matches("a{2}?", "aa"), Some(true));
        for refused in ["a(?=b)", "a**", "a*?+", "a{2}{3}", "a{1001}", "[z-a]", r"\1"] {
            assert_eq!(matches(refused, "a"), None, "{refused}");
        }
        let error = compile("[").expect_err("the class is not closed");
        assert_eq!(error.to_string(), "error parsing regexp: missing closing ]: `[`");
    }
}
