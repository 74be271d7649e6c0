//! Ways to read fields of objects.

use serde::{Deserialize, Deserializer};

use crate::cluster::Symbol;

/// Reads `null` as an empty list.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) fn symbol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Symbol, D::Error> {
    Ok(Symbol::new(&String::deserialize(deserializer)?))
}
