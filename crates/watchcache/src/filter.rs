//! Which objects a list or watch is about: namespace, labels, fields.

use std::sync::Arc;

use machinery::{fields, labels};
use registry::Kind;
use registry::conversion::Conversion;

use crate::entry::{Attributes, Entry};
use crate::postings::Term;
use crate::stored::{self, Stored};

/// A selection within one kind.
#[derive(Clone, Default)]
pub struct Filter {
    /// Empty: all namespaces.
    pub namespace: String,
    pub labels: Option<labels::Selector>,
    terms: Vec<FieldTerm>,
    /// The index term that every match has, if the selectors imply one.
    posted: Option<Term>,
    /// The version whose labels and fields are selected by, where they are not those of every stored object.
    version: Option<Arc<Kind>>,
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
    /// Selects objects of a cache as they are at version `to` of their kind. `Err` is the field label that this does not have.
    pub fn new(
        kind: &Stored,
        to: &Arc<Kind>,
        namespace: &str,
        labels: Option<labels::Selector>,
        fields: &fields::Selector,
    ) -> Result<Filter, String> {
        let labels = labels.filter(|labels| !labels.is_everything());
        let is_own = |term: &fields::Term| matches!(&*term.field, "metadata.name" | "metadata.namespace");
        let converts = match kind.resource.conversion {
            // What a webhook makes of an object can have other labels, and fields with other values.
            Conversion::Other(_) => labels.is_some() || !fields.terms.iter().all(is_own),
            _ => {
                let is_stored = |term: &fields::Term| is_own(term) || kind.field(&term.field).is_some();
                to.custom().is_some() && !fields.terms.iter().all(is_stored)
            }
        };
        let selectable = if converts { stored::selectable(to) } else { Vec::new() };
        let index = |label: &str| match converts {
            true => selectable.iter().position(|(own, _)| own == label),
            false => kind.field(label),
        };
        let mut terms = Vec::new();
        for term in &fields.terms {
            let field = match term.field.as_str() {
                "metadata.name" => FieldOf::Name,
                "metadata.namespace" => FieldOf::Namespace,
                label => FieldOf::Index(index(label).ok_or_else(|| label.to_owned())?),
            };
            terms.push(FieldTerm { field, value: term.value.clone(), negated: term.negated });
        }
        let field = terms.iter().find_map(|term| match term.field {
            FieldOf::Index(index)
                if !term.negated && !term.value.is_empty() && kind.indexed.contains(&index) =>
            {
                Some(Term::field(index, &term.value))
            }
            _ => None,
        });
        let label = || labels.as_ref()?.requirements().iter().find_map(one_value);
        let posted = if converts { None } else { field.or_else(label) };
        let version = converts.then(|| Arc::clone(to));
        Ok(Filter { namespace: namespace.to_owned(), labels, terms, posted, version })
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
            FieldOf::Index(index) if !term.negated && !term.value.is_empty() && self.version.is_none() => {
                Some((index, &term.value))
            }
            _ => None,
        });
        match field {
            Some((index, value)) => Handle::Field(index, value.as_str().into()),
            None if self.namespace.is_empty() => Handle::All,
            None => Handle::Namespace(self.namespace.as_str().into()),
        }
    }

    /// Whether objects have to be seen at another version than the one that they are stored at.
    pub fn converts(&self) -> bool {
        self.version.is_some()
    }

    /// The version at which an object has to be seen before it is known whether it matches.
    pub fn unseen(&self, entry: &Entry) -> Option<&Arc<Kind>> {
        let version = self.version.as_ref()?;
        self.matches(entry).is_none().then_some(version)
    }

    /// Whether it matches, or may do so at another version, at which nobody has seen it yet.
    pub fn may_match(&self, entry: &Entry) -> bool {
        self.matches(entry) != Some(false)
    }

    /// `None` where that is known only of the object at another version, at which nobody has seen it yet.
    pub fn matches(&self, entry: &Entry) -> Option<bool> {
        if !self.namespace.is_empty() && *entry.namespace != *self.namespace {
            return Some(false);
        }
        let names = self.terms.iter().all(|term| match term.field {
            FieldOf::Name => (*entry.name == *term.value) != term.negated,
            FieldOf::Namespace => (*entry.namespace == *term.value) != term.negated,
            FieldOf::Index(_) => true,
        });
        if !names {
            return Some(false);
        }
        match &self.version {
            None => Some(self.selects(entry.attributes())),
            Some(version) => entry.attributes_at(version, |attributes| self.selects(attributes)),
        }
    }

    fn selects(&self, attributes: &Attributes) -> bool {
        let fields = self.terms.iter().all(|term| match term.field {
            FieldOf::Index(index) => (attributes.field(index) == term.value) != term.negated,
            FieldOf::Name | FieldOf::Namespace => true,
        });
        fields && self.labels.as_ref().is_none_or(|labels| labels.matches_with(|key| attributes.label(key)))
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
