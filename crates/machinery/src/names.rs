//! What names, labels and other identifiers may look like. Each check answers with the complaints, none when all is well.

use std::fmt::Write as _;

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// The letters of generated names: no vowels and nothing that looks like another, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
const MAX_BASE: usize = 63 - SUFFIX;

/// `base` with five random characters behind it; `random` yields any bits.
pub fn generate_name(base: &str, mut random: impl FnMut() -> u32) -> String {
    let mut end = base.len().min(MAX_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = String::with_capacity(end + SUFFIX);
    name.push_str(&base[..end]);
    suffix(&mut name, SUFFIX, &mut random);
    name
}

/// Appends `count` characters of the alphabet of generated names.
pub fn suffix(out: &mut String, count: usize, mut random: impl FnMut() -> u32) {
    for _ in 0..count {
        out.push(ALPHABET[random() as usize % ALPHABET.len()] as char);
    }
}

/// A number's digits in the alphabet of generated names, as template hashes are shown.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| ALPHABET[byte as usize % ALPHABET.len()] as char).collect()
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_1123(text: &[u8]) -> bool {
    matches!((text.first(), text.last()), (Some(&a), Some(&z)) if lower_alphanumeric(a) && lower_alphanumeric(z))
        && text.iter().all(|&byte| lower_alphanumeric(byte) || byte == b'-')
}

fn qualified_part(text: &[u8]) -> bool {
    matches!((text.first(), text.last()), (Some(a), Some(z)) if a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn max_length(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn pattern_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let mut text = format!("{message} (");
    for (position, example) in examples.iter().enumerate() {
        let _ = write!(text, "{}'{example}', ", if position == 0 { "e.g. " } else { " or " });
    }
    let _ = write!(text, "regex used for validation is '{pattern}')");
    text
}

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;

pub fn is_dns1123_label(value: &str) -> bool {
    value.len() <= LABEL_MAX && label_1123(value.as_bytes())
}

pub fn is_dns1123_subdomain(value: &str) -> bool {
    value.len() <= SUBDOMAIN_MAX && value.split('.').all(|part| label_1123(part.as_bytes()))
}

pub fn dns1123_label(value: &str) -> Vec<String> {
    if is_dns1123_label(value) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(format!("must be no more than {LABEL_MAX} characters"));
    }
    if !label_1123(value.as_bytes()) {
        let subdomain = value.split('.').all(|part| label_1123(part.as_bytes()));
        errors.push(if subdomain {
            "must not contain dots".to_owned()
        } else {
            pattern_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL_1123,
                &["my-name", "123-abc"],
            )
        });
    }
    errors
}

pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    if is_dns1123_subdomain(value) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    if !value.split('.').all(|part| label_1123(part.as_bytes())) {
        errors.push(subdomain_text());
    }
    errors
}

fn subdomain_text() -> String {
    pattern_error(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        &format!("{LABEL_1123}(\\.{LABEL_1123})*"),
        &["example.com"],
    )
}

/// [`dns1123_subdomain`] as kinds whose rules are declared word it.
pub fn long_name(value: &str) -> Vec<String> {
    in_bytes(dns1123_subdomain(value))
}

/// [`dns1123_label`] as kinds whose rules are declared word it.
pub fn short_name(value: &str) -> Vec<String> {
    in_bytes(dns1123_label(value))
}

/// [`long_name`] that may have capitals.
pub fn long_name_caseless(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_length(SUBDOMAIN_MAX));
    }
    if !value.split('.').all(|part| label_1123(part.to_ascii_lowercase().as_bytes())) {
        errors.push(pattern_error(
            "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            &format!("{LABEL_1123}(\\.{LABEL_1123})*"),
            &["Example.com"],
        ));
    }
    errors
}

/// An identifier in C.
pub fn c_identifier(value: &str) -> Vec<String> {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let starts = value.bytes().next().is_some_and(letter);
    if starts && value.bytes().all(|byte| letter(byte) || byte.is_ascii_digit()) {
        return Vec::new();
    }
    vec![pattern_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

fn in_bytes(problems: Vec<String>) -> Vec<String> {
    problems
        .into_iter()
        .map(|problem| match problem.strip_suffix(" characters") {
            Some(start) => format!("{start} bytes"),
            None => problem,
        })
        .collect()
}

pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(format!("must be no more than {LABEL_MAX} characters"));
    }
    if !label_1123(value.as_bytes()) || !value.as_bytes()[0].is_ascii_lowercase() {
        errors.push(pattern_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// A DNS name whose first label may be `*`.
pub fn wildcard_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(max_length(SUBDOMAIN_MAX));
    }
    let rest = value.strip_prefix("*.");
    if !rest.is_some_and(|rest| rest.split('.').all(|part| label_1123(part.as_bytes()))) {
        errors.push(pattern_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{LABEL_1123}(\\.{LABEL_1123})*"),
            &["*.example.com"],
        ));
    }
    errors
}

