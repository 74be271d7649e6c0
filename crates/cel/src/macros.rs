//! Macros: calls that stand for other expressions, most of them for folds over lists and maps.

use std::sync::Arc;

use crate::parse::Lowering;
use crate::syntax::{Call, Expr, Fold, Id, Item, Kind, Literal};

/// Name of the accumulator of the macros' folds. It cannot be written in an expression.
const ACCUMULATOR: &str = "@result";
/// The older name, which iteration variables may not have either.
const OLD_ACCUMULATOR: &str = "__result__";
const UNUSED: &str = "#unused";
const SORT_INPUT: &str = "@__sortBy_input__";

pub(crate) type Expand = fn(&mut Lowering, Id, Call) -> Expr;

/// Which macros an environment has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Macros {
    pub optional: bool,
    pub two_variables: bool,
    pub sort_by: bool,
    pub bind: bool,
}

impl Macros {
    /// The macro of a call, by name, style and number of arguments.
    pub fn find(self, call: &Call) -> Option<Expand> {
        let Some(target) = &call.target else {
            return (call.function == "has" && call.args.len() == 1).then_some(has as Expand);
        };
        Some(match (call.function.as_str(), call.args.len()) {
            ("all", 2) => all,
            ("exists", 2) => exists,
            ("exists_one" | "existsOne", 2) => exists_one,
            ("map", 2 | 3) => map,
            ("filter", 2) => filter,
            ("optMap", 2) if self.optional => opt_map,
            ("optFlatMap", 2) if self.optional => opt_flat_map,
            ("all", 3) if self.two_variables => all,
            ("exists", 3) if self.two_variables => exists,
            ("exists_one" | "existsOne", 3) if self.two_variables => exists_one,
            ("transformList", 3 | 4) if self.two_variables => transform_list,
            ("transformMap", 3 | 4) if self.two_variables => transform_map,
            ("transformMapEntry", 3 | 4) if self.two_variables => transform_map_entry,
            ("sortBy", 2) if self.sort_by => sort_by,
            ("bind", 3) if self.bind && matches!(&target.kind, Kind::Ident(name) if &**name == "cel") => bind,
            _ => return None,
        })
    }
}

/// Makes nodes at the place of the macro's call.
struct Maker<'m> {
    lowering: &'m mut Lowering,
    id: Id,
}

impl Maker<'_> {
    fn node(&mut self, kind: Kind) -> Expr {
        self.lowering.node_at(self.id, kind)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.node(Kind::Literal(literal))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.node(Kind::Ident(Arc::from(name)))
    }

    fn accumulator(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn list(&mut self, items: Vec<Expr>) -> Expr {
        let items = items.into_iter().map(|value| Item { value, optional: false }).collect();
        self.node(Kind::List(items))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.node(Kind::Call(Call { function: function.to_owned(), target: None, args }))
    }

    fn method(&mut self, target: Expr, function: &str, args: Vec<Expr>) -> Expr {
        let call = Call { function: function.to_owned(), target: Some(Box::new(target)), args };
        self.node(Kind::Call(call))
    }

    /// Reports that the macro cannot be expanded, and takes the place of what it stands for.
    fn refuse(&mut self, at: Id, message: &str) -> Expr {
        self.lowering.report(at, message.to_owned());
        self.literal(Literal::Null)
    }

    fn bind(&mut self, name: &str, value: Expr, result: Expr) -> Expr {
        let (range, condition, step) =
            (self.list(vec![]), self.literal(Literal::Bool(false)), self.ident(name));
        let (variable, second, accumulator) = (Arc::from(UNUSED), None, Arc::from(name));
        let fold = Fold { range, variable, second, accumulator, start: value, condition, step, result };
        self.node(Kind::Fold(Box::new(fold)))
    }
}

/// A macro's call taken apart: the range, one or two variables, and the other arguments.
struct Parts {
    range: Expr,
    variable: Arc<str>,
    second: Option<Arc<str>>,
    rest: Vec<Expr>,
    /// The first argument as a node, which `filter` adds to its result.
    variable_node: Expr,
}

