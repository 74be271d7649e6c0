//! Values that are text in JSON: base64, times and durations, in upstream's spelling.

use std::fmt::Write;

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// Upstream's decoder lets the last symbol have stray bits.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Seconds of the year 1, which upstream takes for "no time".
pub const ZERO_TIME: i64 = -62_135_596_800;

pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Line breaks are skipped.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    if text.contains(['\n', '\r']) {
        let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        return STANDARD.decode(text).ok();
    }
    STANDARD.decode(text).ok()
}

/// Where a text stops being base64; `None` when it is.
pub(crate) fn base64_error(text: &str) -> Option<usize> {
    if from_base64(text).is_some() {
        return None;
    }
    Some(match STANDARD.decode(text) {
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => at,
        // a group of four that is not complete
        _ => text.len() / 4 * 4,
    })
}

/// `2006-01-02T15:04:05Z` from Unix seconds.
pub fn format_time(seconds: i64, out: &mut String) {
    date_and_time(seconds, out);
    out.push('Z');
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn format_micro_time(seconds: i64, nanoseconds: i32, out: &mut String) {
    date_and_time(seconds, out);
    let _ = write!(out, ".{:06}Z", (nanoseconds / 1000).clamp(0, 999_999));
}

fn date_and_time(seconds: i64, out: &mut String) {
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
}

/// Year, month and day of a day counted from 1970 (Gregorian calendar, any year).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// RFC 3339 → Unix seconds and nanoseconds. `None` when it is not one.
pub fn parse_time(text: &str) -> Option<(i64, u32)> {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = bytes.get(range)?;
        digits
            .iter()
            .try_fold(0i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| bytes.get(*at) != Some(separator)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=month_length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut nanoseconds = 0u32;
    if matches!(bytes.get(at), Some(b'.' | b',')) {
        at += 1;
        let start = at;
        let mut unit = 100_000_000;
        while let Some(digit) = bytes.get(at).filter(|digit| digit.is_ascii_digit()) {
            nanoseconds += u32::from(digit - b'0') * unit;
            unit /= 10;
            at += 1;
        }
        if at == start {
            return None;
        }
    }
    let offset = match bytes.get(at..)? {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
            if hours > 24 || minutes > 60 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    Some((days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset, nanoseconds))
}

/// Nanoseconds as `1h2m3.5s`.
pub fn format_duration(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if nanoseconds < 0 {
        out.push('-');
    }
    let total = nanoseconds.unsigned_abs();
    let fraction = |whole: u64, rest: u64, width: usize, out: &mut String| {
        let _ = write!(out, "{whole}");
        if rest > 0 {
            let digits = format!("{rest:0width$}");
            let _ = write!(out, ".{}", digits.trim_end_matches('0'));
        }
    };
    if total < 1_000 {
        let _ = write!(out, "{total}ns");
    } else if total < 1_000_000 {
        fraction(total / 1_000, total % 1_000, 3, &mut out);
        out.push_str("µs");
    } else if total < 1_000_000_000 {
        fraction(total / 1_000_000, total % 1_000_000, 6, &mut out);
        out.push_str("ms");
    } else {
        let seconds = total / 1_000_000_000;
        if seconds >= 3600 {
            let _ = write!(out, "{}h", seconds / 3600);
        }
        if seconds >= 60 {
            let _ = write!(out, "{}m", seconds / 60 % 60);
        }
        fraction(seconds % 60, total % 1_000_000_000, 9, &mut out);
        out.push('s');
    }
    out
}

/// `1h2m3.5s` → nanoseconds. `None` when it is not a duration or does not fit.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit()).count();
        let whole: i128 = if digits == 0 { 0 } else { rest[..digits].parse().ok()? };
        rest = &rest[digits..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let count = after.bytes().take_while(|byte| byte.is_ascii_digit()).count();
            fraction = &after[..count];
            rest = &after[count..];
        }
        if digits == 0 && fraction.is_empty() {
            return None;
        }
        let length = rest.bytes().take_while(|byte| *byte != b'.' && !byte.is_ascii_digit()).count();
        let unit: i128 = match &rest[..length] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[length..];
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let fraction = &fraction[..fraction.len().min(15)];
        if !fraction.is_empty() {
            let scale = 10i128.pow(fraction.len() as u32);
            total += fraction.parse::<i128>().ok()? * unit / scale;
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for text in
            ["2008-01-01T01:01:01Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2024-02-29T12:00:00Z"]
        {
            let (seconds, nanoseconds) = parse_time(text).unwrap();
            let mut out = String::new();
            format_time(seconds, &mut out);
            assert_eq!((out.as_str(), nanoseconds), (text, 0));
        }
        assert_eq!(parse_time("0001-01-01T00:00:00Z").unwrap().0, ZERO_TIME);
        assert_eq!(parse_time("1970-01-01T02:00:00.25+02:00"), Some((0, 250_000_000)));
        for bad in
            ["", "2023-02-29T00:00:00Z", "2023-01-01", "2023-01-01T00:00:00", "2023-01-01T24:00:00Z", "x"]
        {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
        let mut out = String::new();
        format_micro_time(1, 2_000, &mut out);
        format_time(i64::MAX, &mut out);
        assert!(out.starts_with("1970-01-01T00:00:01.000002Z"));
    }

    #[test]
    fn durations() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (3_600_000_000_000, "1h0m0s"),
            (-90_500_000_000, "-1m30.5s"),
        ] {
            assert_eq!(format_duration(nanoseconds), text);
            assert_eq!(parse_duration(text), Some(nanoseconds));
        }
        for bad in ["", "1", "s", "1x", "9999999h", "é"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
