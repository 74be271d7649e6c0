//! Types of expressions, and how upstream's messages print them.

use std::fmt;
use std::sync::Arc;

/// A type of the language. Equality is structural.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Known at run time only.
    Dyn,
    /// Like [`Type::Dyn`]; what schemas without a type have.
    Any,
    /// The type of an expression that the checker has refused; agrees with every type, so that one error is reported once.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// The type of types, with the type that it is of where that is known.
    Type(Option<Arc<Type>>),
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// A structured type, by name: those of schemas, and several of Kubernetes' libraries.
    Object(Arc<str>),
    /// A type without fields, with parameters: `optional_type(int)`, `net.IP`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// A parameter of a declaration, or a variable of the checker.
    Param(Arc<str>),
}

pub const OPTIONAL: &str = "optional_type";

impl Type {
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    pub fn object(name: &str) -> Type {
        Type::Object(Arc::from(name))
    }

    pub fn opaque(name: &str) -> Type {
        Type::Opaque(Arc::from(name), Arc::from([]))
    }

    pub fn optional(of: Type) -> Type {
        Type::Opaque(Arc::from(OPTIONAL), Arc::from([of]))
    }

    pub fn param(name: &str) -> Type {
        Type::Param(Arc::from(name))
    }

    pub fn type_of(of: Type) -> Type {
        Type::Type(Some(Arc::new(of)))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Type::Error)
    }

    /// The type within an optional one.
    pub fn optional_of(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, parameters) if &**name == OPTIONAL => parameters.first(),
            _ => None,
        }
    }

    /// Values whose size is one whatever they are.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Timestamp | Type::Duration => true,
            _ => self.optional_of().is_some_and(Type::is_scalar),
        }
    }

    /// As upstream's messages about the results of expressions print types: `google.protobuf.Timestamp`, `list(string)`.
    pub fn full_name(&self) -> String {
        match self {
            Type::Type(Some(of)) => format!("type({})", of.full_name()),
            Type::List(element) => format!("list({})", element.full_name()),
            Type::Map(types) => format!("map({}, {})", types.0.full_name(), types.1.full_name()),
            Type::Opaque(name, of) if !of.is_empty() => {
                format!("{name}({})", of.iter().map(Type::full_name).collect::<Vec<_>>().join(", "))
            }
            _ => self.name().to_owned(),
        }
    }

    /// The name that `type(x)` shows at run time.
    pub fn name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Any => "google.protobuf.Any",
            Type::Error => "error",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::Type(_) => "type",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Object(name) | Type::Opaque(name, _) | Type::Param(name) => name,
        }
    }
}

/// As the checker's messages print types: `list(int)`, `map(string, dyn)`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("any"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::Type(Some(of)) => write!(f, "type({of})"),
            Type::List(element) => write!(f, "list({element})"),
            Type::Map(types) => write!(f, "map({}, {})", types.0, types.1),
            Type::Opaque(name, parameters) if !parameters.is_empty() => {
                write!(f, "{name}({})", join(parameters))
            }
            _ => f.write_str(self.name()),
        }
    }
}

/// Types separated by commas, as in the parentheses of a signature.
pub(crate) fn join(types: &[Type]) -> String {
    types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ")
}

/// Reads a type from a signature of the function tables: `list(A)`, `map(string, dyn)`, `kubernetes.URL`.
/// Single capital letters are parameters.
pub(crate) fn parse(text: &str) -> Type {
    let (name, inner) = match text.split_once('(') {
        Some((name, inner)) => (name, inner.strip_suffix(')').unwrap_or(inner)),
        None => (text, ""),
    };
    let parameters = split(inner);
    match (name, parameters.as_slice()) {
        ("dyn", _) => Type::Dyn,
        ("null", _) => Type::Null,
        ("bool", _) => Type::Bool,
        ("int", _) => Type::Int,
        ("uint", _) => Type::Uint,
        ("double", _) => Type::Double,
        ("string", _) => Type::String,
        ("bytes", _) => Type::Bytes,
        ("timestamp", _) => Type::Timestamp,
        ("duration", _) => Type::Duration,
        ("type", []) => Type::Type(None),
        ("type", [of]) => Type::type_of(parse(of)),
        ("list", [element]) => Type::list(parse(element)),
        ("map", [key, value]) => Type::map(parse(key), parse(value)),
        (OPTIONAL, [of]) => Type::optional(parse(of)),
        ("net.IP" | "net.CIDR", _) => Type::opaque(name),
        (name, _) if name.len() == 1 => Type::param(name),
        (name, _) => Type::object(name),
    }
}

/// Whether a type has parameters in it.
pub(crate) fn is_generic(of: &Type) -> bool {
    match of {
        Type::Param(_) => true,
        Type::List(of) | Type::Type(Some(of)) => is_generic(of),
        Type::Map(of) => is_generic(&of.0) || is_generic(&of.1),
        Type::Opaque(_, of) => of.iter().any(is_generic),
        _ => false,
    }
}

/// The parts of a list of types that are separated by commas outside of parentheses.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_as_they_are_read() {
        for text in [
            "list(int)",
            "map(string, list(dyn))",
            "optional_type(A)",
            "net.IP",
            "kubernetes.URL",
            "type(A)",
            "null",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(split("map(K, V), K"), ["map(K, V)", "K"]);
    }
}
