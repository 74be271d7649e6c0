//! Named formats of strings: `format.dns1123Label().validate(x)`.

use machinery::names;

use super::{Context, Extended, Row, row, take, url};
use crate::text;
use crate::value::{Outcome, Value};

/// A format: its name, the length of a pattern that it would be, and what is wrong with a string.
pub struct NamedFormat {
    /// The function that returns it, after `format.`.
    function: &'static str,
    pub(crate) name: &'static str,
    pub(crate) pattern_size: u64,
    check: fn(&str) -> Vec<String>,
}

impl std::fmt::Debug for NamedFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn named(
    function: &'static str,
    name: &'static str,
    pattern_size: u64,
    check: fn(&str) -> Vec<String>,
) -> NamedFormat {
    NamedFormat { function, name, pattern_size, check }
}

static FORMATS: [NamedFormat; 13] = [
    named("dns1123Label", "DNS1123Label", 30, names::dns1123_label),
    named("dns1123Subdomain", "DNS1123Subdomain", 60, names::dns1123_subdomain),
    named("dns1035Label", "DNS1035Label", 30, names::dns1035_label),
    named("qualifiedName", "QualifiedName", 60, names::qualified_name),
    named("dns1123LabelPrefix", "DNS1123LabelPrefix", 30, |text| names::dns1123_label(&as_prefix(text))),
    named("dns1123SubdomainPrefix", "DNS1123SubdomainPrefix", 60, |text| {
        names::dns1123_subdomain(&as_prefix(text))
    }),
    named("dns1035LabelPrefix", "DNS1035LabelPrefix", 30, |text| names::dns1035_label(&as_prefix(text))),
    named("labelValue", "LabelValue", 40, names::label_value),
    named("uri", "URI", 1_103, |text| url::parse(text).err().into_iter().collect()),
    named("uuid", "uuid", 70, |text| refused(is_uuid(text), "does not match the UUID format")),
    named("byte", "byte", 84, |text| refused(text::parse_base64(text).is_some(), "invalid base64")),
    named("date", "date", 71, |text| refused(text::parse_date(text).is_some(), "invalid date")),
    named("datetime", "datetime", 71, |text| {
        refused(text::parse_schema_time(text).is_some(), "invalid datetime")
    }),
];

pub(crate) const ROWS: &[Row] = &[
    row("format-named", "format.named(string) -> optional_type(kubernetes.NamedFormat)", by_name),
    row(
        "format-validate",
        ".validate(kubernetes.NamedFormat, string) -> optional_type(list(string))",
        validate,
    ),
    row("format.dns1123Label", "format.dns1123Label() -> kubernetes.NamedFormat", format),
    row("format.dns1123Subdomain", "format.dns1123Subdomain() -> kubernetes.NamedFormat", format),
    row("format.dns1035Label", "format.dns1035Label() -> kubernetes.NamedFormat", format),
    row("format.qualifiedName", "format.qualifiedName() -> kubernetes.NamedFormat", format),
    row("format.dns1123LabelPrefix", "format.dns1123LabelPrefix() -> kubernetes.NamedFormat", format),
    row("format.dns1123SubdomainPrefix", "format.dns1123SubdomainPrefix() -> kubernetes.NamedFormat", format),
    row("format.dns1035LabelPrefix", "format.dns1035LabelPrefix() -> kubernetes.NamedFormat", format),
    row("format.labelValue", "format.labelValue() -> kubernetes.NamedFormat", format),
    row("format.uri", "format.uri() -> kubernetes.NamedFormat", format),
    row("format.uuid", "format.uuid() -> kubernetes.NamedFormat", format),
    row("format.byte", "format.byte() -> kubernetes.NamedFormat", format),
    row("format.date", "format.date() -> kubernetes.NamedFormat", format),
    row("format.datetime", "format.datetime() -> kubernetes.NamedFormat", format),
];

/// A prefix may end in a dash, because something follows it.
fn as_prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut rest: String = rest.to_owned();
            rest.pop();
            rest + "a"
        }
        _ => text.to_owned(),
    }
}

fn refused(valid: bool, message: &str) -> Vec<String> {
    if valid { vec![] } else { vec![message.to_owned()] }
}

/// Groups of 8, 4, 4, 4 and 12 hexadecimal digits, with dashes between them or not.
fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (at, size) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.get(..size) {
            Some(group) if group.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest = &rest[size..],
            _ => return false,
        }
    }
    rest.is_empty()
}

fn find<'v>(function: &str) -> Option<Value<'v>> {
    let format = FORMATS.iter().find(|format| format.function == function)?;
    Some(Value::Extended(Extended::Format(format)))
}

/// The format that the called function is named for.
fn format<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let name = context.function.strip_prefix("format.").unwrap_or_default();
    find(name).ok_or_else(|| super::mismatch(context.function, args))
}

fn by_name<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(name)] => Ok(find(name).map_or(Value::NONE, Value::some)))
}

fn validate<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::Extended(Extended::Format(format)), Value::String(text)] => {
        let problems = (format.check)(text);
        Ok(match problems.is_empty() {
            true => Value::NONE,
            false => Value::some(Value::list(problems.into_iter().map(Value::text).collect())),
        })
    })
}
