//! Quantities: what `1000m`, `1.5Gi` and `1e3` are, and how they are spelled once they have been read.
//!
//! Only reading and spelling live here, because decoding needs them; arithmetic is `machinery`'s. A spelling that is as short as
//! the canonical one stays as it is (`+5`, `007`, `1E3`), as it always has. Amounts are digits and a scale, so that none is
//! too large or too fine; the work is linear in the text.

/// The answer to a text that is no quantity.
pub const FORMAT_WRONG: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
pub const SUFFIX: &str = "unable to parse quantity's suffix";
pub const NUMERIC: &str = "unable to parse numeric part of quantity";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// The parts of a text: `whole.fraction × base^exponent`.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'t> {
    pub negative: bool,
    /// Without zeros in front; `0` where there is nothing else.
    pub whole: &'t str,
    pub fraction: &'t str,
    pub format: Format,
    pub base: u32,
    pub exponent: i32,
    /// Sign, digits and dot as they stand in the text.
    number: &'t str,
}

/// Takes a text apart. What has neither digits nor a dot before its suffix is zero.
pub fn parts(text: &str) -> Result<Parts<'_>, &'static str> {
    if text.is_empty() {
        return Err(FORMAT_WRONG);
    }
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = rest.trim_start_matches('0');
    let mut whole = &rest[..digits(rest)];
    let mut suffix = &rest[whole.len()..];
    let mut fraction = "";
    if let Some(after) = suffix.strip_prefix('.') {
        fraction = &after[..digits(after)];
        suffix = &after[fraction.len()..];
    }
    let number = &text[..text.len() - suffix.len()];
    if whole.is_empty() {
        whole = "0";
    }
    let letters = suffix.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
    let after = &suffix[letters..];
    let power = after.strip_prefix(['-', '+']).unwrap_or(after);
    if digits(power) != power.len() {
        return Err(FORMAT_WRONG);
    }
    let (format, base, exponent) = suffix_of(suffix).ok_or(SUFFIX)?;
    Ok(Parts { negative: text.starts_with('-'), whole, fraction, format, base, exponent, number })
}

/// The suffix's format, base and exponent.
fn suffix_of(suffix: &str) -> Option<(Format, u32, i32)> {
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
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((Format::DecimalExponent, 10, i32::try_from(exponent).ok()?))
        }
    }
}

/// The text as it is written from now on: no fraction where a smaller suffix avoids it, the largest suffix that stays exact.
/// The canonical text of a quantity. Fractions finer than a billionth are rounded up.
pub fn canonical(text: &str) -> Result<String, &'static str> {
    rounded(text, NANO)
}

/// As [`canonical`], no finer than a thousandth: lists of resources know nothing less.
pub fn canonical_milli(text: &str) -> Result<String, &'static str> {
    rounded(text, MILLI)
}

/// Spaces around a quantity do not count. Those that JSON has to escape do, for upstream reads a quantity before escapes
/// are undone.
pub fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| {
        c.is_whitespace() && !c.is_ascii_control() && !matches!(c, '\u{2028}' | '\u{2029}')
    })
}

fn rounded(text: &str, finest: i64) -> Result<String, &'static str> {
    let parts = parts(text)?;
    match parts.short(finest) {
        Some(Spelling::AsIs) => return Ok(text.to_owned()),
        Some(Spelling::Canonical) => {}
        // a number of its own is needed where the amount is not a small one
        None if !parts.number.bytes().any(|byte| byte.is_ascii_digit()) => return Err(NUMERIC),
        None => {}
    }
    let (amount, format) = Amount::of(&parts, finest);
    Ok(amount.spell(parts.negative, format))
}

enum Spelling {
    AsIs,
    Canonical,
}

/// As many decimal digits fit into 64 bits.
const DIGITS: i64 = 18;
/// Decimal places of a billionth, and of a thousandth.
const NANO: i64 = 9;
const MILLI: i64 = 3;

impl Parts<'_> {
    /// How an amount of few digits is spelled.
    fn short(&self, finest: i64) -> Option<Spelling> {
        let (whole, fraction) = (self.whole.len() as i64, self.fraction.len() as i64);
        let binary = self.format == Format::BinarySi;
        let room = match (binary, fraction) {
            (false, _) => DIGITS - whole - fraction,
            (true, 0) => 14 - whole - i64::from(self.exponent) * 3 / 10,
            (true, _) => -1,
        };
        let scale = if binary { 0 } else { i64::from(self.exponent) } - fraction;
        if room < 0 || scale < -finest {
            return None;
        }
        let value: u64 = format!("{}{}", self.whole, self.fraction).parse().ok()?;
        let kept = if binary {
            !value.is_multiple_of(8)
        } else {
            scale % 3 == 0
                && !(value.is_multiple_of(1000) && whole + fraction >= 3)
                && !self.whole.starts_with('0')
        };
        Some(if kept { Spelling::AsIs } else { Spelling::Canonical })
    }
}

