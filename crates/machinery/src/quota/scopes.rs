//! Scopes: which objects a quota is about.

/// A scope that a quota names, or an expression of its selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    pub name: &'a str,
    pub operator: &'a str,
    pub values: Values<'a>,
}

/// The values of an expression, in the form in which the quota was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values<'a> {
    Texts(&'a [String]),
    Trees(&'a [api::Tree]),
}

impl<'a> Values<'a> {
    fn any(&self, wanted: &str) -> bool {
        match self {
            Values::Texts(texts) => texts.iter().any(|text| text == wanted),
            Values::Trees(trees) => trees.iter().any(|tree| tree == wanted),
        }
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Values::Texts(texts) => Box::new(texts.iter().map(String::as_str)),
            Values::Trees(trees) => Box::new(trees.iter().filter_map(api::Tree::as_str)),
        }
    }
}

impl<'a> Scope<'a> {
    /// A scope of `spec.scopes`: what it speaks of has to be there.
    pub fn named(name: &'a str) -> Scope<'a> {
        Scope { name, operator: "Exists", values: Values::Texts(&[]) }
    }

    /// An expression of `spec.scopeSelector`.
    pub fn of_texts(name: &'a str, operator: &'a str, values: &'a [String]) -> Scope<'a> {
        Scope { name, operator, values: Values::Texts(values) }
    }

    /// [`Scope::of_texts`], of a tree.
    pub fn of_trees(name: &'a str, operator: &'a str, values: &'a [api::Tree]) -> Scope<'a> {
        Scope { name, operator, values: Values::Trees(values) }
    }

    /// Whether the expression holds for an object's class; without one it is empty.
    pub(super) fn admits(&self, class: &str) -> bool {
        let named = !class.is_empty();
        match self.operator {
            "Exists" => named,
            "DoesNotExist" => !named,
            "In" => named && self.values.any(class),
            "NotIn" => !named || !self.values.any(class),
            _ => false,
        }
    }
}

/// As Go prints a requirement, which refusals do.
impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values: Vec<&str> = self.values.iter().collect();
        write!(f, "{{{} {} [{}]}}", self.name, self.operator, values.join(" "))
    }
}
