//! What an expression may refer to: functions of a level, variables, and types of schemas.

use std::fmt;
use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;

use crate::decl::DeclType;
use crate::library::{self, Row, Run};
use crate::macros::Macros;
use crate::types::{self, Type};

/// The minor version of Kubernetes that expressions must be compatible with. It selects functions and their versions.
pub type Level = u32;

/// For expressions that are written now: readable by an API server one version older.
pub const NEW: Level = 36;
/// For expressions that are stored already: all that this version knows.
pub const STORED: Level = 37;

/// A function with its overloads, in the order in which they are tried.
pub(crate) struct Function {
    pub name: Arc<str>,
    pub overloads: Vec<Overload>,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Clone)]
pub(crate) struct Overload {
    pub id: &'static str,
    /// Called on its first argument.
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
    /// Has type parameters.
    pub generic: bool,
    pub run: Run,
}

type Functions = FxHashMap<Arc<str>, Arc<Function>>;

/// A variable: its name, and how the checker sees it.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub name: Arc<str>,
    pub of: Type,
    /// What is known of its sizes.
    pub declared: Option<Arc<DeclType>>,
}

/// What an expression may refer to. Cheap to clone and to extend.
#[derive(Clone)]
pub struct Environment {
    functions: Arc<Functions>,
    pub(crate) macros: Macros,
    variables: Vec<Variable>,
    objects: FxHashMap<Arc<str>, Arc<DeclType>>,
    /// Fields of the variable whose fields are evaluated when they are read.
    composed: Vec<(Arc<str>, Type)>,
    /// Expressions may make objects and patches.
    patches: bool,
    /// Values that are selected from a map by name are as large as its declared ones can be.
    pub(crate) sized_values: bool,
}

/// Name of the type of `variables`.
const COMPOSED: &str = "kubernetes.variables";
/// Names of the types of patches.
const OBJECT: &str = "Object";
const JSON_PATCH: &str = "JSONPatch";

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables).finish_non_exhaustive()
    }
}

/// What a name means.
pub(crate) enum Resolved<'e> {
    Variable(usize, &'e Type),
    Type(Type),
}

impl Environment {
    /// Kubernetes' libraries at a level, without variables.
    pub fn kubernetes(level: Level) -> Environment {
        Environment {
            functions: base(level),
            macros: Macros { optional: true, two_variables: true, sort_by: true, bind: false },
            variables: Vec::new(),
            objects: FxHashMap::default(),
            composed: Vec::new(),
            patches: false,
            sized_values: false,
        }
    }

    /// Adds the macro `cel.bind`.
    #[must_use]
    pub fn with_bind(mut self) -> Environment {
        self.macros.bind = true;
        self
    }

    /// Estimates sizes of what is selected from a map by name, of which nothing is known otherwise.
    #[must_use]
    pub(crate) fn with_sized_values(mut self) -> Environment {
        self.sized_values = true;
        self
    }

    /// Adds the types `Object`, `Object.spec` and so on, and `JSONPatch`, that mutations are made of.
    #[must_use]
    pub fn with_patches(mut self) -> Environment {
        let mut functions = self.functions.as_ref().clone();
        add_rows(&mut functions, library::PATCHES);
        self.functions = Arc::new(functions);
        self.patches = true;
        self
    }

    /// Adds the variable `variables`, whose fields are expressions of their own. An evaluation that reads one which is not
    /// known ends with [`EvalError::Variable`](crate::EvalError::Variable).
    #[must_use]
    pub fn with_composed(mut self, fields: impl IntoIterator<Item = (Arc<str>, Type)>) -> Environment {
        self.composed = fields.into_iter().collect();
        self.with_variable("variables", Type::object(COMPOSED))
    }

    /// Adds a variable of a type without a schema.
    #[must_use]
    pub fn with_variable(mut self, name: &str, of: Type) -> Environment {
        self.variables.push(Variable { name: Arc::from(name), of, declared: None });
        self
    }

    /// Adds a variable of a declared type; [`DeclType::named`] must have named its objects.
    #[must_use]
    pub fn with_declared(self, name: &str, declared: &Arc<DeclType>) -> Environment {
        let of = declared.of();
        self.with_sized(name, of, declared)
    }

    /// Adds a variable that is absent or of a declared type.
    #[must_use]
    pub fn with_optional(self, name: &str, declared: &Arc<DeclType>) -> Environment {
        let of = Type::optional(declared.of());
        self.with_sized(name, of, declared)
    }

    fn with_sized(mut self, name: &str, of: Type, declared: &Arc<DeclType>) -> Environment {
        declared.objects(&mut |name, object| {
            self.objects.insert(name.clone(), object.clone());
        });
        self.variables.push(Variable { name: Arc::from(name), of, declared: Some(declared.clone()) });
        self
    }

