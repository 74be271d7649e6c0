//! Lists of indexes as a job's status writes them: `0,3-5,7`.

/// From the first to the last, both counted in.
pub(super) type Interval = (i64, i64);

/// The intervals up to what is wrong, and what that is.
pub(super) fn parse(text: &str, completions: i64) -> (Vec<Interval>, Option<String>) {
    let mut intervals: Vec<Interval> = Vec::new();
    if text.is_empty() {
        return (intervals, None);
    }
    let mut previous = None;
    for part in text.split(',') {
        let ends: Vec<&str> = part.split('-').collect();
        if ends.len() > 2 {
            let problem = format!(
                "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            );
            return (intervals, Some(problem));
        }
        let mut found = Vec::new();
        for end in ends {
            match index(end, completions, previous) {
                Ok(index) => {
                    previous = Some(index);
                    found.push(index);
                }
                Err(problem) => return (intervals, Some(problem)),
            }
        }
        if let (Some(first), Some(last)) = (found.first(), found.last()) {
            intervals.push((*first, *last));
        }
    }
    (intervals, None)
}

fn index(text: &str, completions: i64, previous: Option<i64>) -> Result<i64, String> {
    let index: i64 =
        text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
    if index >= completions {
        return Err(format!("too large index: {text:?}"));
    }
    match previous {
        Some(previous) if previous >= index => {
            Err(format!("non-increasing order, previous: {previous}, current: {index}"))
        }
        _ => Ok(index),
    }
}
