//! Image names.

/// Why a name is none; upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("couldn't parse image name {0:?}: invalid reference format")]
    Format(String),
    #[error(
        "couldn't parse image name {0:?}: invalid reference format: repository name ({1}) must be lowercase"
    )]
    Case(String, String),
}

/// The name with `:latest` where it has neither tag nor digest.
pub fn with_tag(image: &str) -> Result<String, Error> {
    let invalid = || Error::Format(image.to_owned());
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        let (algorithm, hex) = digest.split_once(':').ok_or_else(invalid)?;
        if algorithm.is_empty() || hex.len() < 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
    }
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = tag.len() <= 128
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if !fits {
            return Err(invalid());
        }
    }
    let first = name.split('/').next().unwrap_or_default();
    let has_host = name.contains('/')
        && (first.contains(['.', ':'])
            || first == "localhost"
            || first.bytes().any(|b| b.is_ascii_uppercase()));
    let path = if has_host { &name[first.len() + 1..] } else { name };
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Error::Case(image.to_owned(), path.to_owned()));
    }
    let component = |part: &str| {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(word)
            && part.bytes().last().is_some_and(word)
            && part.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    if !path.split('/').all(component) {
        return Err(invalid());
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |image: &str, expect: Option<&str>| {
            assert_eq!(with_tag(image).ok().as_deref(), expect, "{image}")
        };
        check("busybox", Some("busybox:latest"));
        check("localhost:5000/a/b", Some("localhost:5000/a/b:latest"));
        check("registry.k8s.io/pause:3.10.1", Some("registry.k8s.io/pause:3.10.1"));
        check(
            "a@sha256:0123456789012345678901234567890123456789012345678901234567890123",
            Some("a@sha256:0123456789012345678901234567890123456789012345678901234567890123"),
        );
        check("a b", None);
        check("A:1", None);
        check("a:", None);
        check("", None);
    }
}
