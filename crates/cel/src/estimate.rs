//! The cost of an expression before it runs: the least and the most, by the sizes that types allow.

mod calls;
mod range;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::check::{Checked, Reference};
use crate::cost;
use crate::decl::{DeclKind, DeclType};
use crate::environment::Environment;
use crate::syntax::{Call, Expr, Fold, Id, Kind, Literal};
use crate::types::Type;

pub use range::Range;

/// The cost of a checked tree.
pub(crate) fn estimate(tree: &Expr, checked: &Checked, environment: &Environment) -> Range {
    let root = (0..environment.count()).find_map(|at| environment.variable(at)?.declared.as_deref());
    let mut estimator = Estimator {
        checked,
        environment,
        root,
        paths: FxHashMap::default(),
        sizes: FxHashMap::default(),
        entries: FxHashMap::default(),
        locals: Vec::new(),
    };
    estimator.cost(tree)
}

/// Where a node's value comes from, so that its size can be found in a schema.
#[derive(Clone, Copy, Debug)]
enum Path<'d> {
    /// A part of a variable, of this declared type.
    Declared(&'d DeclType),
    /// A key of a map; schemas say nothing of these.
    Key,
    /// A part of a variable of which nothing is known.
    Unknown,
}

/// Sizes of what a list or map contains.
#[derive(Clone, Copy, Debug)]
struct EntrySize {
    is_list: bool,
    key: Range,
    value: Range,
}

struct Local<'d> {
    name: Arc<str>,
    path: Option<Path<'d>>,
    size: Option<Range>,
    entries: Option<EntrySize>,
}

struct Estimator<'d> {
    checked: &'d Checked,
    environment: &'d Environment,
    /// The type of the first variable that has one.
    root: Option<&'d DeclType>,
    paths: FxHashMap<Id, Path<'d>>,
    sizes: FxHashMap<Id, Range>,
    entries: FxHashMap<Id, EntrySize>,
    locals: Vec<Local<'d>>,
}

