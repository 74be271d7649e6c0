//! What a scalar is, by its tag and its text: the words and numbers of YAML 1.1 as Go's reader knows them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::events::Scalar;

/// A scalar's value. It is a key where it stands as one: `1` and `"1"` are two.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond the range of the former.
    Unsigned(u64),
    Float(f64),
    Text(String),
}

const CORE: &str = "tag:yaml.org,2002:";

/// The value, or what is wrong with it.
pub(super) fn resolved(scalar: &Scalar) -> Result<Value, String> {
    let text = scalar.text.as_str();
    let Some(tag) = &scalar.tag else {
        return Ok(if scalar.is_plain { plain(text) } else { Value::Text(text.to_owned()) });
    };
    let tag = tag.strip_prefix(CORE).unwrap_or_default();
    let value = match tag {
        "bool" | "int" | "float" | "null" => plain(text),
        "timestamp" if is_time(text) => return Ok(Value::Text(text.to_owned())),
        "timestamp" => plain(text),
        "binary" => {
            // Go's decoder passes over line breaks
            let folded: String = text.chars().filter(|each| !matches!(each, '\r' | '\n')).collect();
            return match STANDARD.decode(folded) {
                Ok(bytes) => Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned())),
                Err(_) => Err("!!binary value contains invalid base64 data".to_owned()),
            };
        }
        _ => return Ok(Value::Text(text.to_owned())),
    };
    let found = match (&value, tag) {
        (Value::Null, "null") | (Value::Bool(_), "bool") | (Value::Float(_), "float") => return Ok(value),
        (Value::Int(_) | Value::Unsigned(_), "int") => return Ok(value),
        (Value::Int(number), "float") => return Ok(Value::Float(*number as f64)),
        (Value::Null, _) => "null",
        (Value::Bool(_), _) => "bool",
        (Value::Int(_) | Value::Unsigned(_), _) => "int",
        (Value::Float(_), _) => "float",
        (Value::Text(_), _) if tag == "null" && is_time(text) => "timestamp",
        (Value::Text(_), _) => "str",
    };
    Err(format!("cannot decode !!{found} `{text}` as a !!{tag}"))
}

fn plain(text: &str) -> Value {
    let number = match text.bytes().next() {
        None => return Value::Null,
        Some(b'.') => match text {
            ".inf" | ".Inf" | ".INF" => Some(Value::Float(f64::INFINITY)),
            ".nan" | ".NaN" | ".NAN" => Some(Value::Float(f64::NAN)),
            _ => decimal(text),
        },
        Some(b'0'..=b'9' | b'+' | b'-') => match text {
            "+.inf" | "+.Inf" | "+.INF" => Some(Value::Float(f64::INFINITY)),
            "-.inf" | "-.Inf" | "-.INF" => Some(Value::Float(f64::NEG_INFINITY)),
            _ => {
                let text = text.replace('_', "");
                integer(&text).or_else(|| decimal(&text)).or_else(|| binary(&text))
            }
        },
        _ => match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                Some(Value::Bool(true))
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
                Some(Value::Bool(false))
            }
            "~" | "null" | "Null" | "NULL" => Some(Value::Null),
            _ => None,
        },
    };
    number.unwrap_or_else(|| Value::Text(text.to_owned()))
}

/// Whether a plain scalar is text, for every reader: numbers in the base of 60 are not, where a reader knows them.
pub(super) fn is_text(text: &str) -> bool {
    matches!(plain(text), Value::Text(_)) && !is_time(text) && !is_sexagesimal(text)
}

fn is_sexagesimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    first.starts_with(|digit: char| digit.is_ascii_digit())
        && digits(first)
        && middle.iter().chain([&last]).all(|part| number(part, 59).is_some())
        && digits(fraction)
}

/// A whole number, in the base that its prefix names.
fn integer(text: &str) -> Option<Value> {
    let (is_signed, negative, rest) = match text.as_bytes() {
        [b'-', ..] => (true, true, &text[1..]),
        [b'+', ..] => (true, false, &text[1..]),
        _ => (false, false, text),
    };
    let prefixed = |base, at| rest.get(at..).map(|digits| (base, digits));
    let (base, digits) = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => prefixed(16, 2),
        [b'0', b'o' | b'O', ..] => prefixed(8, 2),
        [b'0', b'b' | b'B', ..] => prefixed(2, 2),
        [b'0', _, ..] => prefixed(8, 1),
        _ => Some((10, rest)),
    }?;
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = u64::from_str_radix(digits, base).ok()?;
    match (negative, i64::try_from(number)) {
        (false, Ok(number)) => Some(Value::Int(number)),
        (false, Err(_)) => (!is_signed).then_some(Value::Unsigned(number)),
        (true, _) => 0_i64.checked_sub_unsigned(number).map(Value::Int),
    }
}

/// A number with a point or an exponent, in the range of doubles.
fn decimal(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    let has_exponent = exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
    let number: f64 = (is_number && has_exponent).then(|| text.parse().ok())??;
    number.is_finite().then_some(Value::Float(number))
}

/// A binary number whose sign stands behind its prefix.
fn binary(text: &str) -> Option<Value> {
    let digits = text.strip_prefix("0b")?;
    i64::from_str_radix(digits, 2).ok().map(Value::Int)
}

/// Whether Go reads a date, or a date and a time, in one of the forms that YAML has for it.
fn is_time(text: &str) -> bool {
    let mut date = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (date.next(), date.next(), date.next()) else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (day, time) = rest.split_at(digits);
    let (Some(month), Some(day)) = (number(month, 12), number(day, 31)) else { return false };
    let (true, Ok(year)) = (year.len() == 4, year.parse::<u32>()) else { return false };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if month == 0 || !(1..=days).contains(&day) {
        return false;
    }
    match time.bytes().next() {
        None => true,
        Some(b' ') => is_clock(&time[1..]),
        Some(b't' | b'T') => {
            let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
            is_clock(&time[1..zone]) && is_zone(&time[zone..])
        }
        Some(_) => false,
    }
}

/// A number of one or two digits.
fn number(text: &str, most: u32) -> Option<u32> {
    let is_short = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_short && *number <= most)
}

fn is_clock(text: &str) -> bool {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let parts: Vec<&str> = whole.split(':').collect();
    let [hour, minute, second] = parts[..] else { return false };
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    is_fraction && number(hour, 23).is_some() && number(minute, 59).is_some() && number(second, 59).is_some()
}

fn is_zone(text: &str) -> bool {
    let two = |text: &str, most| text.len() == 2 && number(text, most).is_some();
    match text.strip_prefix(['+', '-']) {
        Some(offset) => offset.split_once(':').is_some_and(|(hour, minute)| two(hour, 24) && two(minute, 60)),
        None => text == "Z",
    }
}
