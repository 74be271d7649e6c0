//! `format` of strings: clauses such as `%s` and `%.2f`, checked when the expression is compiled and used when it runs.

use super::{Context, Row, row, take};
use crate::error::EvalError;
use crate::text;
use crate::types::Type;
use crate::value::{Outcome, Value};

pub(crate) const ROWS: &[Row] = &[row("string_format", ".format(string, list(dyn)) -> string", format)];

const PRECISION: usize = 6;
/// Largest precision; a short format must make no text without end.
const MAX_PRECISION: usize = 1_000_000;
/// Digits after the point that a double can have.
const MAX_DIGITS: usize = 1_100;

#[derive(Clone, Copy)]
enum Clause {
    String,
    Decimal,
    Fixed(usize),
    Scientific(usize),
    Binary,
    Hex { upper: bool },
    Octal,
}

/// A part of a format.
enum Part<'f> {
    Text(&'f str),
    Clause(Clause),
}

/// A format that does not fit its arguments.
pub(crate) struct Misfit {
    /// The argument in question, where it is one.
    pub argument: Option<usize>,
    pub message: String,
}

impl Misfit {
    fn of_format(message: impl Into<String>) -> Misfit {
        Misfit { argument: None, message: message.into() }
    }
}

/// Reads a format part by part, and calls for each.
fn read(
    format: &str,
    mut part: impl FnMut(Part<'_>, usize) -> Result<(), Misfit>,
    count: usize,
) -> Result<usize, Misfit> {
    let mut rest = format;
    let mut used = 0;
    while let Some(at) = rest.find('%') {
        part(Part::Text(&rest[..at]), used)?;
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('%') {
            part(Part::Text("%"), used)?;
            rest = after;
            continue;
        }
        if used >= count {
            return Err(Misfit::of_format(format!("index {used} out of range")));
        }
        if after.is_empty() {
            return Err(Misfit::of_format("unexpected end of string"));
        }
        let (clause, after) = clause(after)
            .map_err(|message| Misfit::of_format(format!("could not parse formatting clause: {message}")))?;
        part(Part::Clause(clause), used)?;
        used += 1;
        rest = after;
    }
    part(Part::Text(rest), used)?;
    Ok(used)
}

fn clause(text: &str) -> Result<(Clause, &str), String> {
    let (precision, text) = match text.strip_prefix('.') {
        None => (None, text),
        Some(after) => {
            let end = after.find(|c: char| !c.is_ascii_digit());
            let end =
                end.ok_or("error while parsing precision: could not find end of precision specifier")?;
            let (digits, after) = after.split_at(end);
            let precision: usize = digits.parse().map_err(|_| {
                let reason = format!("strconv.Atoi: parsing {}: invalid syntax", text::quote(digits));
                format!(
                    "error while parsing precision: error while converting precision to integer: {reason}"
                )
            })?;
            if precision > MAX_PRECISION {
                let reason =
                    format!("precision {precision} exceeds maximum allowed precision {MAX_PRECISION}");
                return Err(format!("error while parsing precision: {reason}"));
            }
            (Some(precision), after)
        }
    };
    let mut characters = text.chars();
    let c = characters.next().unwrap_or_default();
    let clause = match c {
        's' => Clause::String,
        'd' => Clause::Decimal,
        'f' => Clause::Fixed(precision.unwrap_or(PRECISION)),
        'e' => Clause::Scientific(precision.unwrap_or(PRECISION)),
        'b' => Clause::Binary,
        'x' | 'X' => Clause::Hex { upper: c == 'X' },
        'o' => Clause::Octal,
        _ => return Err(format!("unrecognized formatting clause \"{c}\"")),
    };
    Ok((clause, characters.as_str()))
}

/// Checks a format against the types of its arguments.
pub(crate) fn check(format: &str, args: &[Type]) -> Result<(), Misfit> {
    let used = read(
        format,
        |part, at| match (part, args.get(at)) {
            (Part::Clause(clause), Some(of)) if !fits(clause, of) => {
                let message = format!("error during formatting: {}", refusal(clause, of.name()));
                Err(Misfit { argument: Some(at), message })
            }
            _ => Ok(()),
        },
        args.len(),
    )?;
    if args.len() > used {
        let message =
            format!("too many arguments supplied to string.format (expected {used}, got {})", args.len());
        return Err(Misfit::of_format(message));
    }
    Ok(())
}

fn fits(clause: Clause, of: &Type) -> bool {
    use Type::{Any, Bool, Bytes, Double, Dyn, Int, Object, Opaque, String, Uint};
    if matches!(of, Dyn | Any) {
        return true;
    }
    match clause {
        Clause::String => !matches!(of, Object(_) | Opaque(..)),
        Clause::Decimal | Clause::Octal => matches!(of, Int | Uint),
        Clause::Fixed(_) | Clause::Scientific(_) => matches!(of, Double | String),
        Clause::Binary => matches!(of, Int | Uint | Bool),
        Clause::Hex { .. } => matches!(of, Int | Uint | String | Bytes),
    }
}

fn refusal(clause: Clause, given: &str) -> String {
    let what = match clause {
        Clause::String => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
        Clause::Decimal => "decimal clause can only be used on integers",
        Clause::Fixed(_) => "fixed-point clause can only be used on doubles",
        Clause::Scientific(_) => "scientific clause can only be used on doubles",
        Clause::Binary => "only integers and bools can be formatted as binary",
        Clause::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
        Clause::Octal => "octal clause can only be used on integers",
    };
    format!("{what}, was given {given}")
}

fn format<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(format), Value::List(list)] => {
        let items = list.to_vec()?;
        let mut out = String::new();
        let formatted = read(format, |part, at| {
            match (part, items.get(at)) {
                (Part::Text(text), _) => out.push_str(text),
                (Part::Clause(clause), Some(item)) => {
                    let text = apply(clause, item);
                    out.push_str(&text.map_err(|message| Misfit::of_format(format!("error during formatting: {message}")))?);
                }
                (Part::Clause(_), None) => {}
            }
            Ok(())
        }, items.len());
        match formatted {
            Ok(_) => Ok(Value::text(out)),
            Err(misfit) => Err(EvalError::message(misfit.message)),
        }
    })
}

