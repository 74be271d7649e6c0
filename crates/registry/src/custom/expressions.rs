//! `x-kubernetes-validations`: the rules of a schema, compiled once, and checked on every write within a budget.

mod estimate;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Tree;
use api::model::ListType;
use api::status::Cause;
use cel::library::authorizer::Answers;
use cel::{
    Activation, BUDGET, DeclType, Environment, EvalError, MAX_MESSAGE, PER_CALL_LIMIT, Program, STORED, Value,
};
use machinery::bounds::is_full;
use machinery::fieldpath::Path;

use super::schema::Schema;
use crate::rules::beside::Former;
use crate::tree::{flag, get, list, text};

pub(super) use estimate::check as check_definition;

/// The rules of a schema and of those in it; `None` where there are none.
pub struct Expressions {
    /// The type as the schema writes it.
    ty: String,
    /// What the rules may refer to: `self`, and `oldSelf` behind it.
    scope: Option<(Arc<DeclType>, Environment)>,
    rules: Vec<Rule>,
    properties: BTreeMap<Box<str>, Expressions>,
    values: Option<Box<Expressions>>,
    items: Option<Box<Expressions>>,
    /// What checking all of them may cost at most.
    pub(super) cost: u64,
}

/// One rule.
struct Rule {
    program: Result<Program, String>,
    message_program: Option<Program>,
    uses_old: bool,
    optional_old: bool,
    text: String,
    message: String,
    reason: String,
    /// Below the schema's own place; empty for that.
    field_path: String,
}

/// What an expression may refer to in a schema.
fn environment(declared: &Arc<DeclType>, optional_old: bool, level: cel::Level) -> Environment {
    let environment = Environment::kubernetes(level).with_declared("self", declared);
    match optional_old {
        true => environment.with_optional("oldSelf", declared),
        false => environment.with_declared("oldSelf", declared),
    }
}

impl Expressions {
    /// Compiles the rules of the schema of a kind's objects as a definition has it.
    pub fn of(schema: &Tree) -> Option<Expressions> {
        Expressions::below(schema, true, Some(1))
    }

    /// `times`: how often a value of the schema can be there at most.
    fn below(schema: &Tree, root: bool, times: Option<u64>) -> Option<Expressions> {
        let inside = times.zip(estimate::most(schema)).map(|(times, most)| times.saturating_mul(most));
        let below = |name: &str| {
            let schema = get(schema, name);
            schema.is_object().then(|| Expressions::below(schema, false, inside)).flatten().map(Box::new)
        };
        let properties: BTreeMap<Box<str>, Expressions> = get(schema, "properties")
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, schema)| {
                Some((name.as_str().into(), Expressions::below(schema, false, inside)?))
            })
            .collect();
        let (values, items) = (below("additionalProperties"), below("items"));
        let own = list(schema, "x-kubernetes-validations");
        if own.is_empty() && properties.is_empty() && values.is_none() && items.is_none() {
            return None;
        }
        let declared = (!own.is_empty()).then(|| cel::declare(schema, root)).flatten();
        let declared = declared.map(|declared| Arc::new(declared.named("selfType")));
        let rules: Vec<Rule> = declared
            .iter()
            .flat_map(|declared| own.iter().map(|rule| Rule::of(rule, schema, declared)))
            .collect();
        let children = properties.values().chain(values.as_deref()).chain(items.as_deref());
        let cost = children.map(|child| child.cost).fold(0, u64::saturating_add);
        let times = declared.as_ref().map(|declared| estimate::times(times, declared));
        let own_cost = rules.iter().map(Rule::estimate).fold(0, u64::saturating_add);
        Some(Expressions {
            ty: text(schema, "type").to_owned(),
            cost: cost.saturating_add(own_cost.saturating_mul(times.unwrap_or_default())),
            rules,
            scope: declared.map(|declared| {
                let environment = environment(&declared, false, STORED);
                (declared, environment)
            }),
            properties,
            values,
            items,
        })
    }

    /// Checks an object beside what it was. Where something is wrong already that makes rules meaningless, that is said instead.
    pub fn check(&self, schema: &Schema, tree: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
        const BLOCKING: [&str; 5] = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        if errors.iter().any(|error| BLOCKING.contains(&error.reason.as_str())) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(Path::root().invalid(&Tree::Null, detail));
            return;
        }
        let mut walk = Walk { left: BUDGET, errors };
        walk.value(
            self,
            schema,
            Place { value: tree, old, same: Same::of(tree, old), root: true },
            &Path::root(),
        );
    }
}

