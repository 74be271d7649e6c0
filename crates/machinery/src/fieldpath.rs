//! Paths of fields in an object, and the texts of field errors.
//!
//! A [`Path`] is a chain of borrowed steps on the stack, so that walking a good object allocates nothing; its text
//! is made when an error is. A step may hold dots (`"spec.template.spec"`), which spares a binding per level.

use std::fmt::{self, Write as _};

use api::Tree;
use api::status::Cause;

use crate::names;

/// A place in an object, such as `spec.containers[0].ports[1].hostPort`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object as a whole; its text is `<nil>`.
    pub const fn root() -> Path<'a> {
        Path { parent: None, step: Step::Root }
    }

    pub const fn new(field: &'a str) -> Path<'a> {
        Path { parent: None, step: Step::Field(field) }
    }

    pub const fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of a map, or of a list by its key.
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Root => {}
            Step::Field(name) => {
                if !out.is_empty() && !name.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
            Step::Key(key) => {
                let _ = write!(out, "[{key}]");
            }
        }
    }

    fn cause(&self, reason: &str, message: String) -> Cause {
        Cause { reason: reason.to_owned(), message, field: self.to_string() }
    }

    pub fn required(&self, detail: &str) -> Cause {
        self.cause("FieldValueRequired", with_detail("Required value", detail))
    }

    pub fn forbidden(&self, detail: &str) -> Cause {
        self.cause("FieldValueForbidden", with_detail("Forbidden", detail))
    }

    pub fn invalid<'v>(&self, value: impl Into<Shown<'v>>, detail: &str) -> Cause {
        let text = format!("Invalid value: {}", value.into());
        self.cause("FieldValueInvalid", with_detail(&text, detail))
    }

    /// An invalid value that is not shown.
    pub fn invalid_unshown(&self, detail: &str) -> Cause {
        self.cause("FieldValueInvalid", with_detail("Invalid value", detail))
    }

    /// A value of the wrong type.
    pub fn type_invalid<'v>(&self, value: impl Into<Shown<'v>>, detail: &str) -> Cause {
        let text = format!("Invalid value: {}", value.into());
        self.cause("FieldValueTypeInvalid", with_detail(&text, detail))
    }

    pub fn duplicate<'v>(&self, value: impl Into<Shown<'v>>) -> Cause {
        self.cause("FieldValueDuplicate", format!("Duplicate value: {}", value.into()))
    }

    pub fn not_found<'v>(&self, value: impl Into<Shown<'v>>) -> Cause {
        self.cause("FieldValueNotFound", format!("Not found: {}", value.into()))
    }

    /// `supported` in the order in which it is to be shown.
    pub fn not_supported<'v>(&self, value: impl Into<Shown<'v>>, supported: &[&str]) -> Cause {
        let mut text = format!("Unsupported value: {}", value.into());
        if !supported.is_empty() {
            text.push_str(": supported values: ");
            for (position, value) in supported.iter().enumerate() {
                let _ = write!(text, "{}{}", if position > 0 { ", " } else { "" }, Quoted(value));
            }
        }
        self.cause("FieldValueNotSupported", text)
    }

    pub fn too_long(&self, max_bytes: usize) -> Cause {
        let bytes = if max_bytes == 1 { "byte" } else { "bytes" };
        self.cause("FieldValueTooLong", format!("Too long: may not be more than {max_bytes} {bytes}"))
    }

    /// As [`Path::too_long`], of a bound that counts characters.
    pub fn too_long_characters(&self, max: usize) -> Cause {
        self.cause("FieldValueTooLong", format!("Too long: may not be more than {max} characters"))
    }

    pub fn too_many(&self, actual: usize, max: usize) -> Cause {
        let items = if max == 1 { "item" } else { "items" };
        self.cause("FieldValueTooMany", format!("Too many: {actual}: must have at most {max} {items}"))
    }

    pub fn too_few(&self, min: usize) -> Cause {
        let items = if min == 1 { "item" } else { "items" };
        self.cause("FieldValueInvalid", format!("Invalid value: must have at least {min} {items}"))
    }

    pub fn internal(&self, detail: &str) -> Cause {
        self.cause("InternalError", with_detail("Internal error", detail))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(if text.is_empty() { "<nil>" } else { &text })
    }
}

fn with_detail(text: &str, detail: &str) -> String {
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") }
}

