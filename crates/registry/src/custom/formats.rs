//! The formats of strings that schemas can ask for; others are not looked at.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use machinery::names;
use regex::Regex;

use super::schema::Type;

/// A format that is checked.
#[derive(Clone, Debug)]
pub struct Format {
    /// As the definition wrote it.
    pub name: Box<str>,
    check: Option<fn(&str) -> bool>,
}

impl Format {
    /// Whether a string has the format, where it is one of strings.
    pub fn accepts(&self, text: &str) -> Option<bool> {
        self.check.map(|check| check(text))
    }
}

/// The format of this name for values of a type; `None` where it means nothing.
pub fn of(name: &str, ty: Option<Type>) -> Option<Format> {
    if name.is_empty() {
        return None;
    }
    let check = match ty {
        None | Some(Type::String | Type::IntOrString) => Some(by_name(&name.replace('-', ""))?),
        Some(Type::Integer) if matches!(name, "int32" | "int64") => None,
        Some(Type::Number) if matches!(name, "float" | "double") => None,
        _ => return None,
    };
    Some(Format { name: name.into(), check })
}

/// Whether the name means something for the type that a schema writes.
pub fn is_known(name: &str, ty: &str) -> bool {
    let ty = match ty {
        "" => None,
        "string" => Some(Type::String),
        "integer" => Some(Type::Integer),
        "number" => Some(Type::Number),
        _ => return false,
    };
    of(name, ty).is_some()
}

macro_rules! pattern {
    ($pattern:literal) => {{
        fn check(text: &str) -> bool {
            static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("it is tested"));
            PATTERN.is_match(text)
        }
        check
    }};
}

fn by_name(name: &str) -> Option<fn(&str) -> bool> {
    Some(match name {
        "bsonobjectid" => pattern!("^[0-9a-fA-F]{24}$"),
        "uri" => uri,
        "email" => email,
        "hostname" => hostname,
        "ipv4" => ipv4,
        "ipv6" => ipv6,
        "cidr" => cidr,
        "mac" => mac,
        "uuid" => pattern!("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        "uuid3" => pattern!("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        "uuid4" => pattern!("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
        "uuid5" => pattern!("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
        "isbn" => |text| isbn10(text) || isbn13(text),
        "isbn10" => isbn10,
        "isbn13" => isbn13,
        "creditcard" => credit_card,
        "ssn" => pattern!(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
        "hexcolor" => pattern!("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
        "rgbcolor" => pattern!(
            r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$"
        ),
        "byte" => {
            pattern!("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$")
        }
        "password" => |_| true,
        "date" => date,
        "duration" => duration,
        "datetime" => date_time,
        "k8sshortname" => |text| names::dns1123_label(text).is_empty(),
        "k8slongname" => |text| names::dns1123_subdomain(text).is_empty(),
        _ => return None,
    })
}

/// An absolute URI or a path.
fn uri(text: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || c == ' ' || c == '#';
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control()) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    static ABSOLUTE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[A-Za-z][A-Za-z0-9+.-]*:.*$").expect("it is tested"));
    let Some((_, rest)) = text.split_once(':').filter(|_| ABSOLUTE.is_match(text)) else { return false };
    let Some(rest) = rest.strip_prefix("//") else { return true };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match host.rfind(']') {
        Some(end) => &host[end + 1..],
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    !host.chars().any(bad) && (port.is_empty() || port[1..].chars().all(|c| c.is_ascii_digit()))
}

/// An address, alone or behind a name (`Barry <bg@example.com>`).
fn email(text: &str) -> bool {
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(at), Some(inner)) => &inner[at + 1..],
        (None, None) => text.trim(),
        _ => return false,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |text: &str| {
        let allowed = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
        !text.is_empty() && text.split('.').all(|part| !part.is_empty() && part.chars().all(allowed))
    };
    let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || atom(local)) && (literal || atom(domain))
}

fn hostname(text: &str) -> bool {
    static HOST: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$")
            .expect("it is tested")
    });
    HOST.is_match(text) && text.len() <= 255 && text.split('.').all(|part| part.len() <= 63)
}

/// Leading zeros are taken, as upstream takes them.
fn sloppy(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.');
    let mut bytes = [0; 4];
    for byte in &mut bytes {
        let part =
            parts.next().filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))?;
        *byte = part
            .trim_start_matches('0')
            .parse()
            .or(if part.contains('0') && part.trim_matches('0').is_empty() { Ok(0) } else { Err(()) })
            .ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(bytes))
}

fn ipv4(text: &str) -> bool {
    sloppy(text).is_some() || (text.contains('.') && text.parse::<Ipv6Addr>().is_ok())
}

