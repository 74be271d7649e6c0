//! The type checker: resolves names, fields and overloads, and finds the type of every node.

mod literals;
mod unify;

use std::sync::Arc;

use crate::environment::{Environment, Function, Resolved};
use crate::source::{Issues, Source};
use crate::syntax::{Call, Entry, Expr, Field, Fold, Id, Item, Kind, Literal};
use crate::types::{self, Type};

use unify::{Bindings, most_general};

/// What a node refers to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Reference {
    #[default]
    None,
    /// A variable of the environment, by its place.
    Variable(usize),
    /// An accumulator or iteration variable.
    Local,
    /// A type as a value.
    Type(Type),
    /// A function, and which of its overloads may be meant.
    Overloads { function: Arc<Function>, overloads: Vec<usize> },
    /// A selection with `?.`, resolved like a field.
    OptionalSelect,
}

/// Types and references of all nodes, by identity.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    types: Vec<Option<Type>>,
    references: Vec<Reference>,
}

impl Checked {
    pub fn type_of(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id).and_then(Option::as_ref).unwrap_or(&Type::Dyn)
    }

    pub fn reference(&self, id: Id) -> &Reference {
        self.references.get(id).unwrap_or(&Reference::None)
    }
}

/// Checks a tree. Qualified names that are one identifier or function become one node.
pub(crate) fn check(tree: &mut Expr, source: &Source, environment: &Environment) -> Result<Checked, Issues> {
    let count = source.offsets.len();
    let mut checker = Checker {
        environment,
        source,
        issues: Issues::new(&source.text),
        checked: Checked { types: vec![None; count], references: vec![Reference::None; count] },
        bindings: Bindings::default(),
        scopes: Vec::new(),
        variables: 0,
    };
    checker.check(tree);
    let Checker { issues, mut checked, bindings, .. } = checker;
    for of in checked.types.iter_mut().flatten() {
        *of = bindings.resolve(of, true);
    }
    issues.into_result()?;
    literals::check(tree, source, &checked)?;
    Ok(checked)
}

