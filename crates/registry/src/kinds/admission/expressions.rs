//! Expressions of webhooks and policies: whether they compile. What is stored already may use all that this version knows, what is new
//! only what the version before reads, too.

use std::collections::HashSet;

use api::Tree;
use api::status::Cause;
use cel::admission::{Compiler, Given, results};
use cel::{NEW, STORED, Type};
use machinery::fieldpath::Path;

use crate::tree::{get, has, list, text};

/// Expressions of an object as it is stored, by what they are for.
#[derive(Default)]
pub(super) struct Stored<'t> {
    conditions: HashSet<&'t str>,
    validations: HashSet<&'t str>,
    messages: HashSet<&'t str>,
    annotations: HashSet<&'t str>,
    configurations: HashSet<&'t str>,
}

impl<'t> Stored<'t> {
    /// Those of a policy's `spec`, or of a webhook.
    pub fn of(spec: &'t Tree) -> Stored<'t> {
        let all = |field: &str, expression: &'static str| {
            list(spec, field).iter().map(move |one| text(one, expression)).collect()
        };
        let mutations = list(spec, "mutations").iter();
        Stored {
            conditions: all("matchConditions", "expression"),
            validations: all("validations", "expression"),
            messages: all("validations", "messageExpression"),
            annotations: all("auditAnnotations", "valueExpression"),
            configurations: mutations
                .map(|mutation| text(get(mutation, "applyConfiguration"), "expression"))
                .collect(),
        }
    }
}

/// Checks the expressions of one object.
pub(super) struct Checker<'t> {
    compiler: Compiler,
    given: Given,
    stored: Stored<'t>,
}

impl<'t> Checker<'t> {
    /// For a policy.
    pub fn new(spec: &Tree, stored: Stored<'t>) -> Checker<'t> {
        let given = Given { params: has(spec, "paramKind"), authorizer: true, patches: false };
        Checker { compiler: Compiler::default(), given, stored }
    }

    /// For a policy whose expressions may refer to variables.
    pub fn composing(spec: &Tree, stored: Stored<'t>) -> Checker<'t> {
        Checker { compiler: Compiler::composing(), ..Checker::new(spec, stored) }
    }

    /// For the conditions of webhooks.
    pub fn of_hooks(stored: &[Stored<'t>]) -> Checker<'t> {
        let conditions = stored.iter().flat_map(|stored| stored.conditions.iter().copied()).collect();
        Checker::new(&Tree::Null, Stored { conditions, ..Stored::default() })
    }

    /// A match condition, which cannot refer to variables.
    pub fn condition(&self, expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
        let level = level(&self.stored.conditions, expression);
        let compiled =
            Compiler::default().compile(expression, &results::condition(), self.given, level).map(drop);
        report(compiled, expression, path, errors);
    }

    pub fn variable(&mut self, name: &str, expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
        let level = level(&self.stored.validations, expression);
        let compiled = self.compiler.declare(name, expression, self.given, level).map(drop);
        report(compiled, expression, path, errors);
    }

    pub fn validation(&self, expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
        let level = level(&self.stored.validations, expression);
        let compiled = self.compile(expression, &results::condition(), self.given, level);
        report(compiled, expression, path, errors);
    }

    pub fn message(&self, expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
        let level = level(&self.stored.messages, expression);
        let given = Given { authorizer: false, ..self.given };
        report(self.compile(expression, &results::message(), given, level), expression, path, errors);
    }

    pub fn annotation(&self, expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
        let level = level(&self.stored.annotations, expression);
        let compiled = self.compile(expression.trim(), &results::annotation(), self.given, level);
        report(compiled, expression, path, errors);
    }

    /// A mutation of this kind of patch.
    pub fn mutation(&self, kind: &str, expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
        let level = level(&self.stored.configurations, expression);
        let given = Given { patches: true, ..self.given };
        let results = match kind {
            "JSONPatch" => results::patch(),
            _ => results::configuration(),
        };
        let expression = expression.trim();
        report(self.compile(expression, &results, given, level), expression, path, errors);
    }

    fn compile(
        &self,
        expression: &str,
        results: &[Type],
        given: Given,
        level: cel::Level,
    ) -> Result<(), String> {
        self.compiler.compile(expression, results, given, level).map(drop)
    }
}

fn level(stored: &HashSet<&str>, expression: &str) -> cel::Level {
    if stored.contains(expression) { STORED } else { NEW }
}

/// Errors show what is wrong within the expressions: after so many bytes of that no more are listed.
const MAX_BYTES: usize = 1 << 20;

fn report(compiled: Result<(), String>, expression: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let Err(why) = compiled else { return };
    if errors.iter().map(|error| error.message.len()).sum::<usize>() < MAX_BYTES {
        errors.push(path.invalid(expression, &why));
    }
}
