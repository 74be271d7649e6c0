//! Declared types: what a schema says of a value. The checker reads fields and types from them, the cost estimate the largest
//! sizes, and values of objects get their types from them at run time.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::types::Type;

/// Largest request in bytes; what sizes are derived from where a schema has no limits of its own.
pub const MAX_REQUEST: u64 = 3 * 1024 * 1024;

/// A type with its limits.
#[derive(Clone, Debug)]
pub struct DeclType {
    pub kind: DeclKind,
    /// Most characters, items or entries.
    pub max_elements: u64,
    /// Fewest bytes as JSON.
    pub min_size: u64,
    /// Null is a value of it.
    pub nullable: bool,
}

#[derive(Clone, Debug)]
pub enum DeclKind {
    /// Known at run time only, such as an integer or a string.
    Dyn,
    Bool,
    Int,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    Duration,
    /// A date and time, or a date alone.
    Timestamp {
        date: bool,
    },
    /// An amount of a resource.
    Quantity,
    List {
        element: Arc<DeclType>,
        semantics: ListSemantics,
    },
    Map(Arc<DeclType>),
    Object(DeclObject),
}

/// What equality and addition of lists go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListSemantics {
    #[default]
    Atomic,
    Set,
    /// Associative, with the names of its keys.
    Map(Vec<String>),
}

/// Fields of an object by their identifiers.
#[derive(Clone, Debug, Default)]
pub struct DeclObject {
    /// Name of the type; set by [`DeclType::named`].
    pub name: Arc<str>,
    pub fields: FxHashMap<Arc<str>, DeclField>,
}

#[derive(Clone, Debug)]
pub struct DeclField {
    /// The name in JSON, which need not be an identifier.
    pub json: Arc<str>,
    pub of: Arc<DeclType>,
}

impl DeclType {
    pub fn new(kind: DeclKind, max_elements: u64, min_size: u64) -> DeclType {
        DeclType { kind, max_elements, min_size, nullable: false }
    }

    /// A list of at most so many items.
    pub fn list(element: DeclType, max: u64) -> DeclType {
        let kind = DeclKind::List { element: Arc::new(element), semantics: ListSemantics::Atomic };
        DeclType::new(kind, max, 2)
    }

    /// A map from strings of at most so many entries.
    pub fn map(value: DeclType, max: u64) -> DeclType {
        DeclType::new(DeclKind::Map(Arc::new(value)), max, 2)
    }

    /// An object whose fields have these names in JSON. Fields whose names cannot be written as identifiers are left out.
    pub fn object<'f>(fields: impl IntoIterator<Item = (&'f str, DeclType)>) -> DeclType {
        let mut object = DeclObject::default();
        for (json, of) in fields {
            if let Some(identifier) = crate::escape::escape(json) {
                let field = DeclField { json: Arc::from(json), of: Arc::new(of) };
                object.fields.insert(Arc::from(identifier), field);
            }
        }
        DeclType::new(DeclKind::Object(object), 0, 2)
    }

    pub fn dynamic() -> DeclType {
        DeclType::new(DeclKind::Dyn, MAX_REQUEST - 2, 1)
    }

    pub fn boolean() -> DeclType {
        DeclType::new(DeclKind::Bool, 0, 4)
    }

    pub fn int() -> DeclType {
        DeclType::new(DeclKind::Int, 0, 1)
    }

    pub fn double() -> DeclType {
        DeclType::new(DeclKind::Double, 0, 1)
    }

    /// A string of at most so many bytes.
    pub fn string(max: u64) -> DeclType {
        DeclType::new(DeclKind::String, max, 2)
    }

    /// How often a value of the type can be in the largest request, for the cost of rules below lists and maps without limits.
    pub fn max_cardinality(&self) -> u64 {
        MAX_REQUEST / (self.min_size + 1)
    }

    /// How the checker sees it.
    pub fn of(&self) -> Type {
        match &self.kind {
            DeclKind::Dyn => Type::Dyn,
            DeclKind::Bool => Type::Bool,
            DeclKind::Int => Type::Int,
            DeclKind::Double => Type::Double,
            DeclKind::String => Type::String,
            DeclKind::Bytes => Type::Bytes,
            DeclKind::Duration => Type::Duration,
            DeclKind::Timestamp { .. } => Type::Timestamp,
            DeclKind::Quantity => Type::object("kubernetes.Quantity"),
            DeclKind::List { element, .. } => Type::list(element.of()),
            DeclKind::Map(value) => Type::map(Type::String, value.of()),
            DeclKind::Object(object) => Type::Object(object.name.clone()),
        }
    }

    /// The same with a name for each object in it, by its path below `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> DeclType {
        let mut named = self.clone();
        match &mut named.kind {
            DeclKind::List { element, .. } => *element = Arc::new(element.named(&format!("{name}.@idx"))),
            DeclKind::Map(value) => *value = Arc::new(value.named(&format!("{name}.@elem"))),
            DeclKind::Object(object) => {
                if object.name.is_empty() {
                    object.name = Arc::from(name);
                }
                let name = object.name.clone();
                for (identifier, field) in &mut object.fields {
                    field.of = Arc::new(field.of.named(&format!("{name}.{identifier}")));
                }
            }
            _ => {}
        }
        named
    }

    /// Visits all objects in it.
    pub(crate) fn objects(self: &Arc<Self>, visit: &mut dyn FnMut(&Arc<str>, &Arc<DeclType>)) {
        match &self.kind {
            DeclKind::List { element, .. } => element.objects(visit),
            DeclKind::Map(value) => value.objects(visit),
            DeclKind::Object(object) => {
                visit(&object.name, self);
                object.fields.values().for_each(|field| field.of.objects(visit));
            }
            _ => {}
        }
    }

    pub(crate) fn field(&self, identifier: &str) -> Option<&DeclField> {
        match &self.kind {
            DeclKind::Object(object) => object.fields.get(identifier),
            _ => None,
        }
    }

    /// Whether values of the type are a map's or an object's.
    pub(crate) fn element(&self) -> Option<&Arc<DeclType>> {
        match &self.kind {
            DeclKind::List { element, .. } => Some(element),
            DeclKind::Map(value) => Some(value),
            _ => None,
        }
    }
}