impl Rule {
    fn of(rule: &Tree, schema: &Tree, declared: &Arc<DeclType>) -> Rule {
        let optional_old = flag(rule, "optionalOldSelf");
        let environment = environment(declared, optional_old, STORED);
        let source = text(rule, "rule");
        let program = cel::compile(source, &environment).map_err(|error| error.to_string());
        let message_expression = text(rule, "messageExpression");
        let message_program = (!message_expression.is_empty())
            .then(|| cel::compile(message_expression, &environment).ok())
            .flatten();
        let field_path = super::definition::field_path(text(rule, "fieldPath"), schema);
        Rule {
            uses_old: program.as_ref().is_ok_and(|program| program.reads("oldSelf")),
            program,
            message_program,
            optional_old,
            text: source.trim().to_owned(),
            message: text(rule, "message").trim().to_owned(),
            reason: text(rule, "reason").to_owned(),
            field_path,
        }
    }

    /// What it may cost at most.
    fn estimate(&self) -> u64 {
        self.program.as_ref().map_or(0, |program| program.estimate().max)
    }

    /// As errors of its evaluation name it.
    fn name(&self) -> &str {
        if self.message.is_empty() { &self.text } else { &self.message }
    }
}

/// Whether an update leaves a value as it was, or else the value that it is part of and can be compared.
#[derive(Clone, Copy)]
struct Same {
    own: Option<bool>,
    parent: bool,
}

impl Same {
    fn of(value: &Tree, old: Option<&Tree>) -> Same {
        Same { own: old.map(|old| old == value), parent: false }
    }

    fn below(self, value: &Tree, old: Option<&Tree>, comparable: bool) -> Same {
        match self.own {
            None => self,
            Some(same) => Same { own: comparable.then(|| old == Some(value)), parent: same },
        }
    }

    fn spares(self) -> bool {
        self.own.unwrap_or(self.parent)
    }
}

/// A value, what it was before, and whether that is known.
#[derive(Clone, Copy)]
struct Place<'t> {
    value: &'t Tree,
    old: Option<&'t Tree>,
    same: Same,
    root: bool,
}

struct Walk<'w> {
    /// What the rules that are left may cost.
    left: u64,
    errors: &'w mut Vec<Cause>,
}

/// No further rules are checked.
struct Stop;

