//! Which objects a list or watch is about: namespace, labels, fields.

use std::borrow::Cow;

use machinery::{fields, labels};

use super::entry::Entry;
use super::kind::Kind;

/// A selection within one kind.
#[derive(Clone, Default)]
pub struct Filter {
    /// Empty: all namespaces.
    pub namespace: String,
    pub labels: Option<labels::Selector>,
    terms: Vec<Term>,
}

#[derive(Clone)]
struct Term {
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
        kind: &Kind,
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
            terms.push(Term { field, value: term.value.clone(), negated: term.negated });
        }
        let labels = labels.filter(|labels| !labels.is_everything());
        Ok(Filter { namespace: namespace.to_owned(), labels, terms })
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
        let field = |term: &Term| -> Cow<'_, str> {
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
