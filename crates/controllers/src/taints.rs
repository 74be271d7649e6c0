//! Taints and tolerations.

use crate::views::{Taint, Toleration};

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    if !toleration.effect.is_empty() && toleration.effect != taint.effect {
        return false;
    }
    if !toleration.key.is_empty() && toleration.key != taint.key {
        return false;
    }
    match toleration.operator.as_str() {
        "" | "Equal" => toleration.value == taint.value,
        "Exists" => true,
        "Lt" | "Gt" => match (toleration.value.parse::<i64>(), taint.value.parse::<i64>()) {
            (Ok(wanted), Ok(given)) if toleration.operator == "Lt" => given < wanted,
            (Ok(wanted), Ok(given)) => given > wanted,
            _ => false,
        },
        _ => false,
    }
}

/// The first of the taints with one of the effects that nothing tolerates.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        effects.contains(&taint.effect.as_str())
            && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let taint =
            Taint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into(), time_added: None };
        let check = |key: &str, operator: &str, value: &str, effect: &str, expect: bool| {
            let toleration = Toleration {
                key: key.into(),
                operator: operator.into(),
                value: value.into(),
                effect: effect.into(),
                toleration_seconds: None,
            };
            assert_eq!(tolerates(&toleration, &taint), expect, "{toleration:?}");
        };
        check("k", "Equal", "v", "NoSchedule", true);
        check("k", "", "v", "", true);
        check("k", "Equal", "w", "NoSchedule", false);
        check("k", "Exists", "", "NoExecute", false);
        check("", "Exists", "", "", true);
        check("l", "Exists", "", "", false);
    }
}
