//! Which objects a list or watch is about: namespace, labels, fields.

use std::borrow::Cow;

use machinery::{fields, labels};

use super::entry::Entry;
use super::postings::Term;
use super::stored::Stored;

/// A selection within one kind.
#[derive(Clone, Default)]
pub struct Filter {
    /// Empty: all namespaces.
    pub namespace: String,
    pub labels: Option<labels::Selector>,
    terms: Vec<FieldTerm>,
    /// The index term that every match has, if the selectors imply one.
    posted: Option<Term>,
}

#[derive(Clone)]
struct FieldTerm {
    field: FieldOf,
    value: String,
    negated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldOf {
    Name,
    Namespace,
    Index(usize),
}

/// What a watcher or list is looked up by: the narrowest thing its filter requires.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Handle {
    All,
    Namespace(Box<str>),
    Name(Box<str>),
    Field(usize, Box<str>),
}

impl Filter {
    /// `Err` is the field label that the kind does not have.
    pub fn new(
        kind: &Stored,
        namespace: &str,
        labels: Option<labels::Selector>,
        fields: &fields::Selector,
    ) -> Result<Filter, String> {
        let mut terms = Vec::new();
        for term in &fields.terms {
            let field = match term.field.as_str() {
                "metadata.name" => FieldOf::Name,
                "metadata.namespace" => FieldOf::Namespace,
                label => FieldOf::Index(kind.field(label).ok_or_else(|| label.to_owned())?),
            };
            terms.push(FieldTerm { field, value: term.value.clone(), negated: term.negated });
        }
        let labels = labels.filter(|labels| !labels.is_everything());
        let field = terms.iter().find_map(|term| match term.field {
            FieldOf::Index(index)
                if !term.negated && !term.value.is_empty() && kind.indexed.contains(&index) =>
            {
                Some(Term::field(index, &term.value))
            }
            _ => None,
        });
        let label = || labels.as_ref()?.requirements().iter().find_map(one_value);
        let posted = field.or_else(label);
        Ok(Filter { namespace: namespace.to_owned(), labels, terms, posted })
    }

    /// Everything in a namespace, or everywhere.
    pub fn within(namespace: &str) -> Filter {
        Filter { namespace: namespace.to_owned(), ..Filter::default() }
    }

    /// Whether every object of the namespace matches.
    pub fn is_plain(&self) -> bool {
        self.labels.is_none() && self.terms.is_empty()
    }

    /// The one name it asks for.
    pub fn name(&self) -> Option<&str> {
        self.required(FieldOf::Name)
    }

    fn required(&self, field: FieldOf) -> Option<&str> {
        self.terms.iter().find(|term| !term.negated && term.field == field).map(|term| term.value.as_str())
    }

    /// The index term that every match has, if the selectors imply one.
    pub fn term(&self) -> Option<Term> {
        self.posted
    }

    pub fn handle(&self) -> Handle {
        if let Some(name) = self.name() {
            return Handle::Name(name.into());
        }
        let field = self.terms.iter().find_map(|term| match term.field {
            FieldOf::Index(index) if !term.negated && !term.value.is_empty() => Some((index, &term.value)),
            _ => None,
        });
        match field {
            Some((index, value)) => Handle::Field(index, value.as_str().into()),
            None if self.namespace.is_empty() => Handle::All,
            None => Handle::Namespace(self.namespace.as_str().into()),
        }
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        if !self.namespace.is_empty() && *entry.namespace != *self.namespace {
            return false;
        }
        let field = |term: &FieldTerm| -> Cow<'_, str> {
            match term.field {
                FieldOf::Name => Cow::Borrowed(&*entry.name),
                FieldOf::Namespace => Cow::Borrowed(&*entry.namespace),
                FieldOf::Index(index) => Cow::Borrowed(entry.field(index)),
            }
        };
        self.terms.iter().all(|term| (field(term) == term.value.as_str()) != term.negated)
            && self.labels.as_ref().is_none_or(|labels| labels.matches_with(|key| entry.label(key)))
    }
}

/// What objects with the one value that the requirement leaves to a label are posted under.
fn one_value(requirement: &labels::Requirement) -> Option<Term> {
    match (requirement.operator, requirement.values.as_slice()) {
        (labels::Operator::In | labels::Operator::Equals, [value]) => {
            Some(Term::label(&requirement.key, value))
        }
        _ => None,
    }
}
