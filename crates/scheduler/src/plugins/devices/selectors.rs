//! Expressions that select devices. Each is compiled once.

use std::sync::{Arc, LazyLock};

use cel::value::{Map, Table, Value};
use cel::{Activation, Answers, DeclType, Environment, Program, STORED};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::cluster::facts::devices::{Attribute, Device};

/// The most that one evaluation may cost.
const LIMIT: u64 = 1_000_000;
/// Programs that are kept. Clusters have a few; when there are more, all are compiled again.
const KEPT: usize = 1000;

type Compiled = Arc<Result<Program, String>>;

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let amounts = || DeclType::map(DeclType::map(DeclType::dynamic(), 32), 32);
    let device = DeclType::object([
        ("driver", DeclType::string(63)),
        ("attributes", amounts()),
        ("capacity", amounts()),
        ("allowMultipleAllocations", DeclType::boolean()),
    ]);
    let device = Arc::new(device.named("kubernetes.DRADevice"));
    Environment::kubernetes(STORED).with_bind().with_declared("device", &device)
});

static PROGRAMS: LazyLock<Mutex<FxHashMap<Box<str>, Compiled>>> = LazyLock::new(Mutex::default);

fn compiled(expression: &str) -> Compiled {
    if let Some(known) = PROGRAMS.lock().get(expression) {
        return known.clone();
    }
    let program = cel::compile(expression, &ENVIRONMENT);
    let compiled = Arc::new(program.map_err(|error| format!("compilation failed: {error}")));
    let mut programs = PROGRAMS.lock();
    if programs.len() >= KEPT {
        programs.clear();
    }
    programs.insert(expression.into(), compiled.clone());
    compiled
}

/// Attributes or amounts, by domain and name. Names without a domain are the driver's; a domain without any is empty.
fn by_domain<'v>(driver: &'v str, all: impl Iterator<Item = (&'v str, Value<'v>)>) -> Value<'v> {
    let mut domains: FxHashMap<&str, Table<'v>> = FxHashMap::default();
    for (name, value) in all {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        domains.entry(domain).or_default().insert(Value::borrowed(name), value);
    }
    let mut table = Table::default();
    for (domain, names) in domains {
        table.insert(Value::borrowed(domain), Value::Map(Map::table(names)));
    }
    table.set_default(Value::Map(Map::table(Table::default())));
    Value::Map(Map::table(table))
}

fn attribute(attribute: &Attribute) -> Option<Value<'_>> {
    match attribute {
        Attribute::Int(value) => Some(Value::Int(*value)),
        Attribute::Bool(value) => Some(Value::Bool(*value)),
        Attribute::String(value) => Some(Value::borrowed(value)),
        Attribute::Version(value) => Value::semver(value),
        Attribute::Unknown => None,
    }
}

/// Whether an expression selects a device; otherwise what is wrong with it. What that costs is added.
pub(super) fn selects(
    expression: &str,
    driver: &str,
    device: &Device,
    cost: &mut u64,
) -> Result<bool, String> {
    let compiled = compiled(expression);
    let program = (*compiled).as_ref().map_err(|error| format!("CEL compile error: {error}"))?;
    let attributes =
        device.attributes.iter().filter_map(|(name, value)| Some((name.as_str(), attribute(value)?)));
    let amounts = device
        .capacity
        .iter()
        .filter_map(|(name, capacity)| Some((name.as_str(), Value::quantity(&capacity.value.text)?)));
    let mut table = Table::default();
    table.insert(Value::borrowed("driver"), Value::borrowed(driver));
    table.insert(Value::borrowed("attributes"), by_domain(driver, attributes));
    table.insert(Value::borrowed("capacity"), by_domain(driver, amounts));
    table.insert(Value::borrowed("allowMultipleAllocations"), Value::Bool(device.is_shareable));
    let mut activation = Activation::new(&ENVIRONMENT);
    activation.set(0, Value::Map(Map::table(table)));
    let evaluated = program.run(&activation, &Answers::default(), LIMIT);
    *cost = cost.saturating_add(evaluated.cost);
    match evaluated.result {
        Ok(Value::Bool(value)) => Ok(value),
        Ok(other) => Err(format!(
            "CEL runtime error: CEL result of type {} could not be converted to bool",
            other.type_of()
        )),
        Err(error) => Err(format!("CEL runtime error: {error}")),
    }
}
