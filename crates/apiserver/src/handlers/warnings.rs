//! `Warning: 299 - "text"` headers, each text once, and no more of them than a client can take.

use std::collections::HashSet;

use http::HeaderValue;

/// Characters of all of an answer's warnings. Where there are more, each is cut short.
const ALL: usize = 4 << 10;
/// Characters of one that is cut short.
const SHORT: usize = 256;

/// The headers' values. What would break the header is no warning, as upstream has it.
pub fn headers<'w>(warnings: impl Iterator<Item = &'w str>) -> Vec<HeaderValue> {
    let mut seen = HashSet::new();
    let mut taken: Vec<&str> = Vec::new();
    let (mut length, mut short) = (0, false);
    for warning in warnings.filter(|warning| !warning.is_empty()) {
        if short && length >= ALL {
            break;
        }
        if !seen.insert(warning) || warning.chars().any(char::is_control) {
            continue;
        }
        taken.push(warning);
        let characters = warning.chars().count();
        if !short && length + characters > ALL {
            short = true;
            length = taken.iter().map(|own| own.chars().count().min(SHORT)).sum();
        } else {
            length += if short { characters.min(SHORT) } else { characters };
        }
    }
    taken.into_iter().filter_map(|warning| header(warning, if short { SHORT } else { usize::MAX })).collect()
}

fn header(warning: &str, most: usize) -> Option<HeaderValue> {
    let text: String = warning.chars().take(most).collect();
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_quoted() {
        let texts = ["größe \"a\\b\"", "", "größe \"a\\b\"", "a\nb", "c"];
        let found = headers(texts.into_iter());
        assert_eq!(
            found,
            ["299 - \"größe \\\"a\\\\b\\\"\"", "299 - \"c\""]
                .map(|text| { HeaderValue::from_bytes(text.as_bytes()).unwrap() })
        );
    }

    #[test]
    fn all_of_them_are_bounded() {
        let lengths = |texts: &[String]| -> Vec<usize> {
            let found = headers(texts.iter().map(String::as_str));
            found.iter().map(|value| value.len() - "299 - \"\"".len()).collect()
        };
        let text = |at: usize, length: usize| format!("{at:0>length$}");
        assert_eq!(lengths(&[text(0, 4096)]), [4096]);
        assert_eq!(lengths(&[text(0, 4097)]), [256]);
        assert_eq!(lengths(&[text(0, 4000), text(1, 97), text(2, 300)]), [256, 97, 256]);
        let many: Vec<String> = (0..100_000).map(|at| text(at, 300)).collect();
        assert_eq!(lengths(&many), [256; 16]);
    }
}