/// A search domain: a DNS name that may have underscores.
pub fn dns_search(value: &str) -> Vec<String> {
    let part = |part: &str| {
        let part = part.strip_prefix('_').unwrap_or(part).as_bytes();
        matches!((part.first(), part.last()), (Some(&a), Some(&z)) if lower_alphanumeric(a) && lower_alphanumeric(z))
            && part.iter().all(|&byte| lower_alphanumeric(byte) || byte == b'-' || byte == b'_')
    };
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    if !value.split('.').all(part) {
        const LABEL: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        errors.push(pattern_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            &format!("{LABEL}(\\.{LABEL})*"),
            &["example.com"],
        ));
    }
    errors
}

/// A label's key, and whatever else is named `[prefix/]name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut parts = value.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            return vec![format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED}') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    let mut errors = Vec::new();
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            errors.push("prefix part must be non-empty".to_owned());
        } else {
            errors.extend(long_name(prefix).into_iter().map(|error| format!("prefix part {error}")));
        }
    }
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", max_length(LABEL_MAX)));
    }
    if !qualified_part(name.as_bytes()) {
        errors.push(pattern_error(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            QUALIFIED,
            &["MyName", "my.name", "123-abc"],
        ));
    }
    errors
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(max_length(LABEL_MAX));
    }
    if !value.is_empty() && !qualified_part(value.as_bytes()) {
        errors.push(pattern_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({QUALIFIED})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(good) {
        errors.push(pattern_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    if value == "." {
        errors.push("must not be '.'".to_owned());
    } else if value == ".." {
        errors.push("must not be '..'".to_owned());
    } else if value.starts_with("..") {
        errors.push("must not start with '..'".to_owned());
    }
    errors
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must not be empty".to_owned()];
    }
    let mut errors = Vec::new();
    if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=') {
        errors.push("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned());
    }
    errors
}

/// A port's name.
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 15 {
        errors.push("must be no more than 15 characters".to_owned());
    }
    if !value.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') || value.is_empty() {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

pub fn port_number(value: i64) -> Option<&'static str> {
    (!(1..=65535).contains(&value)).then_some("must be between 1 and 65535, inclusive")
}

/// A segment of a URL's path, which the names of RBAC objects and some others are.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

/// What a segment of a path may begin with.
pub fn path_segment_prefix(value: &str) -> Vec<String> {
    ["/", "%"]
        .iter()
        .filter(|bad| value.contains(**bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_names() {
        let count = |errors: Vec<String>, expect: usize, value: &str| {
            assert_eq!(errors.len(), expect, "{value}: {errors:?}")
        };
        for (value, expect) in [("a", 0), ("a-b", 0), ("", 1), ("A", 1), ("a.b", 1), ("-a", 1), ("a-", 1)] {
            count(dns1123_label(value), expect, value);
        }
        for (value, expect) in [("a.b", 0), ("1.2", 0), ("a..b", 1), (".", 1), ("a_b", 1)] {
            count(dns1123_subdomain(value), expect, value);
        }
        for (value, expect) in
            [("a/b", 0), ("a", 0), ("A.b/c_d", 1), ("/a", 1), ("a/", 2), ("a/b/c", 1), ("", 2)]
        {
            count(qualified_name(value), expect, value);
        }
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns1123_subdomain("A")[0],
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        count(port_name("http"), 0, "http");
        count(port_name("1"), 1, "1");
        count(config_key("..a"), 1, "..a");
    }

    #[test]
    fn generated() {
        let mut n = 0;
        let name = generate_name(&"x".repeat(80), || {
            n += 1;
            n
        });
        assert_eq!(name, format!("{}cdfgh", "x".repeat(58)));
        assert_eq!(safe_encode("5d8f9c6b7"), safe_encode("5d8f9c6b7"));
    }
}
