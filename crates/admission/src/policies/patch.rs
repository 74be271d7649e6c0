//! Mutations: what an expression says is to become of an object.

use api::{Status, Tree, json};
use cel::Value;
use cel::value::{List, Map};
use machinery::ownership::merge::merge;
use machinery::ownership::types::Type;
use machinery::ownership::validate::validate;
use machinery::patch::Error;

/// Why a mutation is not made.
pub(super) enum Failure {
    /// The policy's own fault.
    Policy(String),
    /// The request cannot go on.
    Request(Box<Status>),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Request(Box::new(status))
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Policy(message)
    }
}

/// The object with a configuration applied to it. Nobody comes to own the fields.
pub(super) fn configured(object: &Tree, configuration: &Value<'_>, ty: Type<'_>) -> Result<Tree, Failure> {
    check_names(configuration)?;
    let mut configuration = configuration.to_tree().map_err(|error| error.to_string())?;
    for field in ["apiVersion", "kind"] {
        if let (Some(value), Some(map)) = (object.get(field), configuration.as_object_mut()) {
            map.insert(field, value.clone());
        }
    }
    let errors = validate(&configuration, ty);
    if !errors.is_empty() {
        return Err(format!(
            "error applying patch: failed to convert patch object to typed object: {errors}"
        )
        .into());
    }
    let whole = atomics(&configuration, ty);
    if !whole.is_empty() {
        return Err(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            whole.join(", ")
        )
        .into());
    }
    merge(object, &configuration, ty)
        .map_err(|error| format!("error applying patch: failed to merge patch: {error}").into())
}

/// Paths of values that are owned as a whole: a configuration that names some of their parts would take away the others.
fn atomics(value: &Tree, ty: Type<'_>) -> Vec<String> {
    let mut found = Vec::new();
    ty.atomics(value, &mut |path| found.push(path.to_owned()));
    found
}

/// The object with the operations of a JSON patch applied to it, as it was where a test among them fails.
pub(super) fn patched(object: &Tree, patch: &Value<'_>) -> Result<Tree, Failure> {
    let Value::List(operations) = patch else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned().into());
    };
    let mut all = Vec::with_capacity(operations.len());
    for operation in operations.iter() {
        all.push(self::operation(&operation.map_err(|error| error.to_string())?)?);
    }
    match machinery::patch::json(object, &Tree::Array(all)) {
        Ok(patched) => Ok(patched),
        Err(Error::Rejected(rejection)) if rejection.tested => Ok(object.clone()),
        Err(Error::Rejected(rejection)) => Err(format!("JSON Patch: {}", rejection.words).into()),
        Err(error) => Err(format!("JSON Patch: {error}").into()),
    }
}

fn operation(value: &Value<'_>) -> Result<Tree, Failure> {
    let Value::Map(map) = value else {
        let why = "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch";
        return Err(why.to_owned().into());
    };
    let field = |name: &str| map.get_str(name).map_err(|error| Failure::Policy(error.to_string()));
    let mut operation = json!({"op": "", "path": ""});
    for name in ["op", "path", "from"] {
        if let Some(text) = field(name)?.as_ref().and_then(Value::as_str).filter(|text| !text.is_empty()) {
            operation[name] = text.into();
        }
    }
    if let Some(value) = field("value")? {
        if matches!(value, Value::Map(Map::Struct(_))) {
            check_names(&value)?;
        }
        operation["value"] = value.to_tree().map_err(|error| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}")
        })?;
    }
    Ok(operation)
}

/// Checks that types of objects within others are named by their fields: `Object.spec` is for `spec` alone.
fn check_names(value: &Value<'_>) -> Result<(), Failure> {
    let mut errors = Vec::new();
    let root = match value {
        Value::Map(Map::Struct(made)) => made.of.to_string(),
        _ => String::new(),
    };
    names(value, &root, &mut errors)?;
    match errors.is_empty() {
        true => Ok(()),
        false => Err(format!("type mismatch: {}", errors.join("\n")).into()),
    }
}

fn names(value: &Value<'_>, path: &str, errors: &mut Vec<String>) -> Result<(), Failure> {
    let failed = |error: cel::EvalError| Failure::Policy(error.to_string());
    match value {
        Value::Map(Map::Struct(made)) => {
            if *made.of != *path {
                errors.push(format!(
                    "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    &*made.of
                ));
            }
            for (name, value) in &made.fields {
                names(value, &format!("{path}.{name}"), errors)?;
            }
        }
        // what comes from an object has no such types in it
        Value::Map(Map::Tree { .. }) | Value::List(List::Tree { .. }) => {}
        Value::Map(map) => {
            for (_, value) in map.entries().map_err(failed)? {
                names(&value, path, errors)?;
            }
        }
        Value::List(list) => {
            for item in list.iter() {
                names(&item.map_err(failed)?, path, errors)?;
            }
        }
        _ => {}
    }
    Ok(())
}