impl<'d> Estimator<'d> {
    fn cost(&mut self, expr: &Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) => Range::fixed(0),
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path,
                    None => Some(self.variable_path(expr.id)),
                };
                self.set_path(expr.id, path);
                Range::fixed(1)
            }
            // A presence test costs what its operand costs.
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => self.cost_select(expr.id, operand, field),
            Kind::Call(call) => self.cost_call(expr, call),
            Kind::List(items) => {
                let mut sum = Range::fixed(cost::LIST);
                let mut value = empty_or_none(items.is_empty());
                for item in items {
                    sum = sum.plus(self.cost(&item.value));
                    value = value.union(self.size_or_unknown(&item.value));
                }
                self.entries.insert(expr.id, EntrySize { is_list: true, key: Range::fixed(1), value });
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Range::fixed(cost::MAP);
                let (mut key, mut value) =
                    (empty_or_none(entries.is_empty()), empty_or_none(entries.is_empty()));
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    key = key.union(self.size_or_unknown(&entry.key));
                    value = value.union(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, EntrySize { is_list: false, key, value });
                sum
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Range::fixed(cost::STRUCT), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) if fold.is_bind() && &*fold.accumulator != "@result" => {
                self.cost_bind(expr.id, fold)
            }
            Kind::Fold(fold) => self.cost_fold(expr.id, fold),
        }
    }

    fn cost_select(&mut self, id: Id, operand: &Expr, field: &str) -> Range {
        let mut sum = self.cost(operand);
        if matches!(self.checked.type_of(operand), Type::Map(_) | Type::Object(_) | Type::Param(_)) {
            sum = sum.plus(Range::fixed(1));
        }
        let path = match self.path(operand) {
            // A path begins with a variable, which is the declared one whatever its name.
            None => self.root.map_or(Path::Unknown, Path::Declared),
            Some(Path::Declared(declared)) => match (declared.field(field), &declared.kind) {
                (Some(field), _) => Path::Declared(&field.of),
                (None, DeclKind::Map(value))
                    if self.environment.sized_values && matches!(value.kind, DeclKind::Dyn) =>
                {
                    Path::Declared(value)
                }
                (None, _) => Path::Unknown,
            },
            Some(_) => Path::Unknown,
        };
        self.set_path(id, Some(path));
        sum
    }

    fn cost_call(&mut self, expr: &Expr, call: &Call) -> Range {
        if call.function == "dyn"
            && let [arg] = call.args.as_slice()
        {
            let cost = self.cost(arg);
            self.copy_sizes(expr.id, arg);
            return cost.plus(Range::fixed(1));
        }
        let arg_costs: Vec<Range> = call.args.iter().map(|arg| self.cost(arg)).collect();
        let target_cost = call.target.as_ref().map_or(Range::fixed(0), |target| self.cost(target));
        let overloads: Vec<&'static str> = match self.checked.reference(expr.id) {
            Reference::Overloads { function, overloads } => {
                overloads.iter().map(|at| function.overloads[*at].id).collect()
            }
            Reference::OptionalSelect => vec!["select_optional_field"],
            _ => return Range::fixed(0),
        };
        let mut total = Range::new(u64::MAX, 0);
        let mut size: Option<Range> = None;
        for overload in overloads {
            let (cost, result) = self.cost_overload(expr, call, overload, &arg_costs);
            total = total.union(cost);
            size = match (size, result) {
                (Some(size), Some(result)) => Some(size.union(result)),
                (size, result) => size.or(result),
            };
            if let ("index_list" | "index_map", Some(operand)) = (overload, call.args.first()) {
                size = self.entry_size(operand).map(|entries| entries.value);
                let path = self.element_path(operand);
                self.set_path(expr.id, Some(path));
            }
            size = size.or_else(|| self.size(expr));
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        target_cost.plus(total)
    }

    fn cost_fold(&mut self, id: Id, fold: &Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.start));
        self.push(&fold.accumulator, &fold.start);
        let entries = self.entry_size(&fold.range);
        let is_list = match entries {
            Some(entries) => entries.is_list,
            None => matches!(self.checked.type_of(&fold.range), Type::List(_)),
        };
        let (element, key_path) = (self.element_path(&fold.range), self.key_path(&fold.range));
        let value_size = entries.map(|entries| entries.value);
        let key_size = entries.map(|entries| entries.key);
        match &fold.second {
            None if is_list => self.push_local(&fold.variable, element, value_size),
            None => self.push_local(&fold.variable, key_path, key_size),
            Some(second) => {
                self.push_local(&fold.variable, key_path, key_size);
                self.push_local(second, element, value_size);
            }
        }
        let condition = self.cost(&fold.condition);
        let step = self.cost(&fold.step);
        self.locals.pop();
        if fold.second.is_some() {
            self.locals.pop();
        }
        sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        let count = self.size_or_unknown(&fold.range);
        sum = sum.plus(count.times(step.plus(condition)));
        match &fold.start.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.start) {
                    self.sizes.insert(id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(id, count);
                if let Some(entries) = self.entry_size(&fold.step) {
                    self.entries.insert(id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn cost_bind(&mut self, id: Id, fold: &Fold) -> Range {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.start));
        self.push(&fold.accumulator, &fold.start);
        let sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        self.copy_sizes(id, &fold.result);
        sum
    }

    fn push(&mut self, name: &Arc<str>, value: &Expr) {
        let (path, size, entries) = (self.path(value), self.size(value), self.entry_size(value));
        self.locals.push(Local { name: name.clone(), path, size, entries });
    }

    fn push_local(&mut self, name: &Arc<str>, path: Path<'d>, size: Option<Range>) {
        self.locals.push(Local { name: name.clone(), path: Some(path), size, entries: None });
    }

    fn local(&self, name: &str) -> Option<&Local<'d>> {
        self.locals.iter().rev().find(|local| &*local.name == name)
    }

    fn variable_path(&self, id: Id) -> Path<'d> {
        let declared = match self.checked.reference(id) {
            Reference::Variable(at) => {
                self.environment.variable(*at).and_then(|variable| variable.declared.as_deref())
            }
            _ => None,
        };
        // A path begins with a name, and what it is the name of does not count.
        declared.or(self.root).map_or(Path::Unknown, Path::Declared)
    }

    fn path(&self, expr: &Expr) -> Option<Path<'d>> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path;
        }
        self.paths.get(&expr.id).copied()
    }

    fn set_path(&mut self, id: Id, path: Option<Path<'d>>) {
        match path {
            Some(path) => self.paths.insert(id, path),
            None => self.paths.remove(&id),
        };
    }

    /// The path of the items of a list, or of the values of a map.
    fn element_path(&self, of: &Expr) -> Path<'d> {
        match self.path(of) {
            None => self.root.map_or(Path::Unknown, Path::Declared),
            Some(Path::Declared(declared)) => match declared.element() {
                Some(element) => Path::Declared(element),
                None => Path::Unknown,
            },
            Some(_) => Path::Unknown,
        }
    }

    /// The path of the keys of a map; that of a list's positions is not known.
    fn key_path(&self, of: &Expr) -> Path<'d> {
        match self.path(of) {
            None => self.root.map_or(Path::Unknown, Path::Declared),
            Some(Path::Declared(declared)) if matches!(declared.kind, DeclKind::Map(_)) => Path::Key,
            Some(_) => Path::Unknown,
        }
    }

    fn copy_sizes(&mut self, to: Id, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to, size);
        }
        if let Some(entries) = self.entry_size(from) {
            self.entries.insert(to, entries);
        }
    }

    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = written_size(expr) {
            return Some(Range::fixed(size));
        }
        if let Some(size) = self.path(expr).and_then(path_size) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.checked.type_of(expr).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn entry_size(&self, expr: &Expr) -> Option<EntrySize> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }
}

/// The size that a schema gives a path.
fn path_size(path: Path<'_>) -> Option<Range> {
    match path {
        Path::Declared(declared) => Some(Range::new(0, declared.max_elements)),
        Path::Key => Some(Range::new(0, 0)),
        Path::Unknown => None,
    }
}

/// The start of a union over items: none, or nothing.
fn empty_or_none(is_empty: bool) -> Range {
    Range::new(if is_empty { 0 } else { u64::MAX }, 0)
}

/// Sizes that are there to be read.
fn written_size(expr: &Expr) -> Option<u64> {
    Some(match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count() as u64,
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len() as u64,
        Kind::Literal(_) => 1,
        Kind::List(items) => items.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        _ => return None,
    })
}