/// Takes a macro's call apart, or reports why it cannot.
fn take_apart(make: &mut Maker<'_>, call: Call, variables: usize, not_a_name: &str) -> Result<Parts, Expr> {
    let mut args = call.args.into_iter();
    let (Some(range), Some(first)) = (call.target, args.next()) else {
        return Err(make.refuse(make.id, not_a_name));
    };
    let variable = variable_name(make, &first, not_a_name)?;
    let second = match variables {
        1 => None,
        _ => {
            let Some(node) = args.next() else { return Err(make.refuse(make.id, not_a_name)) };
            let second = variable_name(make, &node, not_a_name)?;
            if second == variable {
                return Err(make.refuse(node.id, &format!("duplicate variable name: {variable}")));
            }
            Some(second)
        }
    };
    Ok(Parts { range: *range, variable, second, rest: args.collect(), variable_node: first })
}

fn variable_name(make: &mut Maker<'_>, node: &Expr, not_a_name: &str) -> Result<Arc<str>, Expr> {
    match &node.kind {
        Kind::Ident(name) if &**name == ACCUMULATOR || &**name == OLD_ACCUMULATOR => {
            Err(make.refuse(node.id, "iteration variable overwrites accumulator variable"))
        }
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(make.refuse(node.id, not_a_name)),
    }
}

const SIMPLE_NAME: &str = "argument must be a simple name";
const IDENTIFIER: &str = "argument is not an identifier";