/// Decimal digits, and how many of them are behind the point (or how many zeros follow, where negative).
struct Amount {
    digits: Vec<u8>,
    scale: i64,
}

impl Amount {
    fn of(parts: &Parts<'_>, finest: i64) -> (Amount, Format) {
        let digits = parts.whole.bytes().chain(parts.fraction.bytes()).map(|byte| byte - b'0');
        let mut amount = Amount { digits: digits.collect(), scale: parts.fraction.len() as i64 };
        if parts.base == 10 {
            amount.scale -= i64::from(parts.exponent);
        } else {
            (0..parts.exponent).for_each(|_| amount.double());
        }
        amount.trim();
        amount.round_up(finest);
        if parts.format != Format::BinarySi {
            return (amount, parts.format);
        }
        // beyond 64 bits there is no more of what is counted in binary
        let bound = i64::MAX as u64;
        if amount.whole() > u128::from(bound) {
            amount = Amount { digits: bound.to_string().bytes().map(|byte| byte - b'0').collect(), scale: 0 };
        }
        let small = amount.whole() < 1024 || amount.scale > 0;
        (amount, if small { Format::DecimalSi } else { Format::BinarySi })
    }

    fn double(&mut self) {
        let mut carry = 0;
        for digit in self.digits.iter_mut().rev() {
            let value = *digit * 2 + carry;
            (*digit, carry) = (value % 10, value / 10);
        }
        if carry > 0 {
            self.digits.insert(0, carry);
        }
    }

    /// Without zeros in front and behind.
    fn trim(&mut self) {
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        while self.digits.last() == Some(&0) {
            self.digits.pop();
            self.scale -= 1;
        }
    }

    /// Whoever wants a little gets no less than the finest that there is.
    fn round_up(&mut self, finest: i64) {
        if self.scale <= finest || self.digits.is_empty() {
            return;
        }
        let finer = usize::try_from(self.scale - finest).unwrap_or(usize::MAX).min(self.digits.len());
        self.digits.truncate(self.digits.len() - finer);
        self.scale = finest;
        for digit in self.digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                self.trim();
                return;
            }
            *digit = 0;
        }
        self.digits.insert(0, 1);
        self.trim();
    }

    /// What is before the point, as far as it can be counted.
    fn whole(&self) -> u128 {
        let count = self.digits.len() as i64 - self.scale;
        if count > 30 {
            return u128::MAX;
        }
        let digits = self.digits.iter().copied().chain(std::iter::repeat(0));
        digits.take(usize::try_from(count).unwrap_or(0)).fold(0, |sum, digit| sum * 10 + u128::from(digit))
    }

    fn spell(mut self, negative: bool, format: Format) -> String {
        if self.digits.is_empty() {
            return "0".to_owned();
        }
        let sign = if negative { "-" } else { "" };
        if format == Format::BinarySi {
            let mut value = self.whole();
            let mut step = 0;
            while value.is_multiple_of(1024) && step < 6 {
                value /= 1024;
                step += 1;
            }
            return format!("{sign}{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        while self.scale % 3 != 0 {
            self.digits.push(0);
            self.scale += 1;
        }
        let value: String = self.digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let exponent = -self.scale;
        if format == Format::DecimalExponent {
            return if exponent == 0 {
                format!("{sign}{value}")
            } else {
                format!("{sign}{value}e{exponent}")
            };
        }
        // there is no larger suffix, and none is written then
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
            ("+5", "+5"),
            ("007", "007"),
            ("1E3", "1E3"),
            ("1e+3", "1e+3"),
            ("1e0", "1e0"),
            ("10e18", "10e18"),
            ("1e19", "10e18"),
            ("1e100", "10e99"),
            ("99999999999999999999999999", "99999999999999999999999999"),
            ("9223372036854775807Ki", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("1000E", "1"),
            ("0.5n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("1.1Ki", "1126400m"),
            ("Gi", "0"),
            ("-", "0"),
            (".", "0"),
            ("e3", "0"),
            ("00", "0"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("5E", "5E"),
            (".5", "500m"),
            ("1.", "1."),
            ("128974848", "128974848"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775808"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expect), "{text}");
        }
        for (text, expect) in [
            ("1n", "1m"),
            ("1500u", "2m"),
            ("1000u", "1m"),
            ("0.1234567891", "124m"),
            ("-1n", "-1m"),
            ("1e-9", "1e-3"),
            ("1e-100", "1e-3"),
            ("100m", "100m"),
            ("1E-3", "1E-3"),
            ("1.1Ki", "1126400m"),
            ("1024Ki", "1Mi"),
        ] {
            assert_eq!(canonical_milli(text).as_deref(), Ok(expect), "{text}");
        }
        assert_eq!([" 1 ", "\u{a0}1", "1\n", "\t1"].map(trimmed), ["1", "1", "1\n", "\t1"]);
        for bad in ["", "x", "1x", "1 ", "1ee", "1Kii", "1e--3", "1,5", "Pi", "1e3m"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }
}
