//! Arithmetic on amounts by resource.

use std::collections::BTreeMap;

use crate::Quantity;

/// Quantities by resource.
pub type Amounts = BTreeMap<String, Quantity>;

pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(known) => *known = known.add(amount),
            None => _ = sum.insert(name.clone(), *amount),
        }
    }
}

/// Raises each amount to the other's.
pub(super) fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if most.get(name).is_none_or(|known| known < amount) {
            most.insert(name.clone(), *amount);
        }
    }
}

/// How much more is used than before; zero where it is less.
pub fn growth(now: &Amounts, before: &Amounts) -> Amounts {
    let zero = |name: &String| (name.clone(), Quantity::ZERO);
    let mut growth: Amounts = before.keys().map(zero).collect();
    for (name, amount) in now {
        let more = before.get(name).map_or(*amount, |before| amount.sub(before));
        growth.insert(name.clone(), more.max(Quantity::ZERO));
    }
    growth
}

pub fn without_zeros(amounts: Amounts) -> Amounts {
    amounts.into_iter().filter(|(_, amount)| !amount.is_zero()).collect()
}

/// The amounts of those resources alone.
pub fn mask(amounts: &Amounts, keep: impl Fn(&str) -> bool) -> Amounts {
    amounts.iter().filter(|(name, _)| keep(name)).map(|(name, amount)| (name.clone(), *amount)).collect()
}

/// The resources of which more is used than is allowed.
pub fn exceeded(used: &Amounts, hard: &Amounts) -> Vec<String> {
    let over = hard.iter().filter(|(name, most)| used.get(*name).is_some_and(|used| used > *most));
    over.map(|(name, _)| name.clone()).collect()
}

/// `cpu=1,pods=3`, as refusals name amounts.
pub fn printed(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}
