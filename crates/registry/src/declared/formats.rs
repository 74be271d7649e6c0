//! The formats that declared strings have, each with what is wrong with a value.

use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

pub type Format = fn(&str, &Path<'_>, &mut Vec<Cause>);

/// The format of that name.
pub fn of(name: &str) -> Option<Format> {
    Some(match name {
        "k8s-short-name" => |text, path, errors| all(text, names::short_name(text), path, errors),
        "k8s-long-name" => |text, path, errors| all(text, names::long_name(text), path, errors),
        "k8s-long-name-caseless" => {
            |text, path, errors| all(text, names::long_name_caseless(text), path, errors)
        }
        "k8s-label-key" => |text, path, errors| all(text, names::qualified_name(text), path, errors),
        "k8s-label-value" => |text, path, errors| all(text, names::label_value(text), path, errors),
        "k8s-path-segment-name" => |text, path, errors| all(text, names::path_segment(text), path, errors),
        "k8s-prefixed-label-key" => |text, path, errors| all(text, prefixed(text), path, errors),
        "k8s-uuid" => |text, path, errors| {
            if !uuid(text) {
                errors.push(path.invalid(text, "must be a lowercase UUID in 8-4-4-4-12 format"));
            }
        },
        "k8s-resource-pool-name" => pool_name,
        "k8s-extended-resource-name" => extended_resource,
        "k8s-resource-fully-qualified-name" => fully_qualified,
        _ => return None,
    })
}

fn all(text: &str, problems: Vec<String>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    errors.extend(problems.iter().map(|problem| path.invalid(text, problem)));
}

fn prefixed(text: &str) -> Vec<String> {
    let problems = names::qualified_name(text);
    if problems.is_empty() && !text.contains('/') {
        return vec!["must include a prefix (e.g. 'example.com/key')".to_owned()];
    }
    problems
}

fn uuid(text: &str) -> bool {
    let good = |(place, byte): (usize, u8)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(good)
}

/// The name of a pool: names apart by slashes.
fn pool_name(text: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if text.len() > names::SUBDOMAIN_MAX {
        errors.push(path.too_long(names::SUBDOMAIN_MAX));
    }
    for (index, part) in text.split('/').enumerate() {
        if part.is_empty() {
            errors.push(path.invalid(text, &format!("segment {index}: must not be empty")));
            continue;
        }
        for problem in names::long_name(part) {
            errors.push(path.invalid(part, &format!("segment {index}: {problem}")));
        }
    }
}

fn extended_resource(text: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if !text.contains('/') {
        let detail = "a name must be a domain-prefixed path, such as 'example.com/my-prop'";
        errors.push(path.invalid(text, detail));
    } else if text.contains("kubernetes.io/") {
        errors.push(path.invalid(text, "must not have \"kubernetes.io/\" domain"));
    }
    if text.starts_with("requests.") {
        errors.push(path.invalid(text, "must not have \"requests.\" prefix"));
    }
    all(text, names::qualified_name(&format!("requests.{text}")), path, errors);
}

const IDENTIFIER_MAX: usize = 32;

/// An identifier, with or without a domain before it.
fn qualified(text: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => identifier(name, path, errors),
        [domain, name] => {
            if domain.is_empty() {
                errors.push(path.invalid("", "prefix must not be empty"));
            } else {
                if domain.len() > names::LABEL_MAX {
                    errors.push(path.too_long(names::LABEL_MAX));
                }
                for problem in names::long_name(domain) {
                    errors.push(path.invalid(*domain, &format!("prefix: {problem}")));
                }
            }
            if name.is_empty() {
                errors.push(path.invalid("", "name must not be empty"));
            } else {
                identifier(name, path, errors);
            }
        }
        _ => {}
    }
}

/// An identifier that has a domain before it.
fn fully_qualified(text: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    qualified(text, path, errors);
    if !text.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(path.invalid(text, detail));
    }
}

/// An identifier of a device's attribute or capacity.
pub fn identifier(text: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if text.len() > IDENTIFIER_MAX {
        errors.push(path.too_long(IDENTIFIER_MAX));
    }
    all(text, names::c_identifier(text), path, errors);
}