/// A value as error texts show it: strings quoted, numbers and booleans plain, anything else as JSON.
pub enum Shown<'a> {
    Text(&'a str),
    Number(i64),
    Bool(bool),
    Tree(&'a Tree),
    /// Already formatted.
    Plain(String),
    Null,
}

impl<'a> Shown<'a> {
    /// The value under `key`, null where there is none.
    pub fn of(tree: &'a Tree, key: &str) -> Shown<'a> {
        tree.get(key).map_or(Shown::Null, Shown::Tree)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Text(text) => Quoted(text).fmt(f),
            Shown::Tree(Tree::String(text)) => Quoted(text).fmt(f),
            Shown::Number(number) => write!(f, "{number}"),
            Shown::Bool(value) => write!(f, "{value}"),
            Shown::Tree(Tree::Null) | Shown::Null => f.write_str("null"),
            Shown::Tree(tree) => f.write_str(&String::from_utf8_lossy(&api::json::to_vec(tree))),
            Shown::Plain(text) => f.write_str(text),
        }
    }
}

impl<'a> From<&'a str> for Shown<'a> {
    fn from(value: &'a str) -> Self {
        Shown::Text(value)
    }
}
impl<'a> From<&'a api::tree::CompactString> for Shown<'a> {
    fn from(value: &'a api::tree::CompactString) -> Self {
        Shown::Text(value)
    }
}
impl<'a> From<&'a String> for Shown<'a> {
    fn from(value: &'a String) -> Self {
        Shown::Text(value)
    }
}
impl From<i64> for Shown<'_> {
    fn from(value: i64) -> Self {
        Shown::Number(value)
    }
}
impl From<bool> for Shown<'_> {
    fn from(value: bool) -> Self {
        Shown::Bool(value)
    }
}
impl<'a> From<&'a Tree> for Shown<'a> {
    fn from(value: &'a Tree) -> Self {
        Shown::Tree(value)
    }
}
impl<'a> From<Option<&'a Tree>> for Shown<'a> {
    fn from(value: Option<&'a Tree>) -> Self {
        value.map_or(Shown::Null, Shown::Tree)
    }
}

/// A string in double quotes with Go's escapes.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\u{7}' => f.write_str("\\a")?,
                '\u{8}' => f.write_str("\\b")?,
                '\u{b}' => f.write_str("\\v")?,
                '\u{c}' => f.write_str("\\f")?,
                c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// What the causes say together: one alone, or `[a, b]`, each text once.
pub fn aggregate(causes: &[Cause]) -> String {
    let mut seen = crate::bounds::Seen::new();
    let first = causes.iter().filter(|cause| !seen.repeats((&cause.field, &cause.message)));
    let mut texts: Vec<String> = first.map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match texts.len() {
        1 => texts.remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// The message of an `Invalid` status: `Deployment.apps "x" is invalid: …`.
pub fn invalid_message(group: &str, kind: &str, name: &str, causes: &[Cause]) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group} {} is invalid: {}", Quoted(name), aggregate(causes))
}

/// Checks a path behind a domain, which says whose it is.
pub fn domain_path(value: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if value.is_empty() {
        errors.push(path.required(""));
        return;
    }
    let Some((domain, rest)) =
        value.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(path.invalid(value, detail));
        return;
    };
    errors.extend(names::dns1123_subdomain(domain).iter().map(|problem| path.invalid(domain, problem)));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(fits) {
        let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(path.invalid(rest, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let spec = Path::new("spec");
        let containers = spec.field("containers");
        let container = containers.index(2);
        assert_eq!(container.field("name").to_string(), "spec.containers[2].name");
        assert_eq!(Path::root().to_string(), "<nil>");
        assert_eq!(Path::root().field("a").key("b/c").to_string(), "a[b/c]");
        let check = |cause: Cause, expect: &str| assert_eq!(cause.message, expect);
        check(spec.required(""), "Required value");
        check(
            spec.invalid(-1, "must be greater than or equal to 0"),
            "Invalid value: -1: must be greater than or equal to 0",
        );
        check(spec.invalid("a\"b", "no"), "Invalid value: \"a\\\"b\": no");
        check(
            spec.not_supported("x", &["A", "B"]),
            "Unsupported value: \"x\": supported values: \"A\", \"B\"",
        );
        check(spec.too_long(63), "Too long: may not be more than 63 bytes");
        check(spec.duplicate("x"), "Duplicate value: \"x\"");
        let causes = [spec.required(""), spec.required(""), container.forbidden("never")];
        assert_eq!(
            invalid_message("apps", "Deployment", "x", &causes),
            "Deployment.apps \"x\" is invalid: [spec: Required value, spec.containers[2]: Forbidden: never]"
        );
        assert_eq!(
            invalid_message("", "Pod", "x", &causes[..1]),
            "Pod \"x\" is invalid: spec: Required value"
        );
    }
}
