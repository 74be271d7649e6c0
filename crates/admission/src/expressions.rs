//! Expressions of webhooks and policies: compiled once, and evaluated on requests within a budget.

use std::sync::Arc;

use api::Tree;
use cel::admission::{Compiler, Given, Variables, failed, results};
use cel::library::authorizer::Resource;
use cel::{Activation, Answers, EvalError, Evaluated, PER_CALL_LIMIT, Program, STORED, Type, Value};
use registry::tree::text;

use crate::{Attributes, Services};

/// Cost up to which an expression is evaluated at once: a millisecond. What costs more leaves the runtime's worker to others.
const AT_ONCE: u64 = 10_000;

pub(crate) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// An expression, and the program that it is or why it is none.
#[derive(Debug)]
pub(crate) struct Expression {
    pub text: String,
    pub program: Result<Program, String>,
}

impl Expression {
    pub fn new(text: &str, compiler: &Compiler, results: &[Type], given: Given) -> Expression {
        Expression { text: text.to_owned(), program: compiler.compile(text, results, given, STORED) }
    }
}

/// The variables of a policy, by their names. The last one of a name counts.
pub(crate) type Composed = Vec<(Arc<str>, Result<Program, String>)>;

/// Objects that expressions see.
#[derive(Clone, Copy)]
pub(crate) struct Objects<'v> {
    pub object: &'v Tree,
    pub old: &'v Tree,
    pub namespace: &'v Tree,
    pub request: &'v Tree,
    /// `None` where expressions know of no parameters; null where there are none.
    pub params: Option<&'v Tree>,
}

impl<'v> Objects<'v> {
    /// What the variables stand for; without an authorizer where `attributes` are not given.
    pub fn activation(&self, attributes: Option<&Attributes<'_>>) -> Result<Activation<'v>, EvalError> {
        let value = |tree: &'v Tree| Value::of_tree(tree, None);
        let resource = attributes.map(|attributes| Resource {
            group: attributes.resource.group.to_string(),
            resource: attributes.resource.plural.to_string(),
            subresource: attributes.subresource.to_owned(),
            namespace: attributes.namespace.to_owned(),
            name: attributes.name.to_owned(),
            ..Resource::default()
        });
        let variables = Variables {
            object: value(self.object)?,
            old_object: value(self.old)?,
            namespace: value(self.namespace)?,
            request: value(self.request)?,
            params: self.params.map(value).transpose()?,
            resource,
        };
        Ok(variables.activation())
    }
}

/// Why no more expressions are evaluated: they have cost what they may.
#[derive(Debug)]
pub(crate) struct OutOfBudget;

/// Evaluations that share their variables and a budget.
pub(crate) struct Evaluation<'v, 'a> {
    pub services: &'a dyn Services,
    pub attributes: &'a Attributes<'a>,
    pub composed: &'a Composed,
    pub activation: Activation<'v>,
    /// What the authorizer has been asked about the request so far.
    pub answers: &'a mut Answers,
    pub budget: u64,
}

impl<'v> Evaluation<'v, '_> {
    /// The value of an expression, or the error that it is. Variables are evaluated when they are first read, and the authorizer is
    /// asked between evaluations.
    pub async fn evaluate(
        &mut self,
        expression: &Expression,
    ) -> Result<Result<Value<'v>, String>, OutOfBudget> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(error) => return Ok(Err(format!("compilation error: {error}"))),
        };
        let mut variables: Vec<(&Arc<str>, &Program)> = Vec::new();
        let mut cost = 0u64;
        loop {
            let current = variables.last().map_or(program, |(_, program)| program);
            let evaluated = self.run(current);
            match evaluated.result {
                Err(EvalError::Need(check)) => {
                    let answer = self.services.check(&self.attributes.user, &check).await;
                    self.answers.add(*check, answer);
                }
                Err(EvalError::Variable(name)) => {
                    let reading = variables.iter().any(|(other, _)| **other == name);
                    match self.composed.iter().rev().find(|(known, _)| *known == name) {
                        Some((name, Ok(program))) if !reading => variables.push((name, program)),
                        Some((_, Err(error))) => self.set(&name, Err(failed(&name, "compile", error))),
                        _ => self.set(&name, Err(failed(&name, "evaluate", "it reads itself"))),
                    }
                }
                result => {
                    cost = cost.saturating_add(evaluated.cost);
                    let Some((name, _)) = variables.pop() else {
                        self.budget = self.budget.checked_sub(cost).ok_or(OutOfBudget)?;
                        return Ok(result.map_err(|error| {
                            format!("expression '{}' resulted in error: {error}", expression.text)
                        }));
                    };
                    self.set(name, result.map_err(|error| failed(name, "evaluate", &error.to_string())));
                }
            }
        }
    }

    fn set(&mut self, name: &Arc<str>, value: Result<Value<'v>, EvalError>) {
        self.activation.set_composed(name.clone(), value);
    }

    fn run(&self, program: &Program) -> Evaluated<'v> {
        let run = |limit| program.run(&self.activation, self.answers, limit);
        let begun = run(AT_ONCE);
        if !matches!(begun.result, Err(EvalError::CostLimit)) {
            return begun;
        }
        let mut whole = None;
        self.services.aside(&mut || whole = Some(run(PER_CALL_LIMIT)));
        whole.unwrap_or(begun)
    }
}

/// Expressions that must all hold for a request to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Expression>);

impl Conditions {
    pub fn of(conditions: &[Tree], compiler: &Compiler, given: Given) -> Conditions {
        let compiled = |condition: &Tree| {
            Expression::new(text(condition, "expression"), compiler, &results::condition(), given)
        };
        Conditions(conditions.iter().map(compiled).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold: not where one does not, whatever is wrong with others.
    pub async fn hold(&self, evaluation: &mut Evaluation<'_, '_>) -> Result<bool, String> {
        let mut errors: Vec<String> = Vec::new();
        for condition in &self.0 {
            let Ok(value) = evaluation.evaluate(condition).await else {
                return Err(OUT_OF_BUDGET.to_owned());
            };
            match value {
                Ok(value) if value.as_bool() == Some(true) => {}
                Ok(_) => return Ok(false),
                Err(error) if errors.contains(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [only] => Err(only.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}