impl Walk<'_> {
    fn value(&mut self, rules: &Expressions, schema: &Schema, place: Place<'_>, path: &Path<'_>) {
        let _ = self.walk(rules, schema, place, path);
    }

    fn walk(
        &mut self,
        rules: &Expressions,
        schema: &Schema,
        place: Place<'_>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        if place.value.is_null() || is_full(self.errors) {
            return Ok(());
        }
        self.own(rules, place, path)?;
        match place.value {
            Tree::Array(items) => {
                let (Some(rules), Some(below)) = (&rules.items, &schema.items) else { return Ok(()) };
                let keyed = place.old.filter(|_| schema.list == ListType::Map);
                let former = Former::by(keyed, schema.list, &schema.list_keys);
                for (index, item) in items.iter().enumerate() {
                    let old = former.counterpart(item);
                    let same = place.same.below(item, old, keyed.is_some() && old.is_some());
                    let item = Place { value: item, old, same, root: false };
                    self.walk(rules, below, item, &path.index(index))?;
                }
            }
            Tree::Object(object) => {
                for (name, value) in object {
                    let (rules, at) = match (rules.properties.get(name.as_str()), &rules.values) {
                        (Some(rules), _) => (rules, path.field(name)),
                        (None, Some(rules)) => (&**rules, path.key(name)),
                        _ => continue,
                    };
                    let Some(below) = schema.member(name) else { continue };
                    let old = place.old.and_then(|old| old.get(name.as_str()));
                    let comparable = place.old.is_some_and(Tree::is_object)
                        && !(place.root && matches!(name.as_str(), "apiVersion" | "kind"));
                    let same = place.same.below(value, old, comparable);
                    self.walk(rules, below, Place { value, old, same, root: false }, &at)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The rules of the schema itself.
    fn own(&mut self, rules: &Expressions, place: Place<'_>, path: &Path<'_>) -> Result<(), Stop> {
        let Some((declared, environment)) = &rules.scope else { return Ok(()) };
        let old = place.old.filter(|old| !old.is_null());
        let invalid = |detail: &str| path.invalid(rules.ty.as_str(), detail);
        if self.left == 0 {
            self.errors.push(invalid(OUT_OF_BUDGET));
            return Err(Stop);
        }
        let read = |tree| Value::of_tree(tree, Some(declared));
        let (value, before) = match (read(place.value), old.map(read).transpose()) {
            (Ok(value), Ok(before)) => (value, before),
            (Err(error), _) | (_, Err(error)) => {
                self.errors.push(invalid(&error.to_string()));
                return Ok(());
            }
        };
        for rule in &rules.rules {
            let program = match &rule.program {
                Ok(program) => program,
                Err(error) => {
                    self.errors.push(invalid(&format!("rule compile error: compilation failed: {error}")));
                    continue;
                }
            };
            if rule.uses_old && before.is_none() && !rule.optional_old {
                continue;
            }
            let mut activation = Activation::new(environment);
            activation.set(0, value.clone());
            match (&before, rule.optional_old) {
                (Some(before), true) => activation.set(1, Value::some(before.clone())),
                (None, true) => activation.set(1, Value::NONE),
                (Some(before), false) => activation.set(1, before.clone()),
                (None, false) => {}
            }
            let evaluated = program.run(&activation, &Answers::default(), PER_CALL_LIMIT.min(self.left + 1));
            if evaluated.cost > self.left {
                self.errors.push(invalid(OUT_OF_BUDGET));
                return Err(Stop);
            }
            self.left -= evaluated.cost;
            match evaluated.result {
                Ok(Value::Bool(true)) => continue,
                Ok(_) => {}
                Err(error) => {
                    let (words, name) = (error.to_string(), rule.name());
                    if words.starts_with("no such overload") {
                        self.errors.push(invalid(&format!(
                            "'{words}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
                        )));
                    } else if let EvalError::CostLimit = error {
                        self.errors.push(invalid(&format!(
                            "'{words}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                        )));
                        return Err(Stop);
                    } else {
                        self.errors.push(invalid(&format!("{words} evaluating rule: {name}")));
                    }
                    continue;
                }
            }
            if !rule.uses_old && place.same.spares() {
                continue;
            }
            let detail = self.message(rule, &activation).unwrap_or_else(|| match rule.message.as_str() {
                "" => format!("failed rule: {}", rule.text),
                message => message.to_owned(),
            });
            let at = path.field(&rule.field_path);
            let at = if rule.field_path.is_empty() { path } else { &at };
            self.errors.push(cause(at, place.value, &rules.ty, &detail, &rule.reason));
        }
        Ok(())
    }

    /// What the rule's own expression says, where it says something that can be shown.
    fn message(&mut self, rule: &Rule, activation: &Activation<'_>) -> Option<String> {
        let program = rule.message_program.as_ref()?;
        let evaluated = program.run(activation, &Answers::default(), PER_CALL_LIMIT.min(self.left + 1));
        self.left = self.left.saturating_sub(evaluated.cost);
        let value = evaluated.result.ok()?;
        let message = value.as_str()?.trim();
        let fits = !message.is_empty() && message.len() <= MAX_MESSAGE && !message.contains('\n');
        fits.then(|| message.to_owned())
    }
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The error of a rule that does not hold; objects and lists are not shown.
fn cause(path: &Path<'_>, value: &Tree, ty: &str, detail: &str, reason: &str) -> Cause {
    let shown = !matches!(ty, "object" | "array");
    match reason {
        "FieldValueForbidden" => path.forbidden(detail),
        "FieldValueRequired" => path.required(detail),
        "FieldValueDuplicate" if shown => path.duplicate(value),
        "FieldValueDuplicate" => Cause { message: "Duplicate value".to_owned(), ..path.duplicate(value) },
        _ if shown => path.invalid(value, detail),
        _ => Cause { message: format!("Invalid value: {detail}"), ..path.invalid("", detail) },
    }
}
