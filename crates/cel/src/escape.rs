//! Names of fields as identifiers of the language, and back: `my-field` is `my__dash__field`, `namespace` is `__namespace__`.

const KEYWORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const ESCAPES: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// Whether a word is the language's own and names nothing.
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// The identifier for a field, or `None` where expressions cannot reach it.
pub fn escape(field: &str) -> Option<String> {
    if field.is_empty() || field.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(field) {
        return Some(format!("__{field}__"));
    }
    let mut escaped = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(c) = rest.chars().next() {
        if let Some((plain, escape)) = ESCAPES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            escaped.push_str(escape);
            rest = &rest[plain.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            escaped.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(escaped)
}

/// The field that an identifier means, or `None` where it has an escape that does not exist.
pub fn unescape(identifier: &str) -> Option<String> {
    let mut field = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(start) = rest.find("__") {
        let (before, from) = rest.split_at(start);
        field.push_str(before);
        let inner = &from[2..];
        // An escape is two underscores, a name without any, and two underscores.
        let Some(end) = inner.find('_') else { return Some(field + from) };
        if end == 0 || !inner[end..].starts_with("__") {
            field.push('_');
            rest = &from[1..];
            continue;
        }
        let escape = &from[..end + 4];
        match ESCAPES.iter().find(|(_, known)| *known == escape) {
            Some((plain, _)) => field.push_str(plain),
            None if KEYWORDS.contains(&&inner[..end]) && escape.len() == identifier.len() => {
                field.push_str(&inner[..end]);
            }
            None => return None,
        }
        rest = &from[escape.len()..];
    }
    Some(field + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_identifiers() {
        for (field, identifier) in [
            ("a", "a"),
            ("my-field", "my__dash__field"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("namespace", "__namespace__"),
            ("namespaces", "namespaces"),
            ("a__b", "a__underscores__b"),
            ("_a_", "_a_"),
        ] {
            assert_eq!(escape(field).as_deref(), Some(identifier));
            assert_eq!(unescape(identifier).as_deref(), Some(field));
        }
        for field in ["", "1a", "a b", "é", "$ref"] {
            assert_eq!(escape(field), None, "{field}");
        }
        assert_eq!(unescape("a__b__c"), None);
        assert_eq!(unescape("__namespace__x"), None);
        assert_eq!(unescape("a__b").as_deref(), Some("a__b"));
    }
}
