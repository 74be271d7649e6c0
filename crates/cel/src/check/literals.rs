//! Checks of what is written as a literal: durations, timestamps, patterns, formats, and lists and maps of one type.

use crate::library;
use crate::source::{Issues, Source};
use crate::syntax::{Call, Expr, Id, Kind, Literal};
use crate::text;
use crate::types::Type;
use crate::value::Timestamp;

use super::Checked;

pub(super) fn check(tree: &Expr, source: &Source, checked: &Checked) -> Result<(), Issues> {
    let mut check = Check { source, checked, issues: Issues::new(&source.text) };
    tree.visit(&mut |expr| {
        if let Kind::Call(call) = &expr.kind {
            check.argument(call);
        }
    });
    check.aggregates(tree);
    tree.visit(&mut |expr| {
        if let Kind::Call(call) = &expr.kind {
            check.format(expr.id, call);
        }
    });
    check.issues.into_result()
}

struct Check<'c> {
    source: &'c Source,
    checked: &'c Checked,
    issues: Issues,
}

impl Check<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.issues.report(self.source.place(id), message);
    }

    fn argument(&mut self, call: &Call) {
        let Some(Expr { id: argument, kind: Kind::Literal(literal) }) = call.args.first() else { return };
        let is_valid = match (call.function.as_str(), literal) {
            ("duration", Literal::String(text)) => text::parse_duration(text).is_some(),
            ("timestamp", Literal::String(text)) => text::parse_timestamp(text).is_some(),
            ("timestamp", Literal::Int(seconds)) => Timestamp::new(*seconds, 0).is_some(),
            ("matches", Literal::String(pattern)) => library::compile_regex(pattern).is_ok(),
            _ => true,
        };
        if !is_valid {
            self.report(*argument, format!("invalid {} argument", call.function));
        }
    }

    fn format(&mut self, id: Id, call: &Call) {
        let Some(target) = call.target.as_ref().filter(|_| call.function == "format") else { return };
        let Kind::Literal(Literal::String(format)) = &target.kind else { return };
        let Some(Expr { kind: Kind::List(items), .. }) = call.args.first() else { return };
        let types: Vec<Type> = items.iter().map(|item| self.checked.type_of(&item.value).clone()).collect();
        if let Err(wrong) = library::check_format(format, &types) {
            let argument = wrong.argument.and_then(|at| items.get(at));
            let at = argument.map_or(id, |item| item.value.id);
            self.report(at, wrong.message);
        }
    }

    /// Lists and maps of mixed types, except where they are arguments of `format`.
    fn aggregates(&mut self, expr: &Expr) {
        match &expr.kind {
            Kind::Call(call) if call.function == "format" => {
                call.target.iter().for_each(|target| self.aggregates(target));
                return;
            }
            Kind::List(items) => {
                let items: Vec<(&Expr, bool)> =
                    items.iter().map(|item| (&item.value, item.optional)).collect();
                self.same_types(&items, true);
            }
            Kind::Map(entries) => {
                let keys: Vec<(&Expr, bool)> = entries.iter().map(|entry| (&entry.key, false)).collect();
                self.same_types(&keys, false);
                let values: Vec<_> = entries.iter().map(|entry| (&entry.value, entry.optional)).collect();
                self.same_types(&values, false);
            }
            _ => {}
        }
        for below in expr.children() {
            self.aggregates(below);
        }
    }

    fn same_types(&mut self, exprs: &[(&Expr, bool)], stops: bool) {
        let type_of = |(expr, optional): &(&Expr, bool)| -> Type {
            let of = self.checked.type_of(expr);
            if *optional { of.optional_of().unwrap_or(of).clone() } else { of.clone() }
        };
        let Some(first) = exprs.first().map(type_of) else { return };
        let others: Vec<(Id, Type)> = exprs[1..]
            .iter()
            .map(|entry| (entry.0.id, type_of(entry)))
            .filter(|(_, of)| *of != first)
            .collect();
        for (id, of) in others.into_iter().take(if stops { 1 } else { usize::MAX }) {
            self.report(id, format!("expected type '{first}' but found '{of}'"));
        }
    }
}