fn apply(clause: Clause, value: &Value<'_>) -> Result<String, String> {
    let refused = || Err(refusal(clause, value.type_of().name()));
    match clause {
        Clause::String => as_string(value),
        Clause::Decimal => match value {
            Value::Int(_) | Value::Uint(_) => Ok(value.plain()),
            _ => refused(),
        },
        Clause::Fixed(precision) => match as_double(value) {
            Some(double) if double.is_finite() => Ok(fixed(double, precision)),
            Some(double) => Ok(special(double)),
            None => refused(),
        },
        Clause::Scientific(precision) => match as_double(value) {
            Some(double) if double.is_finite() => Ok(scientific(double, precision)),
            Some(double) => Ok(special(double)),
            None => refused(),
        },
        Clause::Binary => match value {
            Value::Int(value) => Ok(signed(*value, |value| format!("{value:b}"))),
            Value::Uint(value) => Ok(format!("{value:b}")),
            Value::Bool(value) => Ok(u8::from(*value).to_string()),
            _ => refused(),
        },
        Clause::Octal => match value {
            Value::Int(value) => Ok(signed(*value, |value| format!("{value:o}"))),
            Value::Uint(value) => Ok(format!("{value:o}")),
            _ => refused(),
        },
        Clause::Hex { upper } => {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let text = match value {
                Value::Int(value) => signed(*value, |value| format!("{value:x}")),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return refused(),
            };
            Ok(if upper { text.to_uppercase() } else { text })
        }
    }
}

fn signed(value: i64, format: fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", format(value.unsigned_abs()))
}

fn as_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn special(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { format!("{}\u{221e}", if value < 0.0 { "-" } else { "" }) }
}

/// A double with so many digits after the point.
fn fixed(value: f64, precision: usize) -> String {
    let digits = precision.min(MAX_DIGITS);
    let mut text = grouped(&format!("{value:.digits$}"));
    text.extend(std::iter::repeat_n('0', precision - digits));
    text
}

/// Groups the digits before the point by three, as English numbers are.
fn grouped(number: &str) -> String {
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (whole, fraction) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

/// `1.500000×10⁰³`, as English numbers with an exponent are. Upstream takes the precision for the least width.
fn scientific(value: f64, width: usize) -> String {
    const SUPERSCRIPT: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let text = format!("{value:.PRECISION$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = format!("{:02}", exponent.abs());
    let digits: String = digits.bytes().map(|digit| SUPERSCRIPT[usize::from(digit - b'0')]).collect();
    let sign = if exponent < 0 { "\u{207b}" } else { "" };
    let number = format!("{mantissa}\u{d7}10{sign}{digits}");
    let padding = width.saturating_sub(number.chars().count());
    " ".repeat(padding) + &number
}

fn as_string(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::List(list) => {
            let items: Result<Vec<String>, String> =
                list.iter().map(|item| literal(&item.map_err(|error| error.to_string())?)).collect();
            Ok(format!("[{}]", items?.join(", ")))
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries().map_err(|error| error.to_string())? {
                entries.push((literal(&key)?, literal(&value)?));
            }
            entries.sort();
            let entries: Vec<String> =
                entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            Ok(format!("{{{}}}", entries.join(", ")))
        }
        Value::Bytes(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Value::Optional(_) | Value::Extended(_) => Err(refusal(Clause::String, value.type_of().name())),
        value => Ok(value.plain()),
    }
}

/// A value within a list or map, as one would write it.
fn literal(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => text::quote(text),
        Value::Bytes(bytes) => format!("b{}", text::quote(&String::from_utf8_lossy(bytes))),
        Value::Timestamp(at) => format!("timestamp({:?})", text::timestamp(*at)),
        Value::Duration(nanos) => format!("duration({:?})", text::duration(*nanos)),
        Value::Double(value) if value.is_finite() => format!("{value:.PRECISION$}"),
        Value::Double(value) if value.is_nan() => "\"NaN\"".to_owned(),
        Value::Double(value) => format!("{:?}", if *value > 0.0 { "+Inf" } else { "-Inf" }),
        Value::Optional(_) | Value::Extended(_) => {
            return Err(format!("no formatting function for {}", value.type_of().name()));
        }
        value => as_string(value)?,
    })
}
