//! Amounts of resources: the usual ones in columns of their own, others by name.

use std::collections::BTreeMap;

use machinery::quantity::Quantity;

use super::Symbol;

/// A resource by name, the usual ones apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
    EphemeralStorage,
    Other(Symbol),
}

impl Resource {
    pub fn new(name: &str) -> Resource {
        match name {
            "cpu" => Resource::Cpu,
            "memory" => Resource::Memory,
            "ephemeral-storage" => Resource::EphemeralStorage,
            _ => Resource::Other(Symbol::new(name)),
        }
    }
}

/// CPU in thousandths, all else in units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Huge pages and extended resources; few, and so a list.
    pub others: Vec<(Symbol, i64)>,
}

impl Resources {
    /// From a resource list as the API writes it. `pods` is not a resource that is requested.
    pub fn parse(list: &BTreeMap<String, Text>) -> Resources {
        let mut resources = Resources::default();
        for (name, text) in list {
            match name.as_str() {
                "cpu" => resources.cpu = text.milli(),
                "memory" => resources.memory = text.value(),
                "ephemeral-storage" => resources.ephemeral_storage = text.value(),
                "pods" => {}
                other => resources.others.push((Symbol::new(other), text.value())),
            }
        }
        resources
    }

    pub fn get(&self, resource: &Resource) -> i64 {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
            Resource::EphemeralStorage => self.ephemeral_storage,
            Resource::Other(name) => self.other(name),
        }
    }

    pub fn other(&self, name: &Symbol) -> i64 {
        self.others.iter().find(|(other, _)| other == name).map_or(0, |(_, amount)| *amount)
    }

    fn other_mut(&mut self, name: &Symbol) -> &mut i64 {
        let at = match self.others.iter().position(|(other, _)| other == name) {
            Some(at) => at,
            None => {
                self.others.push((name.clone(), 0));
                self.others.len() - 1
            }
        };
        &mut self.others[at].1
    }

    pub fn add(&mut self, other: &Resources) {
        self.apply(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.apply(other, i64::saturating_sub);
    }

    /// The larger of each.
    pub fn raise(&mut self, other: &Resources) {
        self.apply(other, std::cmp::max);
    }

    fn apply(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let own = self.other_mut(name);
            *own = with(*own, *amount);
        }
    }
}

/// A quantity as JSON has it: a string, or a bare number.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub enum Text {
    Text(String),
    Integer(i64),
    Number(f64),
}

impl Text {
    /// Thousandths, rounded up.
    pub fn milli(&self) -> i64 {
        match self {
            Text::Text(text) => match text.strip_suffix('m').unwrap_or(text).parse::<i64>() {
                Ok(number) if text.ends_with('m') => number,
                Ok(number) => number.saturating_mul(1000),
                Err(_) => clamp(parse(text).map_or(0, |quantity| quantity.milli())),
            },
            Text::Integer(number) => number.saturating_mul(1000),
            Text::Number(number) => (number * 1000.0).ceil() as i64,
        }
    }

    /// Units, rounded up.
    pub fn value(&self) -> i64 {
        match self {
            Text::Text(text) => {
                let (digits, factor) = match text.as_bytes() {
                    [.., b'K', b'i'] => (&text[..text.len() - 2], 1 << 10),
                    [.., b'M', b'i'] => (&text[..text.len() - 2], 1 << 20),
                    [.., b'G', b'i'] => (&text[..text.len() - 2], 1 << 30),
                    _ => (text.as_str(), 1i64),
                };
                match digits.parse::<i64>() {
                    Ok(number) => number.saturating_mul(factor),
                    Err(_) => parse(text).map_or(0, |quantity| quantity.value()),
                }
            }
            Text::Integer(number) => *number,
            Text::Number(number) => number.ceil() as i64,
        }
    }
}

fn parse(text: &str) -> Option<Quantity> {
    // The API server has validated it.
    Quantity::parse(text).ok()
}

fn clamp(number: i128) -> i64 {
    number.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}
