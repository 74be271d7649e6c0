//! Quantities: the canonical spelling of `1000m`, `1.5Gi`, `1e3`.
//!
//! Only the spelling lives here, because decoding needs it; arithmetic is `machinery`'s.

/// The answer to a text that is no quantity.
pub const FORMAT_WRONG: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX: &str = "unable to parse quantity's suffix";
const NUMERIC: &str = "unable to parse numeric part of quantity";

const NANO: i128 = 1_000_000_000;
const MAX: i128 = i64::MAX as i128 * NANO;

#[derive(Clone, Copy, PartialEq)]
enum Format {
    DecimalSi,
    DecimalExponent,
    BinarySi,
}

/// The canonical text: no fraction where a smaller suffix avoids it, the largest suffix that stays exact.
pub fn canonical(text: &str) -> Result<String, &'static str> {
    let (negative, rest) = match text.as_bytes().first().ok_or(FORMAT_WRONG)? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = &rest[..digits(rest)];
    let mut suffix = &rest[whole.len()..];
    let mut fraction = "";
    if let Some(after) = suffix.strip_prefix('.') {
        fraction = &after[..digits(after)];
        suffix = &after[fraction.len()..];
    }
    if suffix.bytes().any(|byte| !b"eEinumkKMGTP+-0123456789".contains(&byte)) {
        return Err(FORMAT_WRONG);
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(if rest.starts_with('.') { NUMERIC } else { FORMAT_WRONG });
    }
    let (format, base, exponent) = suffix_of(suffix).ok_or(SUFFIX)?;
    let amount = amount(whole, fraction, base, exponent);
    Ok(spell(amount, negative, format))
}

/// The suffix's format, base and exponent.
fn suffix_of(suffix: &str) -> Option<(Format, i128, i32)> {
    let decimal = |exponent| Some((Format::DecimalSi, 10, exponent));
    let binary = |exponent| Some((Format::BinarySi, 2, exponent));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            Some((Format::DecimalExponent, 10, exponent.parse().ok()?))
        }
    }
}

/// In nanos, rounded up, and no more than upstream's largest.
fn amount(whole: &str, fraction: &str, base: i128, exponent: i32) -> i128 {
    let digits = whole.trim_start_matches('0');
    let significant = if digits.is_empty() {
        fraction.trim_start_matches('0').len()
    } else {
        digits.len() + fraction.len()
    };
    if significant == 0 {
        return 0;
    }
    if base == 10 && digits.len() as i64 + i64::from(exponent) > 28 || digits.len() > 28 {
        return MAX;
    }
    // fraction digits beyond the 20th only tell whether to round up
    let kept = &fraction[..fraction.len().min(20.min(36 - digits.len().min(36)))];
    let mut sticky = fraction[kept.len()..].bytes().any(|digit| digit != b'0');
    let number = format!("{digits}{kept}");
    let mut value: i128 = number.parse().unwrap_or(0);
    // decimal places of `value` after scaling to nanos
    let mut shift = 9 - kept.len() as i64;
    if base == 10 {
        shift += i64::from(exponent);
    } else {
        match value.checked_mul(1i128 << exponent.clamp(0, 60)) {
            Some(scaled) => value = scaled,
            None => return MAX,
        }
    }
    while shift > 0 && value != 0 {
        match value.checked_mul(10) {
            Some(scaled) => value = scaled,
            None => return MAX,
        }
        shift -= 1;
    }
    while shift < 0 && value != 0 {
        sticky |= value % 10 != 0;
        value /= 10;
        shift += 1;
    }
    if sticky {
        value += 1;
    }
    // decimal amounts of few digits keep their scale upstream, and so their size
    if base == 10 && significant <= 18 { value } else { value.min(MAX) }
}

fn spell(amount: i128, negative: bool, format: Format) -> String {
    if amount == 0 {
        return "0".to_owned();
    }
    let sign = if negative { "-" } else { "" };
    let whole = amount / NANO;
    if format == Format::BinarySi && whole >= 1024 && amount % NANO == 0 {
        let mut value = whole;
        let mut step = 0;
        while value % 1024 == 0 && step < 6 {
            value /= 1024;
            step += 1;
        }
        return format!("{sign}{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
    }
    let mut value = amount;
    let mut exponent = -9;
    while value % 1000 == 0 && (exponent < 18 || format == Format::DecimalExponent) {
        value /= 1000;
        exponent += 3;
    }
    if format == Format::DecimalExponent {
        return if exponent == 0 { format!("{sign}{value}") } else { format!("{sign}{value}e{exponent}") };
    }
    let suffix = match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    };
    format!("{sign}{value}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, expect) in [
            ("0", "0"),
            ("0.0Gi", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("100000", "100k"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1000e0", "1e3"),
            ("12e-1", "1200e-3"),
            ("-5m", "-5m"),
            ("+5", "5"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("5E", "5E"),
            (".5", "500m"),
            ("1.", "1"),
            ("128974848", "128974848"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expect), "{text}");
        }
        for bad in ["", "x", "1x", "1 ", "e3", "1ee", "-", "1Kii"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }
}
