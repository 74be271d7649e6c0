//! Times in documents: the canonical spelling, and upstream's words for what is not a time.

use crate::tree::Tree;

use crate::text;

const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A time in UTC with the precision of its type; nothing for upstream's zero time.
pub(super) fn canonical(time: &str, micro: bool) -> Result<Option<Tree>, String> {
    let parsed = text::parse_time(time).filter(|_| !micro || has_six_digits(time));
    let Some((seconds, nanoseconds)) = parsed else { return Err(error(time, micro)) };
    if seconds == text::ZERO_TIME && nanoseconds == 0 {
        return Ok(None);
    }
    let mut out = String::with_capacity(28);
    if micro {
        text::format_micro_time(seconds, nanoseconds as i32, &mut out);
    } else {
        text::format_time(seconds, &mut out);
    }
    Ok(Some(Tree::from(out)))
}

fn has_six_digits(time: &str) -> bool {
    let fraction = time.get(19..).unwrap_or_default();
    fraction.starts_with('.') && fraction[1..].bytes().take_while(u8::is_ascii_digit).count() == 6
}

fn error(time: &str, micro: bool) -> String {
    let layout = if micro { MICRO_LAYOUT } else { LAYOUT };
    let cannot = |rest: &str, element: &str| {
        format!("parsing time {time:?} as {layout:?}: cannot parse {rest:?} as {element:?}")
    };
    let elements = [
        ("2006", 4, 0..=9999),
        ("-", 0, 0..=0),
        ("01", 2, 1..=12),
        ("-", 0, 0..=0),
        ("02", 2, 0..=99),
        ("T", 0, 0..=0),
        ("15", 2, 0..=23),
        (":", 0, 0..=0),
        ("04", 2, 0..=59),
        (":", 0, 0..=0),
        ("05", 2, 0..=59),
    ];
    let names = ["", "", "month", "", "day", "", "hour", "", "minute", "", "second"];
    let mut rest = time;
    for ((element, digits, range), name) in elements.into_iter().zip(names) {
        if digits == 0 {
            match rest.strip_prefix(element) {
                Some(after) => rest = after,
                None => return cannot(rest, element),
            }
            continue;
        }
        let number = rest
            .get(..digits)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u32>().ok());
        let Some(number) = number else { return cannot(rest, element) };
        if !range.contains(&number) {
            return format!("parsing time {time:?}: {name} out of range");
        }
        rest = &rest[digits..];
    }
    if micro && !has_six_digits(time) {
        return cannot(rest, ".000000");
    }
    if rest.starts_with(['.', ',']) {
        rest = rest[1..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    match rest.as_bytes() {
        [b'Z'] | [b'+' | b'-', _, _, b':', _, _] => format!("parsing time {time:?}: day out of range"),
        [b'Z', ..] => format!("parsing time {time:?}: extra text: {:?}", &rest[1..]),
        _ => cannot(rest, "Z07:00"),
    }
}
