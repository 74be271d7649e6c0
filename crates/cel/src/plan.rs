//! From a checked tree to a program: names become positions, overloads functions, and what is constant is computed once.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::check::{Checked, Reference};
use crate::cost::{self, Cost};
use crate::environment::{Environment, Function};
use crate::error::CompileError;
use crate::library::{self, Run};
use crate::run;
use crate::syntax::{Call, Entry, Expr, Field, Fold, Item, Kind, Literal};
use crate::types::Type;
use crate::value::{Key, Value};

/// A step of a program.
#[derive(Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    /// A variable or another value, with what is selected from it.
    Attribute(Box<Attribute>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    NotStrictlyFalse(Box<Node>),
    Equal {
        operands: Box<[Node; 2]>,
        negated: bool,
    },
    /// Membership in a constant list.
    InSet {
        value: Box<Node>,
        set: Members,
    },
    Call(Box<CallNode>),
    /// `or` and `orValue` of optional values.
    Otherwise {
        operands: Box<[Node; 2]>,
        unwraps: bool,
    },
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Struct {
        of: Arc<str>,
        fields: Vec<(Arc<str>, Node, bool)>,
    },
    Fold(Box<FoldNode>),
}

/// Scalars of a constant list.
#[derive(Debug, Default)]
pub(crate) struct Members {
    texts: FxHashSet<Arc<str>>,
    keys: FxHashSet<Key>,
}

