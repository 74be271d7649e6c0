//! The five fields of a cron schedule, checked only: running them is the controller's.

struct Field {
    low: u64,
    high: u64,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { low: 0, high: 59, names: &[] },
    Field { low: 0, high: 23, names: &[] },
    Field { low: 1, high: 31, names: &[] },
    Field {
        low: 1,
        high: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// Checks a schedule.
pub(super) fn check(line: &str) -> Result<(), String> {
    if line.starts_with('@') {
        return descriptor(line);
    }
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).try_for_each(|(text, field)| {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.into_iter().try_for_each(|part| range(part, field))
    })
}

fn descriptor(line: &str) -> Result<(), String> {
    match line {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => Ok(()),
        _ => match line.strip_prefix("@every ") {
            Some(text) => {
                duration(text).map_err(|problem| format!("failed to parse duration {line}: time: {problem}"))
            }
            None => Err(format!("unrecognized descriptor: {line}")),
        },
    }
}

/// A span of time: numbers with units, such as `1h30m`.
fn duration(text: &str) -> Result<(), String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|digit: char| digit.is_ascii_digit() || digit == '.');
        let number = &rest[..rest.len() - after.len()];
        if !number.contains(|digit: char| digit.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        rest = after.trim_start_matches(|letter: char| !letter.is_ascii_digit() && letter != '.');
        match &after[..after.len() - rest.len()] {
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => {}
            "" => return Err(format!("missing unit in duration {text:?}")),
            unit => return Err(format!("unknown unit {unit:?} in duration {text:?}")),
        }
    }
    Ok(())
}

fn range(part: &str, field: &Field) -> Result<(), String> {
    let mut halves = part.split('/');
    let span = halves.next().unwrap_or_default();
    let step = halves.next();
    if halves.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let (start, end) = match span {
        "*" | "?" => (field.low, field.high),
        _ => {
            let ends: Vec<&str> = span.split('-').collect();
            let start = number(ends[0], field)?;
            match ends[..] {
                [_] => (start, if step.is_some() { field.high } else { start }),
                [_, end] => (start, number(end, field)?),
                _ => return Err(format!("too many hyphens: {part}")),
            }
        }
    };
    if start < field.low {
        return Err(format!("beginning of range ({start}) below minimum ({}): {part}", field.low));
    }
    if end > field.high {
        return Err(format!("end of range ({end}) above maximum ({}): {part}", field.high));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    match step.map(|step| number(step, &Field { names: &[], ..*field })) {
        Some(Ok(0)) => Err(format!("step of range should be a positive number: {part}")),
        Some(Err(problem)) => Err(problem),
        _ => Ok(()),
    }
}

fn number(text: &str, field: &Field) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = field.names.iter().position(|name| *name == lower) {
        return Ok(index as u64 + field.low);
    }
    match text.parse::<i64>() {
        Ok(negative) if negative < 0 => Err(format!("negative number ({negative}) not allowed: {text}")),
        Ok(number) => Ok(number as u64),
        Err(error) => {
            let range = matches!(
                error.kind(),
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow
            );
            let why = if range { "value out of range" } else { "invalid syntax" };
            Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"))
        }
    }
}
