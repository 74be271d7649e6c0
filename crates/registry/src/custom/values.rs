//! Values against their schema, as upstream's OpenAPI validator finds and words it. Beside an old object, what an update leaves as
//! it was is not reported.

use api::Tree;
use api::model::ListType;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Quoted, Shown};

use super::schema::{Additional, Checks, Schema, Type};
use crate::rules::beside::Former;

/// Checks a value. `base` is where it stands, for what it is reported as: empty for the object itself.
pub fn check(schema: &Schema, value: &Tree, old: Option<&Tree>, base: &str, errors: &mut Vec<Cause>) {
    let mut walk = Walk { base, path: String::new() };
    let mut seen = Seen::new();
    for cause in walk.ratcheted(schema, value, old).errors {
        if is_full(errors) {
            break;
        }
        if !seen.repeats((cause.field.clone(), cause.message.clone())) {
            errors.push(cause);
        }
    }
}

/// What is wrong with a value, and how much of the schema it met: of alternatives that it meets none of, the best is reported.
#[derive(Default)]
struct Outcome {
    errors: Vec<Cause>,
    met: usize,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.met += other.met;
        if !is_full(&self.errors) {
            self.errors.extend(other.errors);
        }
    }

    fn of(errors: impl IntoIterator<Item = Cause>) -> Outcome {
        Outcome { errors: errors.into_iter().collect(), met: 0 }
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

struct Walk<'w> {
    base: &'w str,
    /// Below the base, as messages show it.
    path: String,
}

