//! Numbers that may be given as a share of another.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a share that is no whole number goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Round {
    Up,
    Down,
}

/// The number meant: itself, or `"n%"` of `total`. Text of any other form counts as 0, which validation
/// does not let through.
pub fn resolve(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let Some(percent) = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()) else {
                return 0;
            };
            let product = percent * i64::from(total);
            let share = match round {
                Round::Up => product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let check = |text: &str, total, round, expect| {
            let value = IntOrString::String(text.to_owned());
            assert_eq!(resolve(Some(&value), total, round), expect, "{text} of {total} {round:?}");
        };
        check("25%", 3, Round::Up, 1);
        check("25%", 3, Round::Down, 0);
        check("100%", 7, Round::Down, 7);
        check("0%", 7, Round::Up, 0);
        check("30%", 10, Round::Up, 3);
        assert_eq!(resolve(Some(&IntOrString::Int(4)), 1, Round::Up), 4);
        assert_eq!(resolve(None, 10, Round::Up), 0);
    }
}
