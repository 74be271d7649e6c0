//! Label selectors: the text form (`a=b,c in (d,e),!f`), the structured form, and matching.

mod parse;

use std::fmt;

use api::Tree;
use api::status::Cause;

use crate::bounds::is_full;
use crate::fieldpath::Path;

pub use parse::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl Operator {
    /// The operator of a `NodeSelectorRequirement`; `None` for a name that it does not have.
    pub fn of_node_selector(name: &str) -> Option<Operator> {
        Some(match name {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, each once.
    pub values: Vec<String>,
}

impl Requirement {
    pub fn new(key: impl Into<String>, operator: Operator, mut values: Vec<String>) -> Requirement {
        values.sort();
        values.dedup();
        Requirement { key: key.into(), operator, values }
    }

    /// `value` is the label's, `None` where the object lacks it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|one| one == value);
        match self.operator {
            Operator::In | Operator::Equals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let left = value.and_then(|value| value.parse::<i64>().ok());
                let right = self.values.first().and_then(|value| value.parse::<i64>().ok());
                match (left, right) {
                    (Some(left), Some(right)) if self.operator == Operator::GreaterThan => left > right,
                    (Some(left), Some(right)) => left < right,
                    _ => false,
                }
            }
        }
    }
}

/// Requirements of which all must hold; without any it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    pub fn everything() -> Selector {
        Selector::default()
    }

    pub fn nothing() -> Selector {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// Parses what `kubectl -l` and `labelSelector=` take.
    pub fn parse(text: &str) -> Result<Selector, Error> {
        parse::parse(text).map(Selector::from)
    }

    /// `meta/v1 LabelSelector`; null selects nothing, an empty one everything.
    pub fn from_label_selector(selector: &Tree) -> Result<Selector, String> {
        let Some(selector) = selector.as_object() else {
            return Ok(Selector::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Tree::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement {
                key: key.to_string(),
                operator: Operator::Equals,
                values: vec![value],
            });
        }
        for expression in selector.get("matchExpressions").and_then(Tree::as_array).into_iter().flatten() {
            let text = |name: &str| expression.get(name).and_then(Tree::as_str).unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{:?} is not a valid label selector operator", other)),
            };
            let values = expression.get("values").and_then(Tree::as_array).into_iter().flatten();
            let values = values.filter_map(Tree::as_str).map(str::to_owned).collect();
            requirements.push(Requirement::new(text("key"), operator, values));
        }
        Ok(Selector::from(requirements))
    }

    /// A map of labels that must all be there, as Services and ReplicationControllers have.
    pub fn from_map(labels: &Tree) -> Selector {
        let labels = labels.as_object().into_iter().flatten();
        Selector::from_pairs(labels.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())))
    }

    pub fn from_pairs<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Selector {
        let requirement = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            operator: Operator::Equals,
            values: vec![value.to_owned()],
        };
        Selector::from(labels.into_iter().map(requirement).collect::<Vec<_>>())
    }

    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// `label` answers with an object's value for a key.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    pub fn matches<'a, I>(&self, labels: I) -> bool
    where
        I: IntoIterator<Item = (&'a str, &'a str)>,
        I::IntoIter: Clone,
    {
        let labels = labels.into_iter();
        self.matches_with(|key| labels.clone().find(|(name, _)| *name == key).map(|(_, value)| value))
    }

    /// The labels of an object's tree (`metadata.labels`).
    pub fn matches_object(&self, object: &Tree) -> bool {
        let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
        self.matches_map(labels.unwrap_or(&Tree::Null))
    }

    /// A tree that is a map of labels, or null.
    pub fn matches_map(&self, labels: &Tree) -> bool {
        self.matches_with(|key| labels.get(key).and_then(Tree::as_str))
    }
}

impl From<Vec<Requirement>> for Selector {
    fn from(mut requirements: Vec<Requirement>) -> Selector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.requirements.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// `kubectl`'s form of a structured selector (`<none>` for none), as tables show it.
pub fn format_label_selector(selector: &Tree) -> String {
    match Selector::from_label_selector(selector) {
        Ok(selector) if selector.requirements.is_empty() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}

/// The field errors of a `LabelSelector`.
pub fn validate_label_selector(selector: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(labels) = selector.get("matchLabels") {
        validate_labels(labels, &path.field("matchLabels"), errors);
    }
    let expressions = selector.get("matchExpressions").and_then(Tree::as_array);
    let list = path.field("matchExpressions");
    for (index, expression) in expressions.into_iter().flatten().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = list.index(index);
        let key = expression.get("key").and_then(Tree::as_str).unwrap_or_default();
        let operator = expression.get("operator").and_then(Tree::as_str).unwrap_or_default();
        let values = expression.get("values").and_then(Tree::as_array).map(Vec::as_slice).unwrap_or_default();
        match operator {
            "In" | "NotIn" if values.is_empty() => errors
                .push(at.field("values").required("must be specified when `operator` is 'In' or 'NotIn'")),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(
                at.field("values")
                    .forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
            ),
            "Exists" | "DoesNotExist" => {}
            other => errors.push(at.field("operator").invalid(other, "not a valid selector operator")),
        }
        for problem in crate::names::qualified_name(key) {
            errors.push(at.field("key").invalid(key, &problem));
        }
        for (position, value) in values.iter().filter_map(Tree::as_str).enumerate() {
            if is_full(errors) {
                break;
            }
            for problem in crate::names::label_value(value) {
                errors.push(at.field("values").index(position).invalid(value, &problem));
            }
        }
    }
}

/// The field errors of a map of labels.
pub fn validate_labels(labels: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if is_full(errors) {
            break;
        }
        for problem in crate::names::qualified_name(key) {
            errors.push(path.invalid(key.as_str(), &problem));
        }
        let value = value.as_str().unwrap_or_default();
        for problem in crate::names::label_value(value) {
            errors.push(path.invalid(value, &problem));
        }
    }
}

#[cfg(test)]
mod tests;
