//! Expressions of admission: what they may refer to, how policies' expressions are compiled, and what their variables stand for.

mod typed;

use std::sync::{Arc, OnceLock};

use crate::decl::{DeclField, DeclKind, DeclObject, DeclType};
use crate::environment::{Environment, Level};
use crate::error::{CompileError, EvalError};
use crate::library::authorizer::Resource;
use crate::program::{Activation, Program, compile};
use crate::types::Type;
use crate::value::Value;

pub use typed::{Parameters, TypeCheck};

/// What expressions may refer to beside the objects, the request and its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `params`.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// The types of patches.
    pub patches: bool,
}

/// The environment of an expression, made once.
fn environment(given: Given, level: Level) -> Environment {
    static MADE: [OnceLock<Environment>; 16] = [const { OnceLock::new() }; 16];
    let bits = [given.params, given.authorizer, given.patches, level == crate::NEW];
    let place = bits.iter().fold(0, |place, bit| 2 * place + usize::from(*bit));
    MADE[place].get_or_init(|| make(given, level)).clone()
}

/// Positions of the variables are those of [`Variables::activation`].
fn make(given: Given, level: Level) -> Environment {
    let mut made = Environment::kubernetes(level)
        .with_variable("object", Type::Dyn)
        .with_variable("oldObject", Type::Dyn)
        .with_declared("namespaceObject", &namespace())
        .with_declared("request", &request());
    if given.params {
        made = made.with_variable("params", Type::Dyn);
    }
    if given.authorizer {
        let of = |name: &str| Type::object(&format!("kubernetes.authorization.{name}"));
        made = made
            .with_variable("authorizer", of("Authorizer"))
            .with_variable("authorizer.requestResource", of("ResourceCheck"));
    }
    if given.patches {
        made = made.with_patches();
    }
    made
}

/// What an expression may result in.
pub mod results {
    use crate::types::Type;

    pub fn condition() -> Vec<Type> {
        vec![Type::Bool]
    }

    pub fn message() -> Vec<Type> {
        vec![Type::String]
    }

    pub fn annotation() -> Vec<Type> {
        vec![Type::String, Type::Null]
    }

    pub fn configuration() -> Vec<Type> {
        vec![Type::object("Object")]
    }

    pub fn patch() -> Vec<Type> {
        vec![Type::list(Type::object("JSONPatch"))]
    }
}

/// Compiles the expressions of one policy: its variables in their order, then what may refer to them.
#[derive(Debug, Default)]
pub struct Compiler {
    variables: Option<Vec<(Arc<str>, Type)>>,
}

impl Compiler {
    /// For expressions that may refer to `variables`.
    pub fn composing() -> Compiler {
        Compiler { variables: Some(Vec::new()) }
    }

    /// Compiles an expression that results in one of these types, in any where there are none. The error is worded as upstream's.
    pub fn compile(
        &self,
        expression: &str,
        results: &[Type],
        given: Given,
        level: Level,
    ) -> Result<Program, String> {
        let mut environment = environment(given, level);
        if let Some(variables) = &self.variables {
            environment = environment.with_composed(variables.iter().cloned());
        }
        let program = compile(expression, &environment).map_err(|error| match error {
            CompileError::Issues(issues) => format!("compilation failed: {issues}"),
            CompileError::Program(error) => format!("program instantiation failed: {error}"),
        })?;
        let output = program.output();
        match results {
            [] => Ok(program),
            results if results.contains(output) => Ok(program),
            [only] => Err(format!("must evaluate to {} but got {}", only.full_name(), output.full_name())),
            results => {
                let names: Vec<String> = results.iter().map(Type::full_name).collect();
                Err(format!("must evaluate to one of [{}] but got {}", names.join(" "), output.full_name()))
            }
        }
    }

    /// Compiles a variable and makes it known to the expressions after it, whether or not it can be compiled.
    pub fn declare(
        &mut self,
        name: &str,
        expression: &str,
        given: Given,
        level: Level,
    ) -> Result<Program, String> {
        let program = self.compile(expression, &[], given, level);
        let of = program.as_ref().map_or(Type::Dyn, |program| composed(program.output()));
        if let Some(variables) = &mut self.variables {
            variables.retain(|(known, _)| **known != *name);
            variables.push((Arc::from(name), of));
        }
        program
    }
}

