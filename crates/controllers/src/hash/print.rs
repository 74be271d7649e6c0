//! A pod template in the printed form whose hash upstream takes, so that the same template has the same hash
//! there and here and a deployment can pass between implementations without a name changing.
//!
//! The form is that of a Go value with types spelled out and pointers followed; which fields a type has, in
//! what order and of which types, stands in `template.txt`. Only what a template can hold is covered:
//! times are always unset in one. A quantity too large for 64 bits prints differently from upstream.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::LazyLock;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use super::{POD_TEMPLATE_HASH, Place};

struct Field {
    go: &'static str,
    json: Option<&'static str>,
    kind: &'static str,
}

/// Fields by the name of their type.
static TYPES: LazyLock<FxHashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let mut types = FxHashMap::<&str, Vec<Field>>::default();
    let mut current = "";
    for line in include_str!("template.txt").lines().filter(|line| !line.starts_with('#')) {
        let Some(field) = line.strip_prefix('\t') else {
            current = line;
            continue;
        };
        let mut words = field.split(' ');
        if let (Some(go), Some(json), Some(kind)) = (words.next(), words.next(), words.next()) {
            let json = Some(json).filter(|json| *json != "-");
            types.entry(current).or_default().push(Field { go, json, kind });
        }
    }
    types
});

/// Prints a template; the hash label is left out.
pub(super) fn template(tree: &Value, out: &mut impl Write) -> fmt::Result {
    typed("v1.PodTemplateSpec", Some(tree), Place::Template, out)
}

/// The type in parentheses, then the value.
fn typed(kind: &str, value: Option<&Value>, place: Place, out: &mut impl Write) -> fmt::Result {
    write!(out, "({})", kind.split_once('=').map_or(kind, |(name, _)| name))?;
    print(kind, value.filter(|value| !value.is_null()), place, out)
}

fn print(kind: &str, value: Option<&Value>, place: Place, out: &mut impl Write) -> fmt::Result {
    if let Some(target) = kind.strip_prefix('*') {
        return match value {
            None => out.write_str("<nil>"),
            some => print(target, some, place, out),
        };
    }
    if let Some(item) = kind.strip_prefix("[]") {
        return list(item, value, out);
    }
    match kind.split_once('=').map_or(kind, |(_, underlying)| underlying) {
        "string" => out.write_str(value.and_then(Value::as_str).unwrap_or_default()),
        "bool" => write!(out, "{}", value.and_then(Value::as_bool).unwrap_or_default()),
        "int32" | "int64" => write!(out, "{}", value.and_then(Value::as_i64).unwrap_or_default()),
        "v1.Time" => {
            out.write_str("{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}")
        }
        "resource.Quantity" => quantity(value, out),
        "intstr.IntOrString" => {
            let number = value.and_then(Value::as_i64).unwrap_or_default();
            let text = value.and_then(Value::as_str);
            let kind = u8::from(text.is_some());
            let text = text.unwrap_or_default();
            write!(out, "{{Type:(intstr.Type){kind} IntVal:(int32){number} StrVal:(string){text}}}")
        }
        underlying => match underlying.strip_prefix("map[") {
            Some(rest) => map(rest.split_once(']').map_or("", |(_, item)| item), value, place, out),
            None => fields(underlying, value, place, out),
        },
    }
}

fn list(item: &str, value: Option<&Value>, out: &mut impl Write) -> fmt::Result {
    let Some(items) = value.and_then(Value::as_array).filter(|items| !items.is_empty()) else {
        return out.write_str("<nil>");
    };
    for (index, value) in items.iter().enumerate() {
        out.write_char(if index == 0 { '[' } else { ' ' })?;
        print(item, Some(value), Place::Other, out)?;
    }
    out.write_char(']')
}

fn map(item: &str, value: Option<&Value>, place: Place, out: &mut impl Write) -> fmt::Result {
    let hidden = |key: &str| place == Place::Labels && key == POD_TEMPLATE_HASH;
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    let mut entries: Vec<_> = entries.filter(|(key, _)| !hidden(key)).collect();
    if entries.is_empty() {
        return out.write_str("<nil>");
    }
    entries.sort_by_key(|(key, _)| key.as_str());
    out.write_str("map[")?;
    for (index, (key, value)) in entries.into_iter().enumerate() {
        write!(out, "{}{key}:", if index == 0 { "" } else { " " })?;
        print(item, Some(value), Place::Other, out)?;
    }
    out.write_char(']')
}

fn fields(kind: &str, value: Option<&Value>, place: Place, out: &mut impl Write) -> fmt::Result {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    let object = value.and_then(Value::as_object).unwrap_or(&NONE);
    out.write_char('{')?;
    for (index, field) in TYPES.get(kind).into_iter().flatten().enumerate() {
        write!(out, "{}{}:", if index == 0 { "" } else { " " }, field.go)?;
        match field.json {
            Some(json) => typed(field.kind, object.get(json), place.child(json), out)?,
            None => typed(field.kind, value, Place::Other, out)?,
        }
    }
    out.write_char('}')
}

/// A parsed quantity: its number, its power of ten, and its text, which is not kept for binary multiples
/// of eight.
fn quantity(value: Option<&Value>, out: &mut impl Write) -> fmt::Result {
    let text = match value {
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed("0"),
    };
    let (number, suffix) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let number: i64 = number.parse().unwrap_or_default();
    let (value, scale, kept, format) = if let Some(unit) = suffix.strip_suffix('i') {
        let shift = 10 * (1 + "KMGTPE".find(unit).unwrap_or_default());
        (number << shift, 0, number % 8 != 0, "BinarySI")
    } else if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|digits| !digits.is_empty()) {
        (number, exponent.parse().unwrap_or_default(), true, "DecimalExponent")
    } else {
        let scale = match suffix {
            "n" => -9,
            "u" => -6,
            "m" => -3,
            "k" => 3,
            "M" => 6,
            "G" => 9,
            "T" => 12,
            "P" => 15,
            "E" => 18,
            _ => 0,
        };
        (number, scale, true, "DecimalSI")
    };
    let kept = if kept { &*text } else { "" };
    write!(
        out,
        "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} \
         d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} s:(string){kept} Format:(resource.Format){format}}}"
    )
}