    /// Position of a variable among the values of an evaluation.
    pub fn position(&self, variable: &str) -> Option<usize> {
        self.variables.iter().position(|known| &*known.name == variable)
    }

    pub(crate) fn variable(&self, at: usize) -> Option<&Variable> {
        self.variables.get(at)
    }

    pub(crate) fn count(&self) -> usize {
        self.variables.len()
    }

    pub(crate) fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.functions.get(name).cloned()
    }

    /// A variable or a type by its name.
    pub(crate) fn resolve(&self, name: &str) -> Option<Resolved<'_>> {
        // The latest declaration hides earlier ones.
        if let Some(at) = self.variables.iter().rposition(|known| &*known.name == name) {
            return Some(Resolved::Variable(at, &self.variables[at].of));
        }
        self.resolve_type(name)
    }

    pub(crate) fn resolve_type(&self, name: &str) -> Option<Resolved<'_>> {
        let of = match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "null_type" => Type::Null,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "type" => Type::Type(None),
            types::OPTIONAL => Type::optional(Type::Dyn),
            "google.protobuf.Timestamp" => Type::Timestamp,
            "google.protobuf.Duration" => Type::Duration,
            "net.IP" | "net.CIDR" => Type::opaque(name),
            _ if self.objects.contains_key(name) || self.is_patch(name) => Type::object(name),
            _ => return None,
        };
        Some(Resolved::Type(of))
    }

    fn is_patch(&self, name: &str) -> bool {
        self.patches
            && (name == OBJECT
                || name == JSON_PATCH
                || name.strip_prefix(OBJECT).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Whether a type is that of the variable whose fields are expressions.
    pub(crate) fn is_composed(of: &Type) -> bool {
        matches!(of, Type::Object(name) if &**name == COMPOSED)
    }

    /// The type of an object's field, or why it has none.
    pub(crate) fn field(&self, object: &str, field: &str) -> Result<Type, String> {
        if object == COMPOSED {
            let declared = self.composed.iter().find(|(name, _)| &**name == field);
            return declared.map(|(_, of)| of.clone()).ok_or_else(|| format!("undefined field '{field}'"));
        }
        if self.is_patch(object) {
            return match (object, field) {
                (JSON_PATCH, "op" | "path" | "from") => Ok(Type::String),
                // its own type answers for its fields, and has none for these
                (JSON_PATCH, field) if field != "value" => Ok(Type::object("")),
                _ => Ok(Type::Dyn),
            };
        }
        match self.objects.get(object) {
            None => Err(format!("unexpected failed resolution of '{object}'")),
            Some(declared) => match declared.field(field) {
                Some(field) => Ok(field.of.of()),
                None => Err(format!("undefined field '{field}'")),
            },
        }
    }
}

/// The functions of a level, made once.
fn base(level: Level) -> Arc<Functions> {
    static MADE: Mutex<Vec<(Level, Arc<Functions>)>> = Mutex::new(Vec::new());
    let level = level.clamp(NEW, STORED);
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, functions)) = made.iter().find(|(known, _)| *known == level) {
        return functions.clone();
    }
    let functions = Arc::new(functions_of(level));
    made.push((level, functions.clone()));
    functions
}

fn functions_of(level: Level) -> Functions {
    let mut functions = Functions::default();
    for rows in library::tables(level) {
        add_rows(&mut functions, rows);
    }
    functions
}

fn add_rows(functions: &mut Functions, rows: &'static [Row]) {
    for row in rows {
        let (name, overload) = overload_of(row);
        let new = || Arc::new(Function { name: Arc::from(name), overloads: Vec::new() });
        let function = functions.entry(Arc::from(name)).or_insert_with(new);
        let mut overloads = function.overloads.clone();
        overloads.push(overload);
        *function = Arc::new(Function { name: function.name.clone(), overloads });
    }
}

fn overload_of(row: &'static Row) -> (&'static str, Overload) {
    let (call, result) = row.signature.split_once(" -> ").unwrap_or((row.signature, "dyn"));
    let member = call.starts_with('.');
    let (name, args) = call.strip_prefix('.').unwrap_or(call).split_once('(').unwrap_or((call, ")"));
    let args: Vec<Type> =
        types::split(args.strip_suffix(')').unwrap_or(args)).into_iter().map(types::parse).collect();
    let result = types::parse(result);
    let generic = args.iter().chain([&result]).any(types::is_generic);
    (name, Overload { id: row.id, member, args, result, generic, run: row.run })
}
