//! Fields that hold a number or a percentage, or a port's number or name.

use api::Tree;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for IntOrString: invalid type: string is not a percentage")]
pub struct NotScalable;

/// The percentage in `25%`.
pub fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A number as it is, a percentage of `total`.
pub fn scaled(value: &Tree, total: i64, round: Round) -> Result<i64, NotScalable> {
    if let Some(number) = value.as_i64() {
        return Ok(number);
    }
    let percent = value.as_str().and_then(percent).ok_or(NotScalable)?;
    let product = percent.saturating_mul(total);
    Ok(match round {
        Round::Up => product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0),
        Round::Down => product.div_euclid(100),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn values() {
        for (value, total, round, expect) in [
            (json!(3), 10, Round::Up, Ok(3)),
            (json!("25%"), 10, Round::Up, Ok(3)),
            (json!("25%"), 10, Round::Down, Ok(2)),
            (json!("0%"), 10, Round::Up, Ok(0)),
            (json!("100%"), 7, Round::Down, Ok(7)),
            (json!("x"), 7, Round::Down, Err(NotScalable)),
            (json!("%"), 7, Round::Down, Err(NotScalable)),
        ] {
            assert_eq!(scaled(&value, total, round), expect, "{value}");
        }
    }
}