fn ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match (sloppy(address), address.parse::<Ipv6Addr>()) {
        (Some(_), _) => 32,
        (_, Ok(_)) => 128,
        _ => return false,
    };
    length.bytes().all(|byte| byte.is_ascii_digit())
        && length.parse::<u32>().is_ok_and(|length| length <= most)
}

/// 6, 8 or 20 bytes in hexadecimal, with colons, dashes or dots.
fn mac(text: &str) -> bool {
    let hex = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts = |separator: char, digits: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, digits))
    };
    parts(':', 2, [6, 8, 20]) || parts('-', 2, [6, 8, 20]) || parts('.', 4, [3, 4, 10])
}

fn digits(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn isbn10(text: &str) -> bool {
    let text = digits(text);
    let value = |(place, c): (usize, char)| match c {
        'X' if place == 9 => Some(10),
        c => c.to_digit(10),
    };
    let values: Option<Vec<u32>> = text.chars().enumerate().map(value).collect();
    let sum =
        |values: Vec<u32>| (1..).zip(values).map(|(weight, value): (u32, u32)| weight * value).sum::<u32>();
    text.len() == 10 && values.map(sum).is_some_and(|sum| sum.is_multiple_of(11))
}

fn isbn13(text: &str) -> bool {
    let text = digits(text);
    let values: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(10)).collect();
    let sum = |values: Vec<u32>| {
        let weighed = values.into_iter().enumerate();
        weighed.map(|(place, value)| if place % 2 == 0 { value } else { 3 * value }).sum::<u32>()
    };
    text.len() == 13 && values.map(sum).is_some_and(|sum| sum.is_multiple_of(10))
}

fn credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let issued = pattern!(
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$"
    );
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|c| c.to_digit(10))
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    issued(&digits) && sum.is_multiple_of(10)
}

fn date(text: &str) -> bool {
    let shaped = pattern!(r"^\d{4}-\d{2}-\d{2}$");
    shaped(text) && text.parse::<jiff::civil::Date>().is_ok()
}

fn date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((day, time)) = lower.split_once('t') else { return false };
    let shaped = pattern!(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$");
    date(day) && shaped(time) && &time[..2] <= "23" && &time[3..5] <= "59" && &time[6..8] <= "59"
}

/// Go's durations, and words such as `3 days`.
fn duration(text: &str) -> bool {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\d+)\s*([A-Za-zµ]+)").expect("it is tested"));
    const EXACT: [&str; 13] = ["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk", "sec", "min"];
    const BEGINNINGS: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    if api::text::parse_duration(text).is_some() {
        return true;
    }
    let mut known = false;
    for found in WORDS.captures_iter(text) {
        if found[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = found[2].to_lowercase();
        known |= EXACT.contains(&unit.as_str()) || BEGINNINGS.iter().any(|word| unit.starts_with(word));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let check = |name: &str, good: &[&str], bad: &[&str]| {
            let format = of(name, Some(Type::String)).unwrap();
            good.iter().for_each(|text| assert_eq!(format.accepts(text), Some(true), "{name} {text}"));
            bad.iter().for_each(|text| assert_eq!(format.accepts(text), Some(false), "{name} {text}"));
        };
        check("uri", &["http://a/b", "/a", "mailto:x"], &["a", "", "http://a b/", "http://[::1]:x/"]);
        check("email", &["a@b.c", "A <a@b>"], &["a", "@b", "a@", "a b@c"]);
        check("hostname", &["a.bc", "a", "localhost"], &["-a", "a_b", ""]);
        check("ipv4", &["1.2.3.4", "01.2.3.4", "::ffff:1.2.3.4"], &["1.2.3", "a", "256.1.1.1"]);
        check("ipv6", &["::1"], &["1.2.3.4", ""]);
        check("cidr", &["10.0.0.0/8", "fe80::/10"], &["10.0.0.0", "10.0.0.0/33"]);
        check("mac", &["01:02:03:04:05:06", "0102.0304.0506"], &["01:02", "x"]);
        check("uuid", &["2b46c1e6-7a4d-4f0c-9d0e-0123456789ab"], &["x"]);
        check("isbn", &["0321751043", "978-0321751041"], &["0321751044"]);
        check("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112"]);
        check("rgbcolor", &["rgb(255, 0,1)"], &["rgb(256,0,0)"]);
        check("byte", &["aGk=", "YWJj"], &["a", "a==="]);
        check("date", &["2020-02-29"], &["2021-02-29", "2020-2-1"]);
        check("duration", &["1h2m", "22 ns", "3 days"], &["x", "5 parsecs"]);
        check("date-time", &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"], &["2014-12-15"]);
        check("k8s-short-name", &["a-b"], &["a.b", "A"]);
        assert!(of("int32", Some(Type::String)).is_none());
        assert!(of("unheard-of", None).is_none());
        assert!(is_known("int64", "integer") && !is_known("int64", "string") && !is_known("date", "object"));
    }
}
