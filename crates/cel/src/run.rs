//! The evaluator. It counts what each step costs and stops at the limit; errors of `&&`, `||` and of loops are absorbed as
//! the language has it, the limit and questions to the authorizer never.

mod attribute;
mod fold;

use std::sync::Arc;

use crate::cost::{self, Cost};
use crate::error::EvalError;
use crate::library::authorizer::Answers;
use crate::library::{self, Context};
use crate::plan::{CallNode, Node};
use crate::program::Activation;
use crate::value::{Key, Map, Outcome, StructValue, Table, Value};

/// One evaluation of a program.
pub(crate) struct Run<'p, 'v> {
    pub activation: &'p Activation<'v>,
    pub answers: &'p Answers,
    pub cost: u64,
    pub limit: u64,
    /// Names of variables, for messages.
    pub names: &'p dyn Fn(usize) -> String,
    pub(crate) locals: Vec<Slot<'p, 'v>>,
}

/// A local variable.
pub(crate) enum Slot<'p, 'v> {
    Empty,
    /// To be computed when it is first read.
    Pending(&'p Node),
    Known(Outcome<Value<'v>>),
}

impl<'p, 'v> Run<'p, 'v> {
    pub fn new(
        activation: &'p Activation<'v>,
        answers: &'p Answers,
        limit: u64,
        names: &'p dyn Fn(usize) -> String,
        locals: usize,
    ) -> Self {
        let locals = std::iter::repeat_with(|| Slot::Empty).take(locals).collect();
        Run { activation, answers, cost: 0, limit, names, locals }
    }

    /// Counts a cost, and ends the evaluation where that is too much.
    pub(crate) fn charge(&mut self, cost: u64) -> Outcome<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    pub fn evaluate(&mut self, node: &'p Node) -> Outcome<Value<'v>> {
        match node {
            Node::Constant(value) => Ok(value.clone()),
            Node::Attribute(attribute) => self.attribute(attribute),
            Node::And(operands) => self.logic(operands, false),
            Node::Or(operands) => self.logic(operands, true),
            Node::NotStrictlyFalse(operand) => self.not_strictly_false(operand),
            Node::Equal { operands, negated } => self.equal(operands, *negated),
            Node::InSet { value, set } => Ok(Value::Bool(set.contains(&self.evaluate(value)?))),
            Node::Call(call) => self.call(call),
            Node::Otherwise { operands, unwraps } => self.otherwise(operands, *unwraps),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct { of, fields } => self.structure(of, fields),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    /// `&&` and `||`: the operand that decides hides errors of the other.
    fn logic(&mut self, operands: &'p [Node; 2], decides: bool) -> Outcome<Value<'v>> {
        let mut failed = None;
        for operand in operands {
            match self.evaluate(operand) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(EvalError::no_such_overload())),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn not_strictly_false(&mut self, operand: &'p Node) -> Outcome<Value<'v>> {
        let value = self.evaluate(operand);
        self.charge(1)?;
        match value {
            Ok(Value::Bool(value)) => Ok(Value::Bool(value)),
            Err(error) if error.is_final() => Err(error),
            _ => Ok(Value::Bool(true)),
        }
    }

    fn equal(&mut self, operands: &'p [Node; 2], negated: bool) -> Outcome<Value<'v>> {
        let counted = if negated { Cost::Compare } else { Cost::Equal };
        let [one, other] = self.two(operands, counted)?;
        Ok(Value::Bool(one.equals(&other)? != negated))
    }

    /// Both operands, whether or not the first one fails, with the cost of a call on them.
    fn two(&mut self, operands: &'p [Node; 2], counted: Cost) -> Outcome<[Value<'v>; 2]> {
        let one = self.evaluate(&operands[0]);
        let other = match &one {
            Err(error) if error.is_final() => return Err(error.clone()),
            _ => self.evaluate(&operands[1]),
        };
        let (one, other) = match (one, other) {
            (Ok(one), Ok(other)) => (one, other),
            (one, other) => {
                let known = |value: &Outcome<Value<'v>>| value.clone().unwrap_or(Value::Null);
                let failed = [known(&one), known(&other)];
                self.charge(cost::actual(counted, &failed, None))?;
                return one.and(other).map(|_| failed);
            }
        };
        let pair = [one, other];
        self.charge(cost::actual(counted, &pair, None))?;
        Ok(pair)
    }

    pub(crate) fn call(&mut self, call: &'p CallNode) -> Outcome<Value<'v>> {
        let mut args = Vec::with_capacity(call.args.len());
        let mut failed = None;
        for arg in &call.args {
            match self.evaluate(arg) {
                Ok(value) => args.push(value),
                Err(error) if error.is_final() => return Err(error),
                // Calls of three arguments and more stop at the first error, without a cost of their own unless it is the
                // last argument's.
                Err(error) if call.args.len() > 2 && args.len() + 1 < call.args.len() => return Err(error),
                Err(error) => {
                    args.push(Value::Null);
                    failed = failed.or(Some(error));
                }
            }
        }
        if let Some(error) = failed {
            self.charge(cost::actual(call.cost, &args, None))?;
            return Err(error);
        }
        // Most costs are of the arguments, which the function may take for its result.
        if call.cost == Cost::Join || matches!(call.cost, Cost::Range | Cost::Slice | Cost::Reverse) {
            let result = self.apply(call, &mut args);
            self.charge(cost::actual(call.cost, &args, result.as_ref().ok()))?;
            return result;
        }
        self.charge(cost::actual(call.cost, &args, None))?;
        self.apply(call, &mut args)
    }

    fn apply(&self, call: &CallNode, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
        let context =
            Context { function: &call.function, pattern: call.pattern.as_ref(), answers: self.answers };
        for (declared, run) in &call.overloads {
            if !call.guarded || args.iter().zip(declared).all(|(arg, declared)| arg.fits(declared)) {
                return run(&context, args);
            }
        }
        Err(library::mismatch(&call.function, args))
    }

    fn otherwise(&mut self, operands: &'p [Node; 2], unwraps: bool) -> Outcome<Value<'v>> {
        match self.evaluate(&operands[0])? {
            Value::Optional(Some(value)) if unwraps => Ok(value.as_ref().clone()),
            value @ Value::Optional(Some(_)) => Ok(value),
            Value::Optional(None) => match self.evaluate(&operands[1])? {
                value if unwraps || matches!(value, Value::Optional(_)) => Ok(value),
                _ => Err(EvalError::no_such_overload()),
            },
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn list(&mut self, items: &'p [(Node, bool)]) -> Outcome<Value<'v>> {
        let list = self.items(items);
        self.charge(cost::LIST)?;
        list
    }

    fn items(&mut self, items: &'p [(Node, bool)]) -> Outcome<Value<'v>> {
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items {
            let value = self.evaluate(item)?;
            match (optional, value) {
                (false, value) => values.push(value),
                (true, Value::Optional(None)) => {}
                (true, Value::Optional(Some(value))) => values.push(value.as_ref().clone()),
                (true, value) => {
                    let message = "cannot initialize optional list element from non-optional value";
                    return Err(EvalError::message(format!("{message} {}", value.plain())));
                }
            }
        }
        Ok(Value::list(values))
    }

    /// The value of an entry that may be absent.
    fn entry(&mut self, name: &str, node: &'p Node, optional: bool) -> Outcome<Option<Value<'v>>> {
        match (optional, self.evaluate(node)?) {
            (false, value) => Ok(Some(value)),
            (true, Value::Optional(value)) => Ok(value.map(|value| value.as_ref().clone())),
            (true, value) => {
                let message = format!("cannot initialize optional entry '{name}' from non-optional value");
                Err(EvalError::message(format!("{message} {}", value.plain())))
            }
        }
    }

    fn map(&mut self, entries: &'p [(Node, Node, bool)]) -> Outcome<Value<'v>> {
        let map = self.entries(entries);
        self.charge(cost::MAP)?;
        map
    }

    fn entries(&mut self, entries: &'p [(Node, Node, bool)]) -> Outcome<Value<'v>> {
        let mut table = Table::default();
        for (key, value, optional) in entries {
            let key = self.evaluate(key)?;
            if Key::of(&key).is_none() {
                return Err(EvalError::message(format!("unsupported key type: {}", key.type_of().name())));
            }
            if let Some(value) = self.entry(&key.plain(), value, *optional)? {
                table.insert(key, value);
            }
        }
        Ok(Value::Map(Map::table(table)))
    }

    fn structure(&mut self, of: &Arc<str>, fields: &'p [(Arc<str>, Node, bool)]) -> Outcome<Value<'v>> {
        let mut values = Vec::with_capacity(fields.len());
        for (name, value, optional) in fields {
            match self.entry(name, value, *optional) {
                Ok(Some(value)) => values.push((name.clone(), value)),
                Ok(None) => {}
                Err(error) => {
                    self.charge(cost::STRUCT)?;
                    return Err(error);
                }
            }
        }
        self.charge(cost::STRUCT)?;
        Ok(Value::Map(Map::Struct(Arc::new(StructValue { of: of.clone(), fields: values }))))
    }
}

/// The value of a node without variables.
pub(crate) fn evaluate_constant(node: &Node) -> Outcome<Value<'static>> {
    let (activation, answers) = (Activation::default(), Answers::default());
    let mut run: Run<'_, 'static> = Run::new(&activation, &answers, u64::MAX, &|_| String::new(), 0);
    run.evaluate(node)
}
