//! The five fields of a cron schedule, checked only: running them is the controller's.

struct Field {
    low: u32,
    high: u32,
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

/// What is wrong with a schedule, if anything.
pub(super) fn check(line: &str) -> Result<(), String> {
    if line.starts_with('@') {
        return descriptor(line);
    }
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields
        .iter()
        .zip(&FIELDS)
        .try_for_each(|(text, field)| text.split(',').try_for_each(|part| range(part, field)))
}

fn descriptor(line: &str) -> Result<(), String> {
    match line {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => Ok(()),
        _ => match line.strip_prefix("@every ") {
            Some(duration)
                if duration.ends_with(['s', 'm', 'h'])
                    && duration.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                Ok(())
            }
            Some(duration) => {
                Err(format!("failed to parse duration {line}: time: invalid duration {duration:?}"))
            }
            None => Err(format!("unrecognized descriptor: {line}")),
        },
    }
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

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = field.names.iter().position(|name| *name == lower) {
        return Ok(index as u32 + field.low);
    }
    text.parse::<u32>().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}
