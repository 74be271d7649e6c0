//! Estimated costs of calls, by how they are counted.

use super::{Estimator, Path, Range};
use crate::cost::{self, Cost, NAMED_FORMAT, PATTERN, TRAVERSAL};
use crate::syntax::{Call, Expr, Kind, Literal};
use crate::types::Type;

const ONE: Range = Range::fixed(1);
/// Bytes of an IP address.
const ADDRESS: Range = Range::new(4, 16);
/// Longest name of a format.
const FORMAT_NAME: u64 = 64;

impl Estimator<'_> {
    /// The cost of a call if this overload is meant, its arguments included, and the size of its result where that is known.
    pub(super) fn cost_overload(
        &mut self,
        expr: &Expr,
        call: &Call,
        overload: &str,
        arg_costs: &[Range],
    ) -> (Range, Option<Range>) {
        match (overload, arg_costs) {
            ("logical_or" | "logical_and", [one, other]) => {
                return (Range::new(one.min, one.plus(*other).max), None);
            }
            ("conditional", [condition, yes, no]) => {
                let size = self.size_or_unknown(&call.args[1]).union(self.size_or_unknown(&call.args[2]));
                self.join_entries(expr, &call.args[1], &call.args[2]);
                return (condition.plus(yes.union(*no)), Some(size));
            }
            _ => {}
        }
        let args: Range = arg_costs.iter().fold(Range::fixed(0), |sum, cost| sum.plus(*cost));
        let all: Vec<&Expr> = call.target.iter().map(AsRef::as_ref).chain(&call.args).collect();
        let (cost, size) = self.cost_counted(expr, call, cost::of(&call.function, Some(overload)), &all);
        (args.plus(cost), size)
    }

    fn join_entries(&mut self, expr: &Expr, one: &Expr, other: &Expr) {
        if let (Some(one), Some(other)) = (self.entry_size(one), self.entry_size(other)) {
            let (key, value) = (one.key.union(other.key), one.value.union(other.value));
            self.entries.insert(expr.id, super::EntrySize { is_list: one.is_list, key, value });
        }
    }

    fn cost_counted(
        &mut self,
        expr: &Expr,
        call: &Call,
        counted: Cost,
        all: &[&Expr],
    ) -> (Range, Option<Range>) {
        let mut size = |at: usize| all.get(at).map_or(Range::UNKNOWN, |arg| self.size_or_unknown(arg));
        let (first, second) = (size(0), size(1));
        let searched = |size: Range| size.plus(ONE).scaled(TRAVERSAL);
        match counted {
            Cost::One => (ONE, None),
            Cost::Check => (Range::fixed(cost::CHECK), None),
            Cost::Selector => (Range::new(cost::selector(second.min), cost::selector(second.max)), None),
            Cost::Traverse => (self.cost_traverse(call, all, first), None),
            Cost::Text => (first.scaled(TRAVERSAL), Some(first)),
            Cost::Parse => (first.scaled(TRAVERSAL), None),
            Cost::ParseTwice => (first.scaled(2.0 * TRAVERSAL), None),
            Cost::Replace => {
                let with = size(2);
                (first.scaled(2.0 * TRAVERSAL), Some(replaced(first, second, with)))
            }
            Cost::Split => {
                let most = match all.get(2).map(|limit| &limit.kind) {
                    Some(Kind::Literal(Literal::Int(limit))) => *limit as u64,
                    _ => first.max,
                };
                (first.scaled(2.0 * TRAVERSAL), Some(Range::new(0, most)))
            }
            Cost::Join => {
                let size = self.joined(all, first);
                (size.scaled(TRAVERSAL), Some(size))
            }
            Cost::Find => (searched(first).times(second.scaled(PATTERN)), Some(Range::new(0, first.max))),
            Cost::Matches => (searched(first).times(second.scaled(PATTERN)), None),
            Cost::ContainsIp { parses } => {
                let compared = ADDRESS.plus(ADDRESS).scaled(TRAVERSAL);
                (if parses { compared.plus(second.scaled(TRAVERSAL)) } else { compared }, None)
            }
            Cost::ContainsCidr { parses } => {
                let compared =
                    ADDRESS.plus(ADDRESS).scaled(TRAVERSAL).plus(ADDRESS.scaled(TRAVERSAL)).plus(ONE);
                (if parses { compared.plus(second.scaled(TRAVERSAL)) } else { compared }, None)
            }
            Cost::Validate => (second.scaled(TRAVERSAL).scaled(NAMED_FORMAT as f64 * PATTERN), None),
            Cost::Affix => (second.scaled(TRAVERSAL), None),
            Cost::ToBytes => {
                (first.scaled(TRAVERSAL), Some(Range::new(first.min, first.max.wrapping_mul(4))))
            }
            Cost::ToString => (first.scaled(TRAVERSAL), Some(Range::new(first.min / 4, first.max))),
            Cost::Quote => {
                let quoted = Range::new(first.min.wrapping_add(2), first.max.wrapping_mul(2).wrapping_add(2));
                (first.scaled(TRAVERSAL), Some(quoted))
            }
            Cost::Format => (first.scaled(TRAVERSAL), None),
            Cost::InList => (second, None),
            Cost::Compare => (compared(first, second), None),
            Cost::Equal => (self.cost_equal(all, first, second), None),
            Cost::Concatenate => {
                let sum = first.plus(second);
                self.join_operand_entries(expr, all);
                (sum.scaled(TRAVERSAL), Some(sum))
            }
            Cost::ConcatenateLists => {
                self.join_operand_entries(expr, all);
                (ONE, Some(first.plus(second)))
            }
            Cost::Contains => (first.scaled(TRAVERSAL).times(second.scaled(TRAVERSAL)), None),
            Cost::SelfCompare { list } => {
                let size = size(list);
                let factor = if self.is_list_of_text(all.get(list)) {
                    cost::COMPARE + TRAVERSAL
                } else {
                    cost::COMPARE
                };
                // Items are compared as often as they are for a duplicate search, where strings count like all others.
                let factor = if call.function == "distinct" { cost::COMPARE } else { factor };
                making(factor, size.times(size))
            }
            Cost::Sets { rounds } => (first.times(second).scaled(rounds as f64).plus(ONE), None),
            Cost::Range => making(1.0, Range::fixed(written_int(all.first()).unwrap_or(u64::MAX))),
            Cost::Slice => {
                let start = written_int(all.get(1)).unwrap_or(0);
                let end = written_int(all.get(2)).unwrap_or(first.max);
                making(1.0, Range::fixed(end.wrapping_sub(start)))
            }
            Cost::Reverse => making(1.0, first),
            Cost::Flatten => {
                let depth = if all.len() > 1 { written_int(all.get(1)).unwrap_or(u64::MAX) } else { 1 };
                making(depth as f64, first)
            }
        }
    }

    fn join_operand_entries(&mut self, expr: &Expr, all: &[&Expr]) {
        if let [one, other] = all {
            self.join_entries(expr, one, other);
        }
    }

    /// The size of a list's items, where the argument is a list.
    fn item_size(&self, list: &Expr) -> Option<(Type, Range)> {
        let item = match self.checked.type_of(list) {
            Type::List(item) => (**item).clone(),
            // An optional or a map has parameters too.
            Type::Map(types) => types.0.clone(),
            of => of.optional_of()?.clone(),
        };
        let path = self.path(list).and_then(|path| match path {
            Path::Declared(declared) => declared.element(),
            _ => None,
        });
        Some((item, path.map_or(Range::UNKNOWN, |declared| Range::new(0, declared.max_elements))))
    }

    fn cost_traverse(&self, call: &Call, all: &[&Expr], first: Range) -> Range {
        match all.first().and_then(|list| self.item_size(list)) {
            Some((Type::String | Type::Bytes, size)) => first.times(ONE.plus(size.scaled(TRAVERSAL))),
            Some(_) => first,
            None if call.function == "includes" => first,
            None => first.scaled(TRAVERSAL),
        }
    }

    fn joined(&mut self, all: &[&Expr], list: Range) -> Range {
        let items = all.first().and_then(|list| self.item_size(list));
        let text = items.map_or(Range::fixed(0), |(_, size)| list.times(size));
        let Some(separator) = all.get(1) else { return text };
        let separators = Range::new(list.min.saturating_sub(1), list.max.saturating_sub(1));
        text.plus(self.size_or_unknown(separator).times(separators))
    }

    fn cost_equal(&mut self, all: &[&Expr], first: Range, second: Range) -> Range {
        let [one, other] = all else { return ONE };
        let of = self.checked.type_of(one);
        if of != self.checked.type_of(other) {
            return compared(first, second);
        }
        match of {
            Type::Opaque(name, _) if matches!(&**name, "net.IP" | "net.CIDR") => ONE,
            Type::Object(name) if &**name == "kubernetes.NamedFormat" => {
                Range::new(1, FORMAT_NAME).scaled(TRAVERSAL)
            }
            Type::Object(name) if &**name == "kubernetes.URL" => {
                let size = self.size(other).map_or(1, |size| size.max);
                Range::new(1, size).scaled(TRAVERSAL)
            }
            Type::Object(name) if name.starts_with("kubernetes.") => ONE,
            _ => compared(first, second),
        }
    }

    fn is_list_of_text(&self, list: Option<&&Expr>) -> bool {
        let of = list.map(|list| self.checked.type_of(list));
        matches!(of, Some(Type::List(item)) if matches!(**item, Type::String | Type::Bytes))
    }
}

/// Two values are compared up to the size of the smaller one.
fn compared(one: Range, other: Range) -> Range {
    let most = one.max.min(other.max);
    Range::new(u64::from(most > 0), most).scaled(TRAVERSAL)
}

fn making(factor: f64, size: Range) -> (Range, Option<Range>) {
    (size.scaled(factor).plus(Range::fixed(1 + cost::LIST)), Some(size))
}

fn written_int(expr: Option<&&Expr>) -> Option<u64> {
    match expr.map(|expr| &expr.kind) {
        Some(Kind::Literal(Literal::Int(value))) => Some(u64::try_from(*value).unwrap_or(0)),
        _ => None,
    }
}

/// The size of a text in which parts of one size are replaced by parts of another.
fn replaced(text: Range, part: Range, with: Range) -> Range {
    let (most, kept_most) = if part.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if with.max <= part.min {
        (0, text.max)
    } else {
        ((text.max as f64 / part.min as f64).ceil() as u64, 0)
    };
    let (least, kept_least) = if part.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if part.max <= with.min {
        (0, text.min)
    } else {
        ((text.min as f64 / part.max as f64).ceil() as u64, 0)
    };
    Range::new(least, most).times(with).plus(Range::new(kept_least, kept_most))
}