impl Walk<'_> {
    fn ratcheted(&mut self, schema: &Schema, value: &Tree, old: Option<&Tree>) -> Outcome {
        let mut outcome = self.value(schema, value, old);
        if old == Some(value) {
            outcome.errors.clear();
        }
        outcome
    }

    /// A value against all that its schema says.
    fn value(&mut self, schema: &Schema, value: &Tree, old: Option<&Tree>) -> Outcome {
        let mut outcome = Outcome::default();
        let checks = schema.checks.as_deref();
        if value.is_null() {
            outcome.merge(self.null(schema));
            outcome.merge(Outcome::of(checks.and_then(|checks| self.values(checks, value))));
            return outcome;
        }
        outcome.merge(match self.wrong_type(schema, value) {
            Some(wrong) => Outcome::of([wrong]),
            None => Outcome { met: usize::from(schema.ty.is_some()), ..Outcome::default() },
        });
        outcome.met += 1;
        if let Some(checks) = checks {
            outcome.merge(self.combined(checks, value, old));
        }
        outcome.met += 2;
        match value {
            Tree::String(text) => {
                outcome.merge(Outcome::of(checks.and_then(|checks| self.text(checks, text))));
                outcome.merge(Outcome::of(checks.and_then(|checks| self.format(checks, text))));
            }
            Tree::Number(_) => {
                outcome.errors.extend(checks.map(|c| self.number(c, schema, value)).unwrap_or_default())
            }
            Tree::Array(items) => {
                let items = self.items(schema, items, old);
                outcome.merge(items);
            }
            _ => {}
        }
        outcome.merge(Outcome::of(checks.and_then(|checks| self.values(checks, value))));
        outcome.met += 1;
        if let Tree::Object(_) = value {
            let members = self.members(schema, value, old);
            outcome.merge(members);
        }
        outcome.met += 1;
        outcome
    }

    fn null(&self, schema: &Schema) -> Outcome {
        match schema.ty {
            Some(ty) if !schema.nullable => Outcome::of([self.type_invalid(ty.name(), "null")]),
            _ => Outcome { met: 1, ..Outcome::default() },
        }
    }

    fn wrong_type(&self, schema: &Schema, value: &Tree) -> Option<Cause> {
        let format = schema.checks.as_deref().and_then(|checks| checks.format.as_ref());
        let format = format.map(|format| &*format.name);
        let (found, found_format) = match value {
            Tree::Bool(_) => (Type::Boolean, ""),
            Tree::String(_) => (Type::String, ""),
            Tree::Number(number) if number.is_f64() => (Type::Number, "float64"),
            Tree::Number(_) => (Type::Integer, "int64"),
            Tree::Array(_) => (Type::Array, ""),
            _ => (Type::Object, ""),
        };
        let Some(ty) = schema.ty else {
            let plain = matches!(value, Tree::String(_) | Tree::Array(_));
            return format
                .filter(|format| !plain && *format != found_format)
                .map(|format| self.type_invalid(format, found_format));
        };
        let whole = value
            .as_f64()
            .is_some_and(|float| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0);
        let fits = match ty {
            Type::IntOrString => {
                found == Type::String || found == Type::Integer || whole && found == Type::Number
            }
            Type::Integer => found == Type::Integer || whole && found == Type::Number,
            Type::Number => matches!(found, Type::Number | Type::Integer),
            ty => ty == found,
        };
        let plain = matches!(found, Type::String | Type::Array);
        let numeric = matches!(ty, Type::Number | Type::Integer | Type::IntOrString);
        match format {
            Some(format) if !plain && !fits && format != found_format => {
                Some(self.type_invalid(format, found_format))
            }
            Some(_) if plain && !numeric => None,
            _ if fits => None,
            _ => Some(self.type_invalid(ty.name(), found.name())),
        }
    }

    fn type_invalid(&self, expected: &str, found: &str) -> Cause {
        let detail = format!("{} in body must be of type {expected}: {}", self.path, Quoted(found));
        self.at(|path| path.type_invalid(found, &detail))
    }

    fn combined(&mut self, checks: &Checks, value: &Tree, old: Option<&Tree>) -> Outcome {
        let mut all = Outcome::default();
        let quoted = Quoted(&self.path.clone()).to_string();
        if !checks.any.is_empty() {
            let mut best: Option<Outcome> = None;
            let mut valid = None;
            for schema in &checks.any {
                let outcome = self.value(schema, value, old);
                if outcome.is_valid() {
                    valid = Some(outcome);
                    break;
                }
                if best.as_ref().is_none_or(|best| outcome.met > best.met) {
                    best = Some(outcome);
                }
            }
            if valid.is_none() {
                all.errors.push(plain(&format!("{quoted} must validate at least one schema (anyOf)")));
            }
            all.merge(valid.or(best).unwrap_or_default());
        }
        if !checks.one.is_empty() {
            let mut best: Option<Outcome> = None;
            let mut valid: Vec<Outcome> = Vec::new();
            for schema in &checks.one {
                let outcome = self.value(schema, value, old);
                if outcome.is_valid() {
                    best = None;
                    valid.push(outcome);
                } else if valid.is_empty() && best.as_ref().is_none_or(|best| outcome.met > best.met) {
                    best = Some(outcome);
                }
            }
            if valid.len() == 1 {
                valid.into_iter().for_each(|outcome| all.merge(outcome));
            } else {
                let found = match valid.len() {
                    0 => "Found none valid".to_owned(),
                    several => format!("Found {several} valid alternatives"),
                };
                all.errors
                    .push(plain(&format!("{quoted} must validate one and only one schema (oneOf). {found}")));
                all.merge(best.unwrap_or_default());
            }
        }
        if !checks.all.is_empty() {
            let mut valid = 0;
            for schema in &checks.all {
                let outcome = self.value(schema, value, old);
                valid += usize::from(outcome.is_valid());
                all.merge(outcome);
            }
            if valid != checks.all.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                all.errors.push(plain(&format!("{quoted} must validate all the schemas (allOf){none}")));
            }
        }
        if let Some(not) = &checks.not
            && self.value(not, value, old).is_valid()
        {
            all.errors.push(plain(&format!("{quoted} must not validate the schema (not)")));
        }
        all
    }

    fn text(&self, checks: &Checks, text: &str) -> Option<Cause> {
        let length = || text.chars().count() as i64;
        if let Some(most) = checks.max_length.filter(|most| length() > *most) {
            return Some(self.at(|path| path.too_long(usize::try_from(most).unwrap_or_default())));
        }
        if let Some(least) = checks.min_length.filter(|least| length() < *least) {
            return Some(self.invalid(text, &format!("should be at least {least} chars long")));
        }
        let pattern = checks.pattern.as_ref()?;
        let shown = match pattern.compiled() {
            Ok(compiled) if compiled.is_match(text) => return None,
            Ok(_) => pattern.text.to_string(),
            Err(error) => format!("{}, but pattern is invalid: {error}", pattern.text),
        };
        Some(self.invalid(text, &format!("should match '{shown}'")))
    }

    fn format(&self, checks: &Checks, text: &str) -> Option<Cause> {
        let format = checks.format.as_ref().filter(|format| format.accepts(text) == Some(false))?;
        let detail = format!("{} in body must be of type {}: {}", self.path, format.name, Quoted(text));
        Some(self.at(|path| path.type_invalid(text, &detail)))
    }

    fn number(&self, checks: &Checks, schema: &Schema, value: &Tree) -> Vec<Cause> {
        let format = checks.format.as_ref().map_or("", |format| &*format.name);
        let mut causes = Vec::new();
        let own = value.as_f64().unwrap_or_default();
        let range = |number: f64, what: &str| {
            let (least, most) = match format {
                "int32" => (f64::from(i32::MIN), f64::from(i32::MAX)),
                _ => (-9.3e18, 9.3e18),
            };
            let out = match (schema.ty, format) {
                (Some(Type::Integer), _) => number.fract() != 0.0 || number < least || number > most,
                (Some(Type::Number), "float") => number.abs() > f64::from(f32::MAX),
                _ => false,
            };
            out.then(|| {
                let ty = schema.ty.map_or("", Type::name);
                let default = match format {
                    "" => "(default format)".to_owned(),
                    format => format!("with format {format}"),
                };
                plain(&format!("{what} value must be of type {ty} {default} in {}", self.path))
            })
        };
        causes.extend(range(own, "Checked"));
        if let Some(factor) = checks.multiple_of {
            causes.extend(range(factor, "MultipleOf"));
            let whole = value.is_i64() && factor.fract() == 0.0;
            let multiple = match (value.as_i64(), whole) {
                (Some(own), true) if factor as i64 > 0 => own % factor as i64 == 0,
                _ if factor < 1.0 => (own * (1.0 / factor)).fract() == 0.0,
                _ => (own / factor).fract() == 0.0,
            };
            if factor <= 0.0 {
                let detail = format!(
                    "factor MultipleOf declared for {} must be positive: {}",
                    self.path,
                    float(factor)
                );
                causes.push(self.at(|path| path.invalid(&Tree::from(factor), &detail)));
            } else if !multiple {
                causes.push(self.invalid(value, &format!("should be a multiple of {}", float(factor))));
            }
        }
        if let Some(least) = checks.minimum {
            causes.extend(range(least, "Minimum boundary"));
            let exclusive = checks.exclusive_minimum;
            if own < least || exclusive && own <= least {
                let equal = if exclusive { "" } else { " or equal to" };
                causes.push(self.invalid(value, &format!("should be greater than{equal} {}", float(least))));
            }
        }
        if let Some(most) = checks.maximum {
            causes.extend(range(most, "Maximum boundary"));
            let exclusive = checks.exclusive_maximum;
            if own > most || exclusive && own >= most {
                let equal = if exclusive { "" } else { " or equal to" };
                causes.push(self.invalid(value, &format!("should be less than{equal} {}", float(most))));
            }
        }
        causes
    }

    fn items(&mut self, schema: &Schema, items: &[Tree], old: Option<&Tree>) -> Outcome {
        let mut outcome = Outcome { met: 1, ..Outcome::default() };
        let length = self.path.len();
        if let Some(below) = &schema.items {
            let keyed = old.filter(|_| schema.list == ListType::Map);
            let former = Former::by(keyed, schema.list, &schema.list_keys);
            for (index, item) in items.iter().enumerate() {
                if is_full(&outcome.errors) {
                    break;
                }
                self.path.push_str(&format!("[{index}]"));
                let one = self.ratcheted(below, item, former.counterpart(item));
                outcome.merge(one);
                self.path.truncate(length);
            }
        }
        let Some(checks) = schema.checks.as_deref() else { return outcome };
        let size = items.len() as i64;
        if let Some(least) = checks.min_items.filter(|least| size < *least) {
            outcome.errors.push(self.invalid(size, &format!("should have at least {least} items")));
        }
        if let Some(most) = checks.max_items.filter(|most| size > *most) {
            outcome
                .errors
                .push(self.at(|path| path.too_many(items.len(), usize::try_from(most).unwrap_or_default())));
        }
        if checks.unique {
            let mut seen = Seen::new();
            if items.iter().any(|item| seen.repeats(item)) {
                outcome.errors.push(self.invalid("", "shouldn't contain duplicates"));
            }
        }
        outcome
    }

    /// One of the values that there are.
    fn values(&self, checks: &Checks, value: &Tree) -> Option<Cause> {
        let is = |one: &Tree| match (one, value) {
            (Tree::Null, _) => false,
            (Tree::Number(one), Tree::Number(other)) => one.as_f64() == other.as_f64(),
            (one, value) => one == value,
        };
        if checks.values.is_empty() || checks.values.iter().any(is) {
            return None;
        }
        let words: Vec<String> = checks
            .values
            .iter()
            .map(|one| match one {
                Tree::String(text) => text.to_string(),
                other => String::from_utf8_lossy(&api::json::to_vec(other)).into_owned(),
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Some(self.at(|path| path.not_supported(value, &words)))
    }

    fn members(&mut self, schema: &Schema, value: &Tree, old: Option<&Tree>) -> Outcome {
        let mut outcome = Outcome::default();
        let Tree::Object(object) = value else { return outcome };
        let checks = schema.checks.as_deref();
        let size = object.len() as i64;
        if let Some(least) = checks.and_then(|checks| checks.min_properties).filter(|least| size < *least) {
            outcome.errors.push(self.invalid(size, &format!("should have at least {least} properties")));
        }
        if let Some(most) = checks.and_then(|checks| checks.max_properties).filter(|most| size > *most) {
            let most = usize::try_from(most).unwrap_or_default();
            outcome.errors.push(self.at(|path| path.too_many(object.len(), most)));
        }
        let length = self.path.len();
        for (key, value) in object.iter().filter(|(key, _)| !schema.properties.contains_key(key.as_str())) {
            if is_full(&outcome.errors) {
                break;
            }
            match &schema.additional {
                Some(Additional::Any(false)) => {
                    let detail = format!("{}.{key} in body is a forbidden property", self.path);
                    outcome.errors.push(self.at(|path| path.invalid(key, &detail)));
                }
                Some(Additional::Schema(below)) => {
                    self.path.push('.');
                    self.path.push_str(key);
                    let one = self.ratcheted(below, value, old.and_then(|old| old.get(key.as_str())));
                    outcome.merge(one);
                    self.path.truncate(length);
                }
                _ => {}
            }
        }
        for (name, below) in &schema.properties {
            let Some(value) = object.get(name) else { continue };
            // What the versions of an object say of themselves is not what was written.
            let type_meta = length == 0 && matches!(&**name, "kind" | "apiVersion");
            let before = old.filter(|_| !type_meta).and_then(|old| old.get(&**name));
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            let one = self.ratcheted(below, value, before);
            outcome.merge(one);
            self.path.truncate(length);
        }
        for name in schema.required.iter().filter(|name| !object.contains_key(name)) {
            self.path.push('.');
            self.path.push_str(name);
            outcome.errors.push(self.at(|path| path.required("")));
            self.path.truncate(length);
        }
        outcome
    }

    /// `spec.size in body should …`.
    fn invalid<'v>(&self, value: impl Into<Shown<'v>>, what: &str) -> Cause {
        let detail = format!("{} in body {what}", self.path);
        self.at(|path| path.invalid(value, &detail))
    }

    /// A cause at the place of the walk.
    fn at(&self, cause: impl FnOnce(Path<'_>) -> Cause) -> Cause {
        let below = self.path.strip_prefix('.').unwrap_or(&self.path);
        let base = Path::new(self.base);
        match (self.base.is_empty(), below.is_empty()) {
            (true, true) => cause(Path::root()),
            (true, false) => cause(Path::new(below)),
            (false, true) => cause(base),
            (false, false) => cause(base.field(below)),
        }
    }
}

/// A complaint that names no field.
fn plain(detail: &str) -> Cause {
    Path::root().invalid("", detail)
}

fn float(number: f64) -> String {
    String::from_utf8_lossy(&api::json::to_vec(&Tree::from(number))).into_owned()
}
