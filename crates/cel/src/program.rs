//! Compiled expressions and their evaluation.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::check;
use crate::environment::Environment;
use crate::error::{CompileError, EvalError};
use crate::estimate::{self, Range};
use crate::library::authorizer::Answers;
use crate::parse;
use crate::plan::{self, Node};
use crate::run::Run;
use crate::source::Issues;
use crate::types::Type;
use crate::value::Value;

/// Most that one evaluation may cost: a tenth of a second.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// Most that all evaluations of one validation may cost together.
pub const BUDGET: u64 = 10_000_000;
/// Most that the match conditions of one webhook or policy may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
/// Longest message of a message expression, in bytes.
pub const MAX_MESSAGE: usize = 5 * 1024;

/// A compiled expression. It is compiled once and evaluated often, from any thread.
#[derive(Debug)]
pub struct Program {
    root: Node,
    locals: usize,
    reads: Vec<bool>,
    composed: BTreeSet<Arc<str>>,
    names: Vec<Arc<str>>,
    of: Type,
    estimate: Range,
}

/// Values of an environment's variables, by their positions.
#[derive(Clone, Debug, Default)]
pub struct Activation<'v> {
    pub(crate) values: Vec<Option<Value<'v>>>,
    pub(crate) composed: Vec<(Arc<str>, Result<Value<'v>, EvalError>)>,
}

/// What an evaluation has resulted in, and what it has cost.
#[derive(Debug)]
pub struct Evaluated<'v> {
    pub result: Result<Value<'v>, EvalError>,
    pub cost: u64,
}

/// Compiles an expression: parses it, checks its types, estimates its cost.
pub fn compile(expression: &str, environment: &Environment) -> Result<Program, CompileError> {
    let (mut tree, source) = parse::parse(expression, environment.macros)?;
    let checked = check::check(&mut tree, &source, environment)?;
    let estimate = estimate::estimate(&tree, &checked, environment);
    let of = checked.type_of(&tree).clone();
    let plan = plan::plan(&tree, &checked, environment)?;
    let names = (0..environment.count()).filter_map(|at| environment.variable(at));
    Ok(Program {
        root: plan.root,
        locals: plan.locals,
        reads: plan.reads,
        composed: plan.composed,
        names: names.map(|variable| variable.name.clone()).collect(),
        of,
        estimate,
    })
}

/// The type of an expression's results, without a program that would evaluate it.
pub(crate) fn type_of(expression: &str, environment: &Environment) -> Result<Type, Issues> {
    let (mut tree, source) = parse::parse(expression, environment.macros)?;
    let checked = check::check(&mut tree, &source, environment)?;
    Ok(checked.type_of(&tree).clone())
}

impl Program {
    /// The type of its result, [`Type::Dyn`] where that is known at run time only.
    pub fn output(&self) -> &Type {
        &self.of
    }

    /// The least and the most that an evaluation costs.
    pub fn estimate(&self) -> Range {
        self.estimate
    }

    /// Whether it reads a variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.names.iter().zip(&self.reads).any(|(name, reads)| *reads && &**name == variable)
    }

    /// The fields of `variables` that it may read.
    pub fn composed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.composed.iter()
    }

    /// Evaluates it. `limit` is the most that it may cost; a caller with a budget for several gives what is left of it where
    /// that is less than [`PER_CALL_LIMIT`].
    pub fn run<'v>(&self, activation: &Activation<'v>, answers: &Answers, limit: u64) -> Evaluated<'v> {
        let names = |at: usize| self.names.get(at).map_or_else(String::new, |name| name.to_string());
        let mut run = Run::new(activation, answers, limit, &names, self.locals);
        let result = run.evaluate(&self.root);
        Evaluated { result, cost: run.cost }
    }
}

impl<'v> Activation<'v> {
    /// Values for the variables of an environment; those without one are not known.
    pub fn new(environment: &Environment) -> Activation<'v> {
        Activation { values: vec![None; environment.count()], composed: Vec::new() }
    }

    /// Sets a variable by its [position](Environment::position).
    pub fn set(&mut self, position: usize, value: Value<'v>) {
        if let Some(slot) = self.values.get_mut(position) {
            *slot = Some(value);
        }
    }

    /// Sets a field of `variables`: its value, or the error that reading it is.
    pub fn set_composed(&mut self, field: Arc<str>, value: Result<Value<'v>, EvalError>) {
        self.composed.push((field, value));
    }
}