/// What varies between the folds of the macros.
struct Loop {
    start: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

fn fold(make: &mut Maker<'_>, range: Expr, variable: Arc<str>, second: Option<Arc<str>>, of: Loop) -> Expr {
    let Loop { start, condition, step, result } = of;
    let accumulator = Arc::from(ACCUMULATOR);
    make.node(Kind::Fold(Box::new(Fold {
        range,
        variable,
        second,
        accumulator,
        start,
        condition,
        step,
        result,
    })))
}

fn has(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    let mut make = Maker { lowering, id };
    match call.args.into_iter().next() {
        Some(Expr { kind: Kind::Select { operand, field, test: false }, .. }) => {
            make.node(Kind::Select { operand, field, test: true })
        }
        other => make.refuse(other.map_or(id, |other| other.id), "invalid argument to has() macro"),
    }
}

fn all(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    quantifier(lowering, id, call, |make, predicate| {
        let accumulator = make.accumulator();
        let condition = make.call("@not_strictly_false", vec![accumulator]);
        let accumulator = make.accumulator();
        let step = make.call("_&&_", vec![accumulator, predicate]);
        Loop { start: make.literal(Literal::Bool(true)), condition, step, result: make.accumulator() }
    })
}

fn exists(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    quantifier(lowering, id, call, |make, predicate| {
        let accumulator = make.accumulator();
        let not = make.call("!_", vec![accumulator]);
        let condition = make.call("@not_strictly_false", vec![not]);
        let accumulator = make.accumulator();
        let step = make.call("_||_", vec![accumulator, predicate]);
        Loop { start: make.literal(Literal::Bool(false)), condition, step, result: make.accumulator() }
    })
}

fn exists_one(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    quantifier(lowering, id, call, |make, predicate| {
        let (accumulator, one) = (make.accumulator(), make.literal(Literal::Int(1)));
        let more = make.call("_+_", vec![accumulator, one]);
        let same = make.accumulator();
        let step = make.call("_?_:_", vec![predicate, more, same]);
        let (accumulator, one) = (make.accumulator(), make.literal(Literal::Int(1)));
        let result = make.call("_==_", vec![accumulator, one]);
        Loop {
            start: make.literal(Literal::Int(0)),
            condition: make.literal(Literal::Bool(true)),
            step,
            result,
        }
    })
}

fn quantifier(lowering: &mut Lowering, id: Id, call: Call, of: fn(&mut Maker<'_>, Expr) -> Loop) -> Expr {
    let mut make = Maker { lowering, id };
    let variables = call.args.len() - 1;
    let parts = match take_apart(&mut make, call, variables, SIMPLE_NAME) {
        Ok(parts) => parts,
        Err(refused) => return refused,
    };
    let Some(predicate) = parts.rest.into_iter().next() else { return make.refuse(id, SIMPLE_NAME) };
    let parts_of_loop = of(&mut make, predicate);
    fold(&mut make, parts.range, parts.variable, parts.second, parts_of_loop)
}

/// Adds to the accumulator what `add` makes, where the filter is absent or true.
fn gather(make: &mut Maker<'_>, filter: Option<Expr>, start: Expr, add: Expr) -> Loop {
    let step = match filter {
        None => add,
        Some(filter) => {
            let same = make.accumulator();
            make.call("_?_:_", vec![filter, add, same])
        }
    };
    Loop { start, condition: make.literal(Literal::Bool(true)), step, result: make.accumulator() }
}

/// Appends an item to the accumulated list.
fn append(make: &mut Maker<'_>, item: Expr) -> Expr {
    let (accumulator, items) = (make.accumulator(), make.list(vec![item]));
    make.call("_+_", vec![accumulator, items])
}

/// The transformation, which comes last, and the filter before it.
fn transform_and_filter(mut rest: Vec<Expr>) -> Option<(Expr, Option<Expr>)> {
    let transform = rest.pop()?;
    Some((transform, rest.pop()))
}

fn map(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    let mut make = Maker { lowering, id };
    map_of(&mut make, call)
}

fn map_of(make: &mut Maker<'_>, call: Call) -> Expr {
    let parts = match take_apart(make, call, 1, IDENTIFIER) {
        Ok(parts) => parts,
        Err(refused) => return refused,
    };
    let Some((transform, filter)) = transform_and_filter(parts.rest) else {
        return make.refuse(make.id, IDENTIFIER);
    };
    let (start, add) = (make.list(vec![]), append(make, transform));
    let of = gather(make, filter, start, add);
    fold(make, parts.range, parts.variable, None, of)
}

fn filter(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    let mut make = Maker { lowering, id };
    let parts = match take_apart(&mut make, call, 1, IDENTIFIER) {
        Ok(parts) => parts,
        Err(refused) => return refused,
    };
    let (start, add) = (make.list(vec![]), append(&mut make, parts.variable_node));
    let of = gather(&mut make, parts.rest.into_iter().next(), start, add);
    fold(&mut make, parts.range, parts.variable, None, of)
}

fn transform_list(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    let mut make = Maker { lowering, id };
    let parts = match take_apart(&mut make, call, 2, SIMPLE_NAME) {
        Ok(parts) => parts,
        Err(refused) => return refused,
    };
    let Some((transform, filter)) = transform_and_filter(parts.rest) else {
        return make.refuse(id, SIMPLE_NAME);
    };
    let (start, add) = (make.list(vec![]), append(&mut make, transform));
    let of = gather(&mut make, filter, start, add);
    fold(&mut make, parts.range, parts.variable, parts.second, of)
}

fn transform_map(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    into_map(lowering, id, call, true)
}

fn transform_map_entry(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    into_map(lowering, id, call, false)
}

fn into_map(lowering: &mut Lowering, id: Id, call: Call, keeps_key: bool) -> Expr {
    let mut make = Maker { lowering, id };
    let parts = match take_apart(&mut make, call, 2, SIMPLE_NAME) {
        Ok(parts) => parts,
        Err(refused) => return refused,
    };
    let Some((transform, filter)) = transform_and_filter(parts.rest) else {
        return make.refuse(id, SIMPLE_NAME);
    };
    let mut args = vec![make.accumulator()];
    if keeps_key {
        args.push(make.ident(&parts.variable));
    }
    args.push(transform);
    let (start, add) = (make.node(Kind::Map(vec![])), make.call("cel.@mapInsert", args));
    let of = gather(&mut make, filter, start, add);
    fold(&mut make, parts.range, parts.variable, parts.second, of)
}

fn bind(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    let mut make = Maker { lowering, id };
    let Ok([name, value, result]) = <[Expr; 3]>::try_from(call.args) else {
        return make.refuse(id, "cel.bind() variable names must be simple identifiers");
    };
    match &name.kind {
        Kind::Ident(name) => make.bind(name, value, result),
        _ => make.refuse(name.id, "cel.bind() variable names must be simple identifiers"),
    }
}

fn opt_map(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    on_optional(lowering, id, call, "optMap", true)
}

fn opt_flat_map(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    on_optional(lowering, id, call, "optFlatMap", false)
}

fn on_optional(lowering: &mut Lowering, id: Id, call: Call, macro_name: &str, wraps: bool) -> Expr {
    let mut make = Maker { lowering, id };
    let (Some(target), Ok([variable, result])) = (call.target, <[Expr; 2]>::try_from(call.args)) else {
        return make.refuse(id, SIMPLE_NAME);
    };
    let Kind::Ident(name) = &variable.kind else {
        return make
            .refuse(variable.id, &format!("{macro_name}() variable name must be a simple identifier"));
    };
    let copy = renumbered(make.lowering, &target);
    let has_value = make.method(*target, "hasValue", vec![]);
    let value = make.method(copy, "value", vec![]);
    let mut bound = make.bind(name, value, result);
    if wraps {
        bound = make.call("optional.of", vec![bound]);
    }
    let none = make.call("optional.none", vec![]);
    make.call("_?_:_", vec![has_value, bound, none])
}

fn sort_by(lowering: &mut Lowering, id: Id, call: Call) -> Expr {
    let mut make = Maker { lowering, id };
    let Some(target) = call.target else { return make.refuse(id, IDENTIFIER) };
    if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
        let message =
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return make.refuse(target.id, message);
    }
    let input = make.ident(SORT_INPUT);
    let keys = Call { function: "map".to_owned(), target: Some(Box::new(input)), args: call.args };
    let keys = map_of(&mut make, keys);
    let input = make.ident(SORT_INPUT);
    let sorted = make.method(input, "@sortByAssociatedKeys", vec![keys]);
    make.bind(SORT_INPUT, *target, sorted)
}

/// A copy whose nodes have identities of their own, at the places of the original. Copies of copies double, which is why
/// there is an end to it.
fn renumbered(lowering: &mut Lowering, expr: &Expr) -> Expr {
    if lowering.is_full() {
        lowering.report(expr.id, "expression is too large".to_owned());
        return lowering.node_at(expr.id, Kind::Literal(Literal::Null));
    }
    let mut copy = expr.clone();
    renumber(lowering, &mut copy);
    copy
}

fn renumber(lowering: &mut Lowering, expr: &mut Expr) {
    expr.id = lowering.node_at(expr.id, Kind::Literal(Literal::Null)).id;
    match &mut expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => renumber(lowering, operand),
        Kind::Call(call) => {
            call.target.iter_mut().for_each(|target| renumber(lowering, target));
            call.args.iter_mut().for_each(|arg| renumber(lowering, arg));
        }
        Kind::List(items) => items.iter_mut().for_each(|item| renumber(lowering, &mut item.value)),
        Kind::Map(entries) => {
            for entry in entries {
                renumber(lowering, &mut entry.key);
                renumber(lowering, &mut entry.value);
            }
        }
        Kind::Struct { fields, .. } => {
            for field in fields {
                field.id = lowering.node_at(field.id, Kind::Literal(Literal::Null)).id;
                renumber(lowering, &mut field.value);
            }
        }
        Kind::Fold(fold) => {
            let Fold { range, start, condition, step, result, .. } = fold.as_mut();
            for part in [range, start, condition, step, result] {
                renumber(lowering, part);
            }
        }
    }
}
