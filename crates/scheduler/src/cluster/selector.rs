//! Selecting nodes by labels and name.

use serde::Deserialize;

use super::Symbol;

/// A term of a node selector: all its requirements hold. Without any, it selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub labels: Vec<Requirement>,
    pub fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: Symbol,
    pub operator: Operator,
    pub values: Vec<Symbol>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

impl Requirement {
    pub fn matches(&self, value: Option<&Symbol>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt | Operator::Lt => {
                let number = |symbol: &Symbol| symbol.as_str().parse::<i64>().ok();
                match (value.and_then(number), self.values.first().and_then(number)) {
                    (Some(own), Some(bound)) if self.operator == Operator::Gt => own > bound,
                    (Some(own), Some(bound)) => own < bound,
                    _ => false,
                }
            }
        }
    }
}

impl Term {
    pub fn matches(&self, name: &Symbol, labels: &Labels) -> bool {
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        self.labels.iter().all(|requirement| requirement.matches(labels.get(&requirement.key)))
            // `metadata.name` is the only field there is.
            && self.fields.iter().all(|requirement| requirement.matches(Some(name)))
    }

    /// The names this term is restricted to, if it is.
    pub fn names(&self) -> Option<Vec<Symbol>> {
        let mut names: Option<Vec<Symbol>> = None;
        for requirement in &self.fields {
            if requirement.operator == Operator::In {
                names = Some(match names {
                    Some(names) => {
                        names.into_iter().filter(|name| requirement.values.contains(name)).collect()
                    }
                    None => requirement.values.clone(),
                });
            }
        }
        names
    }
}

/// A node's labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(Symbol, Symbol)>);

impl Labels {
    pub fn new(mut labels: Vec<(Symbol, Symbol)>) -> Labels {
        labels.sort_unstable();
        Labels(labels)
    }

    /// The same by text, for selectors of labels in general.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.as_str() == key).map(|(_, value)| value.as_str())
    }

    pub fn get(&self, key: &Symbol) -> Option<&Symbol> {
        let at = self.0.binary_search_by(|(own, _)| own.cmp(key)).ok()?;
        Some(&self.0[at].1)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RawTerm {
    match_expressions: Vec<RawRequirement>,
    match_fields: Vec<RawRequirement>,
}

#[derive(Deserialize)]
struct RawRequirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

impl From<RawTerm> for Term {
    fn from(raw: RawTerm) -> Term {
        let compile = |requirements: Vec<RawRequirement>| {
            requirements
                .into_iter()
                .map(|raw| Requirement {
                    key: Symbol::new(&raw.key),
                    operator: raw.operator,
                    values: raw.values.iter().map(|value| Symbol::new(value)).collect(),
                })
                .collect()
        };
        Term { labels: compile(raw.match_expressions), fields: compile(raw.match_fields) }
    }
}
