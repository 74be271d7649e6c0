//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use super::{Family, Kind, SEPARATOR, Vector};

pub(super) fn family(out: &mut String, name: &str, family: &Family) {
    let kind = match &family.kind {
        Kind::Counter(_) | Kind::Read(true, _) => "counter",
        Kind::Gauge(_) | Kind::Read(false, _) => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let start = out.len();
    let _ = write!(
        out,
        "# HELP {name} {}\n# TYPE {name} {kind}\n",
        family.help.replace('\\', r"\\").replace('\n', r"\n")
    );
    let header = out.len();
    match &family.kind {
        Kind::Counter(vector) => {
            each(vector, |values, child| sample(out, name, &family.labels, values, None, child.get()));
        }
        Kind::Gauge(vector) => {
            each(vector, |values, child| sample(out, name, &family.labels, values, None, child.get()));
        }
        Kind::Histogram(vector) => each(vector, |values, child| {
            let (buckets, count, sum) = child.read();
            let bucket = format!("{name}_bucket");
            for (bound, below) in buckets {
                sample(out, &bucket, &family.labels, values, Some(&number(bound)), below as f64);
            }
            sample(out, &bucket, &family.labels, values, Some("+Inf"), count as f64);
            sample(out, &format!("{name}_sum"), &family.labels, values, None, sum);
            sample(out, &format!("{name}_count"), &family.labels, values, None, count as f64);
        }),
        Kind::Read(_, read) => {
            for (values, value) in read() {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                sample(out, name, &family.labels, &values, None, value);
            }
        }
    }
    if out.len() == header {
        out.truncate(start); // nothing counted yet: like upstream, the family is not shown
    }
}

fn each<T>(vector: &Vector<T>, mut show: impl FnMut(&[&str], &T)) {
    let children = vector.children.read();
    let mut keys: Vec<_> = children.iter().collect();
    keys.sort_by(|a, b| a.0.cmp(b.0));
    for (key, child) in keys {
        let values: Vec<&str> = key.split(SEPARATOR).collect();
        show(&values, child);
    }
}

fn sample(out: &mut String, name: &str, labels: &[&str], values: &[&str], bound: Option<&str>, value: f64) {
    out.push_str(name);
    if !labels.is_empty() || bound.is_some() {
        out.push('{');
        let pairs =
            labels.iter().copied().zip(values.iter().copied()).chain(bound.map(|bound| ("le", bound)));
        for (index, (label, text)) in pairs.enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{label}=\"");
            for character in text.chars() {
                match character {
                    '\\' => out.push_str(r"\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str(r"\n"),
                    other => out.push(other),
                }
            }
            out.push('"');
        }
        out.push('}');
    }
    let _ = writeln!(out, " {}", number(value));
}

/// As Go writes it, exponents from 1e+06 up and below 1e-04, since the bounds of buckets are labels that are compared as text.
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        return "+Inf".into();
    } else if value == f64::NEG_INFINITY {
        return "-Inf".into();
    } else if value.is_nan() {
        return "NaN".into();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent >= 6 => format!("{digits}e+{exponent:02}"),
        Ok(exponent) if exponent < -4 => format!("{digits}e-{:02}", -exponent),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (0.0001, "0.0001"),
            (1e-5, "1e-05"),
            (9.999999999999999e-6, "9.999999999999999e-06"),
            (323584.0, "323584"),
            (999999.5, "999999.5"),
            (1e6, "1e+06"),
            (31104000.0, "3.1104e+07"),
            (1795296896.82, "1.79529689682e+09"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(super::number(value), text);
        }
    }
}
