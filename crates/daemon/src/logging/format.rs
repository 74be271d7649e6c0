//! One event as one line.

use std::fmt::{self, Debug, Write};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// klog's text.
pub struct Text {
    process: u32,
    zone: jiff::tz::TimeZone,
}

impl Text {
    pub fn new() -> Text {
        Text { process: std::process::id(), zone: jiff::tz::TimeZone::system() }
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let letter = match *metadata.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let now = jiff::Timestamp::now().to_zoned(self.zone.clone());
        write!(
            writer,
            "{letter}{:02}{:02} {:02}:{:02}:{:02}.{:06} {:7} {}:{}] ",
            now.month(),
            now.day(),
            now.hour(),
            now.minute(),
            now.second(),
            now.subsec_nanosecond() / 1000,
            self.process,
            file(metadata.file()),
            metadata.line().unwrap_or_default(),
        )?;
        let mut line = Line::default();
        event.record(&mut line);
        match line.fields.is_empty() {
            true => writeln!(writer, "{}", line.message),
            false => writeln!(writer, "{:?}{}", line.message, line.fields),
        }
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: &str, quoted: bool) {
        let name = if field.name() == "error" { "err" } else { field.name() };
        let _ = if quoted {
            write!(self.fields, " {name}={value:?}")
        } else {
            write!(self.fields, " {name}={value}")
        };
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ if is_quoted(&text) => self.add(field, &text, false),
            _ => self.add(field, &text, true),
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            _ => self.add(field, value, true),
        }
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string(), false);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string(), false);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.to_string(), false);
    }
}

/// Whether a text is one quoted string already, as the debug form of a string is. A message that merely begins
/// with a quoted name is not.
fn is_quoted(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut escaped = false;
    let bare = |byte: u8| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    };
    !inner.bytes().any(bare)
}

/// Upstream's JSON form: `ts`, `caller`, `msg`, then the fields.
pub struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = Map::new();
        line.insert("ts".into(), json!(jiff::Timestamp::now().as_microsecond() as f64 / 1000.0));
        let caller = format!("{}:{}", file(metadata.file()), metadata.line().unwrap_or_default());
        line.insert("caller".into(), Value::String(caller));
        line.insert("msg".into(), fields.0.shift_remove("message").unwrap_or_default());
        match *metadata.level() {
            Level::ERROR => {}
            Level::DEBUG => drop(line.insert("v".into(), json!(4))),
            Level::TRACE => drop(line.insert("v".into(), json!(6))),
            _ => drop(line.insert("v".into(), json!(0))),
        }
        line.append(&mut fields.0);
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = if field.name() == "error" { "err" } else { field.name() };
        self.0.insert(name.into(), Value::String(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), Value::String(value.into()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
}

fn file(path: Option<&str>) -> &str {
    path.and_then(|path| path.rsplit('/').next()).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::is_quoted;

    #[test]
    fn quoted_texts() {
        for (text, expect) in [
            (r#""a""#, true),
            (r#""a \"b\" c""#, true),
            (r#""zzz" is not known"#, false),
            (r#""a" and "b""#, false),
            ("a", false),
            (r#"""#, false),
        ] {
            assert_eq!(is_quoted(text), expect, "{text}");
        }
    }
}