impl Members {
    pub fn contains(&self, value: &Value<'_>) -> bool {
        match value {
            Value::String(text) => self.texts.contains(&**text),
            Value::Null => false,
            value => Key::of(value).is_some_and(|key| self.keys.contains(&key)),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Attribute {
    pub root: Root,
    pub qualifiers: Vec<Qualifier>,
    /// Asks whether the last qualifier is present.
    pub test: bool,
}

#[derive(Debug)]
pub(crate) enum Root {
    Variable(usize),
    /// A field of the variable whose fields are expressions.
    Composed(Arc<str>),
    Local(usize),
    /// An accumulator whose value is replaced right after.
    Taken(usize),
    Node(Node),
    Condition(Box<[Node; 3]>),
}

#[derive(Debug)]
pub(crate) struct Qualifier {
    pub by: By,
    pub optional: bool,
}

#[derive(Debug)]
pub(crate) enum By {
    Field(Arc<str>),
    Constant(Value<'static>),
    Computed(Node),
}

pub(crate) struct CallNode {
    pub function: Arc<str>,
    /// Overloads that may be meant: the types of their arguments, and what they do.
    pub overloads: Vec<(Vec<Type>, Run)>,
    pub guarded: bool,
    pub cost: Cost,
    pub args: Vec<Node>,
    pub pattern: Option<regex::Regex>,
}

impl std::fmt::Debug for CallNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallNode")
            .field("function", &self.function)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct FoldNode {
    pub range: Node,
    pub variable: usize,
    pub second: Option<usize>,
    pub accumulator: usize,
    pub start: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

/// A program with the number of local variables that it needs.
pub(crate) struct Plan {
    pub root: Node,
    pub locals: usize,
    /// Which variables it reads.
    pub reads: Vec<bool>,
    /// Which fields of the variable whose fields are expressions.
    pub composed: BTreeSet<Arc<str>>,
}

pub(crate) fn plan(tree: &Expr, checked: &Checked, environment: &Environment) -> Result<Plan, CompileError> {
    let reads = vec![false; environment.count()];
    let mut planner =
        Planner { checked, scopes: Vec::new(), locals: 0, taken: None, reads, composed: BTreeSet::new() };
    let root = planner.node(tree)?;
    Ok(Plan { root, locals: planner.locals, reads: planner.reads, composed: planner.composed })
}

struct Planner<'p> {
    checked: &'p Checked,
    /// Names of local variables in scope, with their positions.
    scopes: Vec<(Arc<str>, usize)>,
    locals: usize,
    /// The accumulator of the step that is planned.
    taken: Option<usize>,
    reads: Vec<bool>,
    composed: BTreeSet<Arc<str>>,
}

type Planned<T> = Result<T, CompileError>;

impl Planner<'_> {
    fn node(&mut self, expr: &Expr) -> Planned<Node> {
        Ok(match &expr.kind {
            Kind::Literal(literal) => Node::Constant(constant(literal)),
            Kind::Ident(name) => self.ident(expr, name),
            Kind::Select { operand, field, test } => {
                if !test && Environment::is_composed(self.checked.type_of(operand)) {
                    return Ok(self.composed(field));
                }
                let operand = self.node(operand)?;
                qualified(operand, By::Field(field.clone()), false, *test)
            }
            Kind::Call(call) => self.call(expr, call)?,
            Kind::List(items) => self.list(items)?,
            Kind::Map(entries) => self.map(entries)?,
            Kind::Struct { fields, .. } => self.structure(expr, fields)?,
            Kind::Fold(fold) => self.fold(fold)?,
        })
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Node {
        let root = match self.checked.reference(expr.id) {
            Reference::Type(of) => return Node::Constant(Value::Type(of.clone())),
            Reference::Variable(at) => {
                self.reads[*at] = true;
                Root::Variable(*at)
            }
            _ => {
                let local = self.scopes.iter().rev().find(|(known, _)| &**known == name);
                let at = local.map_or(0, |(_, at)| *at);
                if self.taken == Some(at) { Root::Taken(at) } else { Root::Local(at) }
            }
        };
        Node::Attribute(Box::new(Attribute { root, qualifiers: Vec::new(), test: false }))
    }

    /// `variables.name`: one step that costs what two cost.
    fn composed(&mut self, field: &Arc<str>) -> Node {
        self.composed.insert(field.clone());
        let root = Root::Composed(field.clone());
        Node::Attribute(Box::new(Attribute { root, qualifiers: Vec::new(), test: false }))
    }

    fn nodes(&mut self, exprs: &[Expr]) -> Planned<Vec<Node>> {
        exprs.iter().map(|expr| self.node(expr)).collect()
    }

    fn pair(&mut self, args: &[Expr]) -> Planned<Box<[Node; 2]>> {
        match args {
            [one, other] => Ok(Box::new([self.node(one)?, self.node(other)?])),
            _ => Err(CompileError::Program("operators have two operands".to_owned())),
        }
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> Planned<Node> {
        Ok(match (call.function.as_str(), &call.target, call.args.as_slice()) {
            ("_&&_", None, args) => Node::And(self.pair(args)?),
            ("_||_", None, args) => Node::Or(self.pair(args)?),
            ("_==_", None, args) => Node::Equal { operands: self.pair(args)?, negated: false },
            ("_!=_", None, args) => Node::Equal { operands: self.pair(args)?, negated: true },
            ("@not_strictly_false", None, [arg]) => Node::NotStrictlyFalse(Box::new(self.node(arg)?)),
            ("_?_:_", None, [condition, yes, no]) => {
                let parts = Box::new([self.node(condition)?, self.node(yes)?, self.node(no)?]);
                let root = Root::Condition(parts);
                Node::Attribute(Box::new(Attribute { root, qualifiers: Vec::new(), test: false }))
            }
            ("_[_]", None, [operand, index]) => self.index(operand, index, false)?,
            ("_[?_]", None, [operand, index]) => self.index(operand, index, true)?,
            ("_?._", None, [operand, Expr { kind: Kind::Literal(Literal::String(field)), .. }]) => {
                let operand = self.node(operand)?;
                qualified(operand, By::Field(field.clone()), true, false)
            }
            ("or" | "orValue", Some(target), [other]) => {
                let operands = Box::new([self.node(target)?, self.node(other)?]);
                Node::Otherwise { operands, unwraps: call.function == "orValue" }
            }
            _ => self.plain_call(expr, call)?,
        })
    }

    fn index(&mut self, operand: &Expr, index: &Expr, optional: bool) -> Planned<Node> {
        let operand = self.node(operand)?;
        let by = match self.node(index)? {
            Node::Constant(value) => By::Constant(value),
            node => By::Computed(node),
        };
        Ok(qualified(operand, by, optional, false))
    }

    fn plain_call(&mut self, expr: &Expr, call: &Call) -> Planned<Node> {
        let Reference::Overloads { function, overloads } = self.checked.reference(expr.id) else {
            return Err(CompileError::Program(format!("no such overload: {}", call.function)));
        };
        let mut args = match &call.target {
            Some(target) => vec![self.node(target)?],
            None => Vec::new(),
        };
        args.extend(self.nodes(&call.args)?);
        let id = match overloads.as_slice() {
            [at] => Some(function.overloads[*at].id),
            _ => None,
        };
        if id == Some("in_list") {
            args = match in_set(args) {
                Ok(node) => return Ok(node),
                Err(args) => args,
            };
        }
        let node = call_node(function, overloads, id, args)?;
        if library::is_conversion(&function.name) && matches!(node.args.as_slice(), [Node::Constant(_)]) {
            return constant_of(&Node::Call(Box::new(node)));
        }
        Ok(Node::Call(Box::new(node)))
    }

    fn list(&mut self, items: &[Item]) -> Planned<Node> {
        let mut nodes = Vec::with_capacity(items.len());
        for item in items {
            nodes.push((self.node(&item.value)?, item.optional));
        }
        if nodes.iter().all(|(node, _)| matches!(node, Node::Constant(_))) {
            let values = nodes.into_iter().filter_map(|(node, _)| match node {
                Node::Constant(value) => Some(value),
                _ => None,
            });
            return Ok(Node::Constant(Value::list(values.collect())));
        }
        Ok(Node::List(nodes))
    }

    fn map(&mut self, entries: &[Entry]) -> Planned<Node> {
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            nodes.push((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional));
        }
        let is_constant = |node: &Node| matches!(node, Node::Constant(_));
        let node = Node::Map(nodes);
        match &node {
            Node::Map(nodes)
                if nodes.iter().all(|(key, value, _)| is_constant(key) && is_constant(value)) =>
            {
                constant_of(&node)
            }
            _ => Ok(node),
        }
    }

    fn structure(&mut self, expr: &Expr, fields: &[Field]) -> Planned<Node> {
        let of = match self.checked.reference(expr.id) {
            Reference::Type(Type::Object(name)) => name.clone(),
            Reference::Type(of) => {
                let message = format!("values of type '{}' are made by the function of that name", of.name());
                return Err(CompileError::Program(message));
            }
            _ => return Err(CompileError::Program("unknown type".to_owned())),
        };
        let mut nodes = Vec::with_capacity(fields.len());
        for field in fields {
            nodes.push((field.name.clone(), self.node(&field.value)?, field.optional));
        }
        Ok(Node::Struct { of, fields: nodes })
    }

    fn fold(&mut self, fold: &Fold) -> Planned<Node> {
        let outer_taken = self.taken.take();
        let (start, range) = (self.node(&fold.start)?, self.node(&fold.range)?);
        let depth = self.scopes.len();
        let accumulator = self.declare(&fold.accumulator);
        let variable = self.declare(&fold.variable);
        let second = fold.second.as_ref().map(|second| self.declare(second));
        let condition = self.node(&fold.condition)?;
        // Only the macros' own accumulators are read just once in a step.
        self.taken = fold.accumulator.starts_with('@').then_some(accumulator);
        let step = self.node(&fold.step)?;
        self.taken = None;
        self.scopes.truncate(depth + 1);
        let result = self.node(&fold.result)?;
        self.scopes.truncate(depth);
        self.taken = outer_taken;
        let fold = FoldNode { range, variable, second, accumulator, start, condition, step, result };
        Ok(Node::Fold(Box::new(fold)))
    }

    fn declare(&mut self, name: &Arc<str>) -> usize {
        let at = self.locals;
        self.locals += 1;
        self.scopes.push((name.clone(), at));
        at
    }
}

/// What a node without variables is.
fn constant_of(node: &Node) -> Planned<Node> {
    match run::evaluate_constant(node) {
        Ok(value) => Ok(Node::Constant(value)),
        Err(error) => Err(CompileError::Program(error.to_string())),
    }
}

/// Appends a qualifier to an attribute, or makes one of another value.
fn qualified(operand: Node, by: By, optional: bool, test: bool) -> Node {
    let mut attribute = match operand {
        Node::Attribute(attribute) if !attribute.test => attribute,
        node => Box::new(Attribute { root: Root::Node(node), qualifiers: Vec::new(), test: false }),
    };
    attribute.qualifiers.push(Qualifier { by, optional });
    attribute.test = test;
    Node::Attribute(attribute)
}

fn call_node(
    function: &Arc<Function>,
    overloads: &[usize],
    id: Option<&'static str>,
    args: Vec<Node>,
) -> Planned<CallNode> {
    let guarded = !library::is_unguarded(&function.name);
    let pattern = match library::pattern_argument(&function.name).and_then(|at| args.get(at)) {
        Some(Node::Constant(Value::String(pattern))) => {
            Some(library::compile_regex(pattern).map_err(|error| CompileError::Program(error.to_string()))?)
        }
        _ => None,
    };
    let overloads = overloads.iter().map(|at| &function.overloads[*at]);
    Ok(CallNode {
        cost: cost::of(&function.name, id),
        function: function.name.clone(),
        overloads: overloads.map(|overload| (overload.args.clone(), overload.run)).collect(),
        guarded,
        args,
        pattern,
    })
}

/// Membership in a constant list of scalars is a look-up; other lists are given back.
fn in_set(mut args: Vec<Node>) -> Result<Node, Vec<Node>> {
    let list = match args.as_slice() {
        [_, Node::Constant(Value::List(list))] if list.is_empty() => {
            return Ok(Node::Constant(Value::Bool(false)));
        }
        [_, Node::Constant(Value::List(list))] => list.clone(),
        _ => return Err(args),
    };
    let mut set = Members::default();
    for item in list.iter().flatten() {
        match Key::of(&item) {
            Some(Key::String(text)) => drop(set.texts.insert(text)),
            Some(Key::Null) | None => return Err(args),
            Some(key) => drop(set.keys.insert(key)),
        }
    }
    args.truncate(1);
    match args.pop() {
        Some(value) => Ok(Node::InSet { value: Box::new(value), set }),
        None => Err(args),
    }
}

pub(crate) fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::text(text.clone()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}