struct Checker<'c> {
    environment: &'c Environment,
    source: &'c Source,
    issues: Issues,
    checked: Checked,
    bindings: Bindings,
    /// Accumulators and iteration variables, the innermost last.
    scopes: Vec<(Arc<str>, Type)>,
    /// Type variables made so far.
    variables: u32,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.issues.report(self.source.place(id), message);
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
        self.set(id, Type::Error);
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn set(&mut self, id: Id, of: Type) {
        self.checked.types[id] = Some(of);
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        self.checked.references[id] = reference;
    }

    fn get(&self, expr: &Expr) -> Type {
        self.checked.type_of(expr).clone()
    }

    fn new_variable(&mut self) -> Type {
        let variable = Type::param(&format!("_var{}", self.variables));
        self.variables += 1;
        variable
    }

    fn check(&mut self, expr: &mut Expr) {
        let id = expr.id;
        match &mut expr.kind {
            Kind::Literal(literal) => {
                let of = literal_type(literal);
                self.set(id, of);
            }
            Kind::Ident(name) => {
                let name = name.clone();
                match self.resolve_name(&name) {
                    Some((of, reference)) => {
                        self.set(id, of);
                        self.refer(id, reference);
                    }
                    None => self.undeclared(id, &name),
                }
            }
            Kind::Select { .. } => self.check_select(expr),
            Kind::Call(_) => self.check_call(expr),
            Kind::List(items) => self.check_list(id, items),
            Kind::Map(entries) => self.check_map(id, entries),
            Kind::Struct { name, fields } => self.check_struct(id, name, fields),
            Kind::Fold(fold) => self.check_fold(id, fold),
        }
    }

    fn local(&self, name: &str) -> Option<&Type> {
        self.scopes.iter().rev().find(|(local, _)| &**local == name).map(|(_, of)| of)
    }

    fn resolve_name(&self, name: &str) -> Option<(Type, Reference)> {
        if let Some(of) = self.local(name) {
            return Some((of.clone(), Reference::Local));
        }
        self.resolve_global(name)
    }

    fn resolve_global(&self, name: &str) -> Option<(Type, Reference)> {
        match self.environment.resolve(name.strip_prefix('.').unwrap_or(name))? {
            Resolved::Variable(at, of) => Some((of.clone(), Reference::Variable(at))),
            Resolved::Type(of) => Some((Type::type_of(of.clone()), Reference::Type(of))),
        }
    }

    fn check_select(&mut self, expr: &mut Expr) {
        let id = expr.id;
        if let Some((of, reference)) = self.resolve_qualified(expr) {
            self.set(id, of);
            self.refer(id, reference);
            expr.kind = Kind::Ident(Arc::from(expr.qualified_name().unwrap_or_default()));
            return;
        }
        let Kind::Select { operand, field, test } = &mut expr.kind else { return };
        let (field, test) = (field.clone(), *test);
        let mut of = self.check_field(id, operand, &field, false);
        if test {
            of = Type::Bool;
        }
        let of = self.bindings.resolve(&of, false);
        self.set(id, of);
    }

    /// Selections that spell a name of the environment.
    fn resolve_qualified(&self, expr: &Expr) -> Option<(Type, Reference)> {
        let name = expr.qualified_name()?;
        let root = name.split('.').next().unwrap_or_default();
        if !root.is_empty() && self.local(root).is_some() {
            return None;
        }
        self.resolve_global(&name)
    }

    /// The type of a field of what the operand is.
    fn check_field(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand_type = self.bindings.resolve(&self.get(operand), false);
        let (target, within) = match operand_type.optional_of() {
            Some(of) => (of.clone(), true),
            None => (operand_type, false),
        };
        let of = match &target {
            Type::Map(types) => types.1.clone(),
            Type::Object(name) => match self.environment.field(name, field) {
                Ok(of) => of,
                Err(message) => {
                    self.report(id, message);
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.bindings.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Any | Type::Error => Type::Dyn,
            other => {
                self.report(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if within || optional { Type::optional(of) } else { of }
    }

    fn check_call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Call(call) = &mut expr.kind else { return };
        if call.function == "_?._" {
            return self.check_optional_select(id, call);
        }
        call.args.iter_mut().for_each(|arg| self.check(arg));
        let Some(target) = &mut call.target else {
            let name = call.function.clone();
            let Some(function) = self.environment.function(name.strip_prefix('.').unwrap_or(&name)) else {
                return self.undeclared(id, &name);
            };
            return self.resolve_overload(id, function, call);
        };
        if let Some(prefix) = target.qualified_name() {
            let name = format!("{prefix}.{}", call.function);
            if let Some(function) = self.environment.function(name.strip_prefix('.').unwrap_or(&name)) {
                call.target = None;
                call.function = name;
                return self.resolve_overload(id, function, call);
            }
        }
        self.check(target);
        let name = call.function.clone();
        match self.environment.function(&name) {
            Some(function) => self.resolve_overload(id, function, call),
            None => self.undeclared(id, &name),
        }
    }

    fn check_optional_select(&mut self, id: Id, call: &mut Call) {
        let [operand, field] = call.args.as_mut_slice() else { return };
        let Kind::Literal(Literal::String(name)) = &field.kind else {
            return self.report(field.id, "unsupported optional field selection".to_owned());
        };
        let name = name.clone();
        let of = self.check_field(id, operand, &name, true);
        let of = self.bindings.resolve(&of, false);
        self.set(field.id, Type::String);
        self.set(id, of);
        self.refer(id, Reference::OptionalSelect);
    }

    fn resolve_overload(&mut self, id: Id, function: Arc<Function>, call: &Call) {
        let mut args: Vec<Type> = call.target.iter().map(|target| self.get(target)).collect();
        args.extend(call.args.iter().map(|arg| self.get(arg)));
        if matches!(function.name.as_ref(), "_&&_" | "_||_") {
            return self.resolve_logic(id, function, call, &args);
        }
        let mut found: Option<(Type, Vec<usize>)> = None;
        for (at, overload) in function.overloads.iter().enumerate() {
            if overload.member != call.target.is_some() || overload.args.len() != args.len() {
                continue;
            }
            let (declared, result) = if overload.generic {
                let mut names = Vec::new();
                let mut fresh = |of| unify::instantiate(of, &mut names, &mut self.variables);
                let declared = overload.args.iter().map(&mut fresh).collect();
                (declared, fresh(&overload.result))
            } else {
                (overload.args.clone(), overload.result.clone())
            };
            if !self.bindings.assign_all(&args, &declared) {
                continue;
            }
            let result = self.bindings.resolve(&result, false);
            match &mut found {
                None => found = Some((result, vec![at])),
                Some((of, overloads)) => {
                    overloads.push(at);
                    if !of.is_dyn() && *of != result {
                        *of = Type::Dyn;
                    }
                }
            }
        }
        match found {
            Some((of, overloads)) => {
                self.set(id, of);
                self.refer(id, Reference::Overloads { function, overloads });
            }
            None => {
                let args: Vec<Type> = args.iter().map(|arg| self.bindings.resolve(arg, true)).collect();
                let signature = match (&call.target, args.split_first()) {
                    (Some(_), Some((target, args))) => format!("{target}.({})", types::join(args)),
                    _ => format!("({})", types::join(&args)),
                };
                let name = &function.name;
                self.report(id, format!("found no matching overload for '{name}' applied to '{signature}'"));
                self.set(id, Type::Error);
            }
        }
    }

    fn resolve_logic(&mut self, id: Id, function: Arc<Function>, call: &Call, args: &[Type]) {
        let mut agrees = true;
        for (arg, of) in call.args.iter().zip(args) {
            if !self.bindings.assign(of, &Type::Bool) {
                self.mismatch(arg.id, &Type::Bool, of);
                agrees = false;
            }
        }
        self.set(id, if agrees { Type::Bool } else { Type::Error });
        self.refer(id, Reference::Overloads { function, overloads: vec![0] });
    }

    /// The type of what may be absent: its own, without `optional_type`.
    fn unwrap_optional(&mut self, id: Id, of: Type) -> Type {
        if let Some(of) = of.optional_of() {
            return of.clone();
        }
        if !of.is_dyn() {
            self.mismatch(id, &Type::optional(of.clone()), &of);
        }
        of
    }

    fn check_list(&mut self, id: Id, items: &mut [Item]) {
        let mut joined = None;
        for item in items {
            self.check(&mut item.value);
            let mut of = self.get(&item.value);
            if item.optional {
                of = self.unwrap_optional(item.value.id, of);
            }
            joined = Some(self.join(joined, of));
        }
        let element = joined.unwrap_or_else(|| self.new_variable());
        self.set(id, Type::list(element));
    }

    fn check_map(&mut self, id: Id, entries: &mut [Entry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            keys = Some(self.join(keys, self.get(&entry.key)));
            self.check(&mut entry.value);
            let mut of = self.get(&entry.value);
            if entry.optional {
                of = self.unwrap_optional(entry.value.id, of);
            }
            values = Some(self.join(values, of));
        }
        let key = keys.unwrap_or_else(|| self.new_variable());
        let value = values.unwrap_or_else(|| self.new_variable());
        self.set(id, Type::map(key, value));
    }

    /// The type that covers both; literals of mixed types are dynamic here and refused later, outside of `format`.
    fn join(&mut self, one: Option<Type>, other: Type) -> Type {
        match one {
            None => other,
            Some(one) if self.bindings.assign(&one, &other) => most_general(&one, &other),
            Some(_) => Type::Dyn,
        }
    }

    fn check_struct(&mut self, id: Id, name: &str, fields: &mut [Field]) {
        let Some(Resolved::Type(of)) = self.environment.resolve_type(name.strip_prefix('.').unwrap_or(name))
        else {
            return self.undeclared(id, name);
        };
        if !matches!(of, Type::Object(_) | Type::Timestamp | Type::Duration) {
            self.report(id, format!("'{}' is not a message type", of.name()));
            self.set(id, Type::Error);
        } else {
            self.set(id, of.clone());
        }
        self.refer(id, Reference::Type(of.clone()));
        for field in fields {
            self.check(&mut field.value);
            let mut value = self.get(&field.value);
            let declared = match self.environment.field(of.name(), &field.name) {
                Ok(declared) => declared,
                Err(message) => {
                    self.report(field.id, message);
                    Type::Error
                }
            };
            if field.optional {
                value = self.unwrap_optional(field.value.id, value);
            }
            if !self.bindings.assign(&declared, &value) {
                let name = &field.name;
                let message =
                    format!("expected type of field '{name}' is '{declared}' but provided type is '{value}'");
                self.report(field.id, message);
            }
        }
    }

    fn check_fold(&mut self, id: Id, fold: &mut Fold) {
        self.check(&mut fold.range);
        self.check(&mut fold.start);
        let range = self.bindings.resolve(&self.get(&fold.range), false);
        let accumulator = self.get(&fold.start);
        let two = fold.second.is_some();
        let (first, second) = match &range {
            Type::List(element) if two => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Error),
            Type::Map(types) => types.as_ref().clone(),
            Type::Dyn | Type::Any | Type::Error | Type::Param(_) => {
                self.bindings.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((fold.accumulator.clone(), accumulator.clone()));
        let outer = self.scopes.len();
        self.scopes.push((fold.variable.clone(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        self.check(&mut fold.condition);
        self.assert_type(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert_type(&fold.step, &accumulator);
        self.scopes.truncate(outer);
        self.check(&mut fold.result);
        self.scopes.pop();
        let of = self.bindings.resolve(&self.get(&fold.result), false);
        self.set(id, of);
    }

    fn assert_type(&mut self, expr: &Expr, expected: &Type) {
        let found = self.get(expr);
        if !self.bindings.assign(expected, &found) {
            self.mismatch(expr.id, expected, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
