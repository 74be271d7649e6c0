//! The rules of a custom resource: what its schema sets and checks, one after another as upstream does.

use api::Tree;
use api::status::Cause;
use api::tree::Object;
use machinery::fieldpath::Path;

use super::expressions::Expressions;
use super::schema::Schema;
use super::{ScalePaths, defaults, embedded, lists, values};
use crate::rules::{self, DefaultsTooLarge};
use crate::tree::text;

/// What a version of a definition says of its objects.
pub struct ByDefinition {
    pub schema: Schema,
    pub kind: String,
    pub api_version: String,
    pub scale: Option<ScalePaths>,
    pub expressions: Option<Expressions>,
}

impl rules::Schema for ByDefinition {
    fn default(&self, object: &mut Object) -> Result<(), DefaultsTooLarge> {
        defaults::fill(&self.schema, object)
    }

    fn check(&self, tree: &Tree, old: Option<&Tree>, status: bool, errors: &mut Vec<Cause>) {
        let before = errors.len();
        let said = [("kind", &self.kind), ("apiVersion", &self.api_version)];
        for (field, expected) in said.into_iter().filter(|(field, expected)| text(tree, field) != **expected)
        {
            let detail = format!("must be {expected}");
            errors.push(Path::new(field).invalid(text(tree, field), &detail));
        }
        let root = Path::root();
        if errors.len() == before {
            if status {
                if let (Some(value), Some(schema)) =
                    (tree.get("status"), self.schema.properties.get("status"))
                {
                    let old = old.and_then(|old| old.get("status"));
                    values::check(schema, value, old, "status", errors);
                }
            } else {
                values::check(&self.schema, tree, old, "", errors);
                if let Some(scale) = &self.scale {
                    replicas(tree, &scale.spec_replicas, errors);
                }
            }
            if let Some(scale) = &self.scale {
                replicas(tree, &scale.status_replicas, errors);
                scale.selector.iter().for_each(|path| selector(tree, path, errors));
            }
        }
        if !status {
            embedded::check(&self.schema, tree, &root, errors);
        }
        let repeated = |tree: &Tree| {
            let mut repeated = Vec::new();
            lists::check(&self.schema, tree, &root, &mut repeated);
            repeated
        };
        let new = repeated(tree);
        // Whoever had something twice may keep it.
        if !new.is_empty() && old.is_none_or(|old| repeated(old).is_empty()) {
            errors.extend(new);
        }
        if let Some(expressions) = &self.expressions {
            expressions.check(&self.schema, tree, old, errors);
        }
    }
}

/// The value at a path such as `.spec.replicas`, or how far the path goes and the value it ends at.
fn at<'t>(tree: &'t Tree, path: &str) -> Result<Option<&'t Tree>, String> {
    let mut here = tree;
    let steps: Vec<&str> = path.trim_start_matches('.').split('.').collect();
    for (index, step) in steps.iter().enumerate() {
        let Tree::Object(object) = here else {
            let (value, ty) = (shown(here), here.go_type());
            return Err(format!(
                ".{} accessor error: {value} is of the type {ty}, expected map[string]interface{{}}",
                steps[..index].join(".")
            ));
        };
        match object.get(step) {
            Some(below) => here = below,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

fn shown(tree: &Tree) -> String {
    match tree {
        Tree::Null => "<nil>".to_owned(),
        Tree::String(text) => text.to_string(),
        other => String::from_utf8_lossy(&api::json::to_vec(other)).into_owned(),
    }
}

fn replicas(tree: &Tree, path: &str, errors: &mut Vec<Cause>) {
    let place = Path::new(path);
    match at(tree, path) {
        Ok(None) => {}
        Ok(Some(value)) => match value.as_i64() {
            Some(number) if number < 0 => {
                errors.push(place.invalid(number, "should be a non-negative integer"));
            }
            Some(number) if number > i64::from(i32::MAX) => {
                let detail = format!("should be less than or equal to {}", i32::MAX);
                errors.push(place.invalid(number, &detail));
            }
            Some(_) => {}
            None => {
                let (value, ty) = (shown(value), value.go_type());
                let detail = format!("{path} accessor error: {value} is of the type {ty}, expected int64");
                errors.push(place.invalid(0, &detail));
            }
        },
        Err(detail) => errors.push(place.invalid(0, &detail)),
    }
}

fn selector(tree: &Tree, path: &str, errors: &mut Vec<Cause>) {
    let place = Path::new(path);
    match at(tree, path) {
        Ok(None | Some(Tree::String(_))) => {}
        Ok(Some(value)) => {
            let (value, ty) = (shown(value), value.go_type());
            let detail = format!("{path} accessor error: {value} is of the type {ty}, expected string");
            errors.push(place.invalid("", &detail));
        }
        Err(detail) => errors.push(place.invalid("", &detail)),
    }
}
