//! Functions of strings. Positions count characters.

use super::{Context, Row, row, standard, take};
use crate::error::EvalError;
use crate::value::{Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row("string_char_at_int", ".charAt(string, int) -> string", char_at),
    row("string_index_of_string", ".indexOf(string, string) -> int", index_of),
    row("string_index_of_string_int", ".indexOf(string, string, int) -> int", index_of),
    row("string_last_index_of_string", ".lastIndexOf(string, string) -> int", last_index_of),
    row("string_last_index_of_string_int", ".lastIndexOf(string, string, int) -> int", last_index_of),
    row("string_lower_ascii", ".lowerAscii(string) -> string", lower),
    row("string_upper_ascii", ".upperAscii(string) -> string", upper),
    row("string_replace_string_string", ".replace(string, string, string) -> string", replace),
    row("string_replace_string_string_int", ".replace(string, string, string, int) -> string", replace),
    row("string_split_string", ".split(string, string) -> list(string)", split),
    row("string_split_string_int", ".split(string, string, int) -> list(string)", split),
    row("string_substring_int", ".substring(string, int) -> string", substring),
    row("string_substring_int_int", ".substring(string, int, int) -> string", substring),
    row("string_trim", ".trim(string) -> string", trim),
    row("list_join", ".join(list(string)) -> string", join),
    row("list_join_string", ".join(list(string), string) -> string", join),
    row("strings_quote", "strings.quote(string) -> string", quote),
];

fn out_of_range(at: i64) -> EvalError {
    EvalError::message(format!("index out of range: {at}"))
}

/// Where the character at a position begins, and the end for the position after the last.
fn byte_at(text: &str, at: i64) -> Outcome<usize> {
    let position = usize::try_from(at).map_err(|_| out_of_range(at))?;
    let mut places = text.char_indices().map(|(place, _)| place).chain([text.len()]);
    places.nth(position).ok_or_else(|| out_of_range(at))
}

fn char_at<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text), Value::Int(at)] => {
        let rest = &text[byte_at(text, *at)?..];
        Ok(Value::text(rest.chars().next().map(String::from).unwrap_or_default()))
    })
}

/// The arguments of a search: text, part, and where it begins.
fn search(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<(Vec<char>, Vec<char>, Option<i64>)> {
    let (text, part, from) = match args {
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(from)] if *from >= 0 => {
            (text, part, Some(*from))
        }
        [Value::String(_), Value::String(_), Value::Int(from)] => return Err(out_of_range(*from)),
        args => return Err(super::mismatch(context.function, args)),
    };
    Ok((text.chars().collect(), part.chars().collect(), from))
}

fn index_of<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (text, part, from) = search(context, args)?;
    let from = from.unwrap_or(0) as usize;
    Ok(Value::Int(match part.as_slice() {
        [] => from.min(text.len()) as i64,
        _ if from >= text.len() => -1,
        part => text[from..]
            .windows(part.len())
            .position(|window| window == part)
            .map_or(-1, |at| (at + from) as i64),
    }))
}

fn last_index_of<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (text, part, from) = search(context, args)?;
    let end = text.len() as i64;
    Ok(Value::Int(match (part.as_slice(), from) {
        ([], from) => from.unwrap_or(end).min(end),
        (_, Some(from)) if from >= end => -1,
        (part, from) => {
            let most = from.map_or(usize::MAX, |from| from as usize);
            let mut places = text.windows(part.len()).enumerate().filter(|(at, _)| *at <= most);
            places.rfind(|(_, window)| *window == part).map_or(-1, |(at, _)| at as i64)
        }
    }))
}

fn lower<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::text(text.to_ascii_lowercase())))
}

fn upper<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::text(text.to_ascii_uppercase())))
}

/// A limit of replacements or parts; negative ones are none.
fn limit(value: i64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn replace<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (text, part, with, most) = match args {
        [Value::String(text), Value::String(part), Value::String(with)] => (text, part, with, usize::MAX),
        [Value::String(text), Value::String(part), Value::String(with), Value::Int(most)] => {
            (text, part, with, limit(*most))
        }
        args => return Err(super::mismatch(context.function, args)),
    };
    Ok(Value::text(text.replacen(&**part, with, most)))
}

fn split<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (text, separator, most) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, usize::MAX),
        [Value::String(text), Value::String(separator), Value::Int(most)] => (text, separator, limit(*most)),
        args => return Err(super::mismatch(context.function, args)),
    };
    let parts: Vec<Value<'v>> = match (&**separator, most) {
        (_, 0) => vec![],
        // Without a separator each character is a part, the last one with all that is left.
        ("", most) => {
            let mut parts = Vec::new();
            let mut rest: &str = text;
            while let Some(c) = rest.chars().next() {
                let end = if parts.len() + 1 >= most { rest.len() } else { c.len_utf8() };
                parts.push(Value::text(&rest[..end]));
                rest = &rest[end..];
            }
            parts
        }
        (separator, most) => text.splitn(most, separator).map(Value::text).collect(),
    };
    Ok(Value::list(parts))
}

fn substring<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::String(text), Value::Int(start)] => Ok(Value::text(&text[byte_at(text, *start)?..])),
        [Value::String(_), Value::Int(start), Value::Int(end)] if *start > *end => {
            Err(EvalError::message(format!("invalid substring range. start: {start}, end: {end}")))
        }
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            let (start, end) = (byte_at(text, *start)?, byte_at(text, *end)?);
            Ok(Value::text(&text[start..end]))
        }
        args => Err(super::mismatch(context.function, args)),
    }
}

fn trim<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::text(text.trim())))
}

fn join<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        args => return Err(super::mismatch(context.function, args)),
    };
    let texts = standard::strings(context, list)?;
    let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
    Ok(Value::text(texts.join(separator)))
}

fn quote<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => {
        let mut quoted = String::from("\"");
        for c in text.chars() {
            match c {
                '\u{7}' => quoted.push_str("\\a"),
                '\u{8}' => quoted.push_str("\\b"),
                '\u{c}' => quoted.push_str("\\f"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\u{b}' => quoted.push_str("\\v"),
                '\\' => quoted.push_str("\\\\"),
                '"' => quoted.push_str("\\\""),
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        Ok(Value::text(quoted))
    })
}
