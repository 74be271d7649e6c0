//! Scalars as text and from text, as the language and Go have them: durations, timestamps, doubles, base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::value::Timestamp;

const SECOND: i128 = 1_000_000_000;
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
];

/// Reads a duration as Go writes it, `1h2m3.5s`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(*scale)?)?;
        let mut step = *scale;
        for digit in fraction.bytes() {
            step /= 10;
            total += i128::from(digit - b'0') * step;
        }
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return None;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Reads a duration of a schema: as Go has them, with days and weeks, and with names of units in words.
pub(crate) fn parse_schema_duration(text: &str) -> Option<i64> {
    if let Some(nanos) = parse_duration(text) {
        return Some(nanos);
    }
    let mut total: i128 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = digits(rest);
        let after = after.trim_start();
        let end = after.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = match unit {
            "ns" | "nanos" | "nano" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" | "micros" | "micro" => 1_000,
            "ms" | "millis" | "milli" => 1_000_000,
            "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
            "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SECOND,
            "d" | "day" | "days" => 24 * 3_600 * SECOND,
            "w" | "wk" | "week" | "weeks" => 7 * 24 * 3_600 * SECOND,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i128>().ok()?.checked_mul(scale)?)?;
        rest = after.trim_start();
    }
    i64::try_from(total).ok()
}

/// A duration in seconds: `1.5s`.
pub(crate) fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let fraction = format!("{rest:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{seconds}s"),
        fraction => format!("{sign}{seconds}.{fraction}s"),
    }
}

/// RFC 3339 in UTC, with as much of the fraction as there is.
pub(crate) fn timestamp(at: Timestamp) -> String {
    match jiff::Timestamp::new(at.seconds, at.nanos as i32) {
        Ok(at) => at.to_string(),
        Err(_) => format!("{}.{:09}", at.seconds, at.nanos),
    }
}

/// Reads RFC 3339 as strictly as Go does.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    parse_time(text, false)
}

/// Reads the date and time of a schema, which may lack the zone or have a space or lower case letters.
pub(crate) fn parse_schema_time(text: &str) -> Option<Timestamp> {
    parse_time(text, true)
}

/// Reads a date, `2024-02-29`.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    if text.len() != 10 {
        return None;
    }
    parse_time(&format!("{text}T00:00:00Z"), false)
}

fn parse_time(text: &str, lax: bool) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let at = |place: usize, expected: &[u8]| bytes.get(place).is_some_and(|byte| expected.contains(byte));
    let separators =
        at(4, b"-") && at(7, b"-") && at(10, if lax { b"Tt " } else { b"T" }) && at(13, b":") && at(16, b":");
    if !separators {
        return None;
    }
    let date =
        jiff::civil::Date::new(number(0, 4)? as i16, number(5, 7)? as i8, number(8, 10)? as i8).ok()?;
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let (fraction, after) = digits(fraction);
        if fraction.is_empty() {
            return None;
        }
        nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        rest = after;
    }
    let offset = match rest {
        "Z" => 0,
        "z" | "" if lax => 0,
        _ => parse_offset(rest)?,
    };
    let days = date.duration_since(jiff::civil::date(1970, 1, 1)).as_secs() / 86_400;
    Timestamp::new(days * 86_400 + hour * 3_600 + minute * 60 + second - offset, nanos)
}

/// Seconds east of UTC, from `+02:00`.
fn parse_offset(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let is_pair = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_pair(hours) || !is_pair(minutes) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// A double as Go prints it with `%g`: the shortest that reads back, with an exponent where that is large or small.
pub(crate) fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

/// A string in double quotes, as Go's `%q` writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Reads standard base64 with padding; line breaks are skipped.
pub(crate) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    BASE64.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("+5m", Some(300_000_000_000)),
            ("0", Some(0)),
            (".5s", Some(500_000_000)),
            ("1\u{b5}s", Some(1_000)),
            ("1d", None),
            ("1", None),
            ("", None),
            ("-", None),
            ("3000000h", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(parse_schema_duration("2 days"), Some(172_800_000_000_000));
        assert_eq!(duration(-1), "-0.000000001s");
        assert_eq!(duration(1_500_000_000), "1.5s");
    }

    #[test]
    fn times_are_read_strictly() {
        for text in [
            "2024-01-01",
            "2024-01-01T00:00:00",
            "0000-01-01T00:00:00Z",
            "2024-01-01t00:00:00z",
            "2024-02-30T00:00:00Z",
            "2024-01-01T24:00:00Z",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        let printed = |text| parse_timestamp(text).map(timestamp);
        assert_eq!(printed("2024-01-01T00:00:00.5+02:00").as_deref(), Some("2023-12-31T22:00:00.5Z"));
        assert_eq!(printed("0001-01-01T00:00:00Z").as_deref(), Some("0001-01-01T00:00:00Z"));
    }

    #[test]
    fn doubles_print_as_gos() {
        for (value, text) in [
            (1.0, "1"),
            (1.5, "1.5"),
            (1e20, "1e+20"),
            (123_456_789.0, "1.23456789e+08"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
        ] {
            assert_eq!(double(value), text);
        }
    }
}