/// How other expressions see the type of a variable: that of an object is known at run time only.
fn composed(of: &Type) -> Type {
    match of {
        Type::List(element) => Type::list(composed(element)),
        Type::Map(types) => Type::map(composed(&types.0), composed(&types.1)),
        Type::Object(_) | Type::Opaque(..) | Type::Type(_) | Type::Param(_) | Type::Error => Type::Dyn,
        scalar => scalar.clone(),
    }
}

/// What the variables stand for.
#[derive(Clone, Debug)]
pub struct Variables<'v> {
    pub object: Value<'v>,
    pub old_object: Value<'v>,
    pub namespace: Value<'v>,
    pub request: Value<'v>,
    /// `None` where expressions know of no parameters.
    pub params: Option<Value<'v>>,
    /// The request's resource, where the authorizer may be asked.
    pub resource: Option<Resource>,
}

impl<'v> Variables<'v> {
    pub fn activation(self) -> Activation<'v> {
        let mut values = vec![self.object, self.old_object, self.namespace, self.request];
        values.extend(self.params);
        if let Some(resource) = self.resource {
            values.extend([Value::authorizer(), Value::request_resource(resource)]);
        }
        Activation { values: values.into_iter().map(Some).collect(), composed: Vec::new() }
    }
}

/// What reading a variable is whose expression has failed.
pub fn failed(name: &str, how: &str, why: &str) -> EvalError {
    EvalError::message(format!("composited variable {name:?} fails to {how}: {why}"))
}

fn string() -> DeclType {
    DeclType::string(0)
}

fn strings() -> DeclType {
    DeclType::list(string(), 0)
}

fn time() -> DeclType {
    DeclType::new(DeclKind::Timestamp { date: false }, 0, 0)
}

/// Fields are called as they are in JSON, reserved words too: `request.namespace`.
fn object<'f>(name: &str, fields: impl IntoIterator<Item = (&'f str, DeclType)>) -> DeclType {
    let field = |(json, of): (&str, DeclType)| {
        (Arc::from(json), DeclField { json: Arc::from(json), of: Arc::new(of) })
    };
    let object = DeclObject { fields: fields.into_iter().map(field).collect(), ..DeclObject::default() };
    DeclType::new(DeclKind::Object(object), 0, 2).named(name)
}

/// `request`: an admission request without its objects.
pub fn request() -> Arc<DeclType> {
    let kind = || {
        object(
            "kubernetes.GroupVersionKind",
            [("group", string()), ("version", string()), ("kind", string())],
        )
    };
    let resource = || {
        let fields = [("group", string()), ("version", string()), ("resource", string())];
        object("kubernetes.GroupVersionResource", fields)
    };
    let user = object(
        "kubernetes.UserInfo",
        [
            ("username", string()),
            ("uid", string()),
            ("groups", strings()),
            ("extra", DeclType::map(strings(), 0)),
        ],
    );
    let fields = [
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", string()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", string()),
        ("name", string()),
        ("namespace", string()),
        ("operation", string()),
        ("userInfo", user),
        ("dryRun", DeclType::boolean()),
        ("options", DeclType::new(DeclKind::Dyn, 0, 1)),
    ];
    Arc::new(object("kubernetes.AdmissionRequest", fields))
}

/// `namespaceObject`: what expressions see of the object's namespace.
pub fn namespace() -> Arc<DeclType> {
    let condition = object(
        "kubernetes.NamespaceCondition",
        [
            ("status", string()),
            ("type", string()),
            ("lastTransitionTime", time()),
            ("message", string()),
            ("reason", string()),
        ],
    );
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", string()),
            ("generateName", string()),
            ("namespace", string()),
            ("labels", DeclType::map(string(), 0)),
            ("annotations", DeclType::map(string(), 0)),
            ("UID", string()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", DeclType::int()),
            ("deletionTimestamp", time()),
            ("generation", DeclType::int()),
            ("resourceVersion", string()),
            ("finalizers", strings()),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", [("finalizers", strings())]);
    let fields = [("conditions", DeclType::list(condition, 0)), ("phase", string())];
    let status = object("kubernetes.NamespaceStatus", fields);
    Arc::new(object("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)]))
}
