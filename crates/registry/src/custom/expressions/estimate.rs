//! Whether the rules of a definition can be compiled, and what they may cost at most: a rule that could keep the server busy for long is
//! not taken.

use std::collections::HashSet;

use api::Tree;
use api::status::Cause;
use cel::{CompileError, MAX_REQUEST, NEW, Program, STORED, Type};
use machinery::fieldpath::{Path, Shown};
use std::sync::Arc;

use super::environment;
use crate::tree::{flag, get, has, list, text};

/// What one rule may cost at most.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may.
const TOTAL_LIMIT: u64 = 100_000_000;

/// Checks the rules of a schema without other errors. Expressions that are stored already (`old`: the schemas of a definition before
/// its update) may use what is newer than the oldest server that reads them; a schema that is as it was may be as expensive as
/// it was.
pub fn check(schema: &Tree, old: &[&Tree], path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut walk = Walk {
        rules: HashSet::new(),
        messages: HashSet::new(),
        unchanged: old.contains(&schema),
        total: 0,
        expensive: Vec::new(),
        errors,
    };
    old.iter().for_each(|schema| walk.remember(schema));
    walk.schema(schema, path, true, Some(1), None);
    if walk.total > TOTAL_LIMIT {
        let Walk { total, expensive, errors, .. } = walk;
        let detail =
            "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        for (place, _) in &expensive {
            errors.push(Path::new(place).forbidden(detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(path.forbidden(&too_much(what, total, TOTAL_LIMIT)));
    }
}

struct Walk<'w> {
    rules: HashSet<&'w str>,
    messages: HashSet<&'w str>,
    unchanged: bool,
    total: u64,
    /// The most expensive rules, the worst first.
    expensive: Vec<(String, u64)>,
    errors: &'w mut Vec<Cause>,
}

impl<'w> Walk<'w> {
    fn remember(&mut self, schema: &'w Tree) {
        for rule in list(schema, "x-kubernetes-validations") {
            self.rules.insert(text(rule, "rule"));
            self.messages.insert(text(rule, "messageExpression"));
        }
        let below =
            get(schema, "properties").as_object().into_iter().flat_map(|properties| properties.values());
        let singles = ["items", "additionalProperties"].into_iter().map(|name| get(schema, name));
        below.chain(singles).filter(|below| below.is_object()).for_each(|below| self.remember(below));
    }

    /// `times`: how often the value can be there at most. `lost`: the list above it whose items cannot be found again.
    fn schema(&mut self, schema: &Tree, path: &Path<'_>, root: bool, times: Option<u64>, lost: Option<&str>) {
        let inside = times.zip(most(schema)).map(|(times, most)| times.saturating_mul(most));
        let values = get(schema, "additionalProperties");
        if values.is_object() {
            self.schema(values, &path.field("additionalProperties"), false, inside, lost);
        }
        let properties = path.field("properties");
        for (name, below) in get(schema, "properties").as_object().into_iter().flatten() {
            self.schema(below, &properties.key(name), false, inside, lost);
        }
        let items = get(schema, "items");
        if items.is_object() {
            let keyed = text(schema, "x-kubernetes-list-type") == "map";
            let own = (!keyed).then(|| path.to_string());
            let lost = lost.or(own.as_deref());
            self.schema(items, &path.field("items"), false, inside, lost);
        }
        let rules = list(schema, "x-kubernetes-validations");
        if rules.is_empty() {
            return;
        }
        let at = path.field("x-kubernetes-validations");
        let Some(declared) = cel::declare(schema, root) else {
            let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            self.errors.push(at.internal(detail));
            return;
        };
        let times = self::times(times, &declared);
        let declared = Arc::new(declared.named("selfType"));
        for (index, rule) in rules.iter().enumerate() {
            self.rule(rule, &declared, times, lost, &at.index(index));
        }
    }

    fn rule(
        &mut self,
        rule: &Tree,
        declared: &Arc<cel::DeclType>,
        times: u64,
        lost: Option<&str>,
        path: &Path<'_>,
    ) {
        let (at, source) = (path.field("rule"), text(rule, "rule"));
        let level = |known: bool| if known { STORED } else { NEW };
        let optional = flag(rule, "optionalOldSelf");
        let of = environment(declared, optional, level(self.rules.contains(source)));
        let program = match compiled(source, &of, &Type::Bool, "", "cel expression must evaluate to a bool") {
            Ok(program) => Some(program),
            Err(detail) => {
                self.errors.push(at.invalid(shown(rule), &detail));
                None
            }
        };
        let cost = program.as_ref().map_or(0, |program| program.estimate().max.saturating_mul(times));
        if cost > RULE_LIMIT && !self.unchanged {
            self.errors.push(at.forbidden(&too_much("estimated rule cost", cost, RULE_LIMIT)));
        }
        self.observe(&at, cost);
        let Some(program) = program else { return };
        let (at, source) = (path.field("messageExpression"), text(rule, "messageExpression"));
        if !source.is_empty() {
            let of = environment(declared, optional, level(self.messages.contains(source)));
            let wrong = "messageExpression must evaluate to a string";
            match compiled(source, &of, &Type::String, "messageExpression ", wrong) {
                Ok(message) => {
                    let cost = message.estimate().max;
                    if cost > RULE_LIMIT && !self.unchanged {
                        let words = too_much("estimated messageExpression cost", cost, RULE_LIMIT);
                        self.errors.push(at.forbidden(&words));
                    }
                    self.observe(&at, cost);
                }
                Err(detail) => self.errors.push(at.invalid(shown(rule), &detail)),
            }
        }
        let uses_old = program.reads("oldSelf");
        if let Some(lost) = lost.filter(|_| uses_old) {
            let detail =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}");
            self.errors.push(path.field("rule").invalid(text(rule, "rule"), &detail));
        }
        if !uses_old && has(rule, "optionalOldSelf") {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(path.field("optionalOldSelf").invalid(optional, detail));
        }
    }

    fn observe(&mut self, path: &Path<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= TOTAL_LIMIT / 100 {
            self.expensive.push((path.to_string(), cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(4);
        }
    }
}

fn compiled(
    source: &str,
    environment: &cel::Environment,
    wanted: &Type,
    what: &str,
    wrong: &str,
) -> Result<Program, String> {
    match cel::compile(source, environment) {
        Ok(program) if program.output() == wanted => Ok(program),
        Ok(_) => Err(wrong.to_owned()),
        Err(CompileError::Issues(issues)) => Err(format!("{what}compilation failed: {issues}")),
        Err(CompileError::Program(error)) if what.is_empty() => {
            Err(format!("program instantiation failed: {error}"))
        }
        Err(CompileError::Program(error)) => Err(format!("{what}instantiation failed: {error}")),
    }
}

/// How often a value of this type can be there: as often as a request has room for it, where that has no bound.
pub(super) fn times(times: Option<u64>, declared: &cel::DeclType) -> u64 {
    times.unwrap_or(MAX_REQUEST / (declared.min_size + 1))
}

/// How many values there can be in one of the schema; `None` where that is not bounded.
pub(super) fn most(schema: &Tree) -> Option<u64> {
    let limit =
        |name: &str| schema.get(name).and_then(Tree::as_i64).map(|limit| u64::try_from(limit).unwrap_or(0));
    match text(schema, "type") {
        "object" if has(schema, "additionalProperties") => limit("maxProperties"),
        "array" => limit("maxItems"),
        _ => Some(1),
    }
}

fn too_much(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        _ if factor > 100.0 => "more than 100x".to_owned(),
        _ if factor < 1.5 => format!("{factor:.6}x"),
        _ => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as errors show it.
fn shown(rule: &Tree) -> Shown<'static> {
    let string = |name: &str| {
        let mut out = Vec::new();
        api::json::write_string(text(rule, name), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let reason = if has(rule, "reason") { string("reason") } else { "null".to_owned() };
    let optional = rule.get("optionalOldSelf").map_or("null".to_owned(), Tree::to_string);
    Shown::Plain(format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\"OptionalOldSelf\":{optional}}}",
        string("rule"),
        string("message"),
        string("messageExpression"),
        string("fieldPath"),
    ))
}
