//! Amounts of resources: `100m`, `1.5Gi`, `2e3`. Stored as a whole number of billionths, so that arithmetic is exact;
//! anything finer is rounded up, and the bound is that of 64-bit integers, as the API has it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use api::Tree;

const NANOS: i128 = 1_000_000_000;
const MAX: i128 = i64::MAX as i128 * NANOS;

pub use api::quantity::Format;

#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    pub fn new(value: i64, format: Format) -> Quantity {
        Quantity { nanos: value as i128 * NANOS, format }
    }

    pub fn from_milli(value: i128, format: Format) -> Quantity {
        Quantity { nanos: value.saturating_mul(1_000_000).clamp(-MAX, MAX), format }
    }

    /// A JSON string or number.
    pub fn from_tree(tree: &Tree) -> Result<Quantity, Error> {
        match tree {
            Tree::String(text) => Quantity::parse(api::quantity::trimmed(text)),
            Tree::Number(number) => Quantity::parse(&number.to_string()),
            Tree::Null => Ok(Quantity::ZERO),
            _ => Err(Error::Format),
        }
    }

    pub fn parse(text: &str) -> Result<Quantity, Error> {
        let parts = api::quantity::parts(text).map_err(|problem| match problem {
            api::quantity::SUFFIX => Error::Suffix,
            api::quantity::NUMERIC => Error::Numeric,
            _ => Error::Format,
        })?;
        let magnitude = scale(parts.whole, parts.fraction, parts.base, parts.exponent).min(MAX);
        let nanos = if parts.negative { -magnitude } else { magnitude };
        Ok(Quantity { nanos, format: parts.format })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        (self.nanos.signum() * ceil(self.nanos.abs(), NANOS)) as i64
    }

    /// Thousandths, rounded away from zero.
    pub fn milli(&self) -> i128 {
        self.nanos.signum() * ceil(self.nanos.abs(), 1_000_000)
    }

    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn sign(&self) -> Ordering {
        self.nanos.cmp(&0)
    }

    /// No finer than one unit.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANOS == 0
    }

    /// The sum; a zero takes the other's format.
    pub fn add(&self, other: &Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: (self.nanos + other.nanos).clamp(-MAX, MAX), format }
    }

    pub fn sub(&self, other: &Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: (self.nanos - other.nanos).clamp(-MAX, MAX), format }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Quantity::parse(text)
    }
}

/// The canonical form: no fraction, the largest suffix that needs none.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::BinarySi && self.is_integer() && self.nanos.abs() >= 1024 * NANOS;
        if binary {
            let (mut value, mut power) = (self.nanos / NANOS, 0);
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut value, mut exponent) = (self.nanos, -9);
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (_, 0) => write!(f, "{value}"),
            (Format::DecimalExponent, _) => write!(f, "{value}e{exponent}"),
            _ => {
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][((exponent + 9) / 3) as usize];
                write!(f, "{value}{suffix}")
            }
        }
    }
}

/// Whether an amount of bytes is warned of as a fraction: upstream counts it in thousandths with 64 bits, of which an overflow leaves
/// the lower ones, or zero.
pub fn looks_fractional(text: &str) -> bool {
    let Ok(parts) = api::quantity::parts(text) else { return false };
    let (whole, fraction) = (parts.whole.len() as i64, parts.fraction.len() as i64);
    let exponent = i64::from(parts.exponent);
    let (room, scale, doubled) = match parts.base {
        10 => (18 - whole - fraction, exponent - fraction, 0),
        _ if fraction > 0 => (-1, -fraction, exponent),
        _ => (14 - whole - exponent * 3 / 10, 0, exponent),
    };
    let digits = parts.whole.bytes().chain(parts.fraction.bytes()).map(|byte| u64::from(byte - b'0'));
    let low = digits.fold(0u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(digit));
    let low = low.wrapping_shl(doubled as u32);
    // in thousandths
    let scale = scale + 3;
    if scale < 0 {
        return Quantity::parse(text).is_ok_and(|amount| amount.milli() % 1000 != 0);
    }
    let times = |value: u64| (0..scale.min(64)).fold(value, |value, _| value.wrapping_mul(10));
    let milli = match (room >= 0, scale) {
        // few digits are scaled step by step, but for these
        (true, 0 | 1 | 2 | 3 | 6 | 9) | (false, _) => times(low),
        (true, _) => {
            let step = |value: i64, _| value.checked_mul(10);
            (0..scale.min(64)).try_fold(low as i64, step).unwrap_or(0) as u64
        }
    };
    milli as i64 % 1000 != 0
}

fn ceil(value: i128, unit: i128) -> i128 {
    value.div_euclid(unit) + i128::from(value.rem_euclid(unit) != 0)
}

/// `whole.fraction × base^exponent` in billionths, rounded up, cut off above the bound.
fn scale(whole: &str, fraction: &str, base: u32, exponent: i32) -> i128 {
    let mut mantissa: i128 = 0;
    let mut decimals: i32 = 0;
    let mut dropped = false;
    for (index, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = i128::from(byte - b'0');
        if mantissa > 100_000_000_000_000_000_000_000 {
            if index < whole.len() {
                decimals -= 1;
            }
            dropped |= digit != 0;
            continue;
        }
        mantissa = mantissa * 10 + digit;
        if index >= whole.len() {
            decimals += 1;
        }
    }
    if mantissa == 0 {
        return i128::from(dropped);
    }
    let mut ten = 9 - i64::from(decimals);
    if base == 10 {
        ten += i64::from(exponent);
    } else {
        // At most 2^60 times 10^24: beyond the bound anyway when it does not fit.
        match mantissa.checked_mul(1i128 << exponent) {
            Some(product) => mantissa = product,
            None => return MAX,
        }
    }
    if ten >= 0 {
        let factor = u32::try_from(ten).ok().and_then(|ten| 10i128.checked_pow(ten));
        return factor.and_then(|factor| mantissa.checked_mul(factor)).unwrap_or(MAX);
    }
    match u32::try_from(ten.unsigned_abs()).ok().and_then(|ten| 10i128.checked_pow(ten)) {
        Some(divisor) => ceil(mantissa, divisor),
        None => 1,
    }
}

#[cfg(test)]
mod tests;
