//! Expressions that select devices for a claim. They see one device.

use std::sync::{Arc, LazyLock};

use crate::decl::{DeclKind, DeclType, MAX_REQUEST};
use crate::environment::{Environment, Level, NEW};
use crate::error::CompileError;
use crate::program::{Program, compile as program};
use crate::source::Issues;
use crate::types::Type;

/// The most that one evaluation may cost.
pub const MAX_COST: u64 = 1_000_000;

/// Longest driver, most attributes of a device, longest value of one.
const DRIVER: u64 = 63;
const ATTRIBUTES: u64 = 32;
const VALUE: u64 = 64;

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("compilation failed: {0}")]
    Issues(Issues),
    #[error("must evaluate to bool or the unknown type, not {}", .0.full_name())]
    Result(Type),
    /// Not of the expression's own making.
    #[error("program instantiation failed: {0}")]
    Program(String),
}

/// What the expressions may refer to.
pub fn environment(level: Level) -> Environment {
    static STORED: LazyLock<Environment> = LazyLock::new(|| make(crate::STORED));
    static NEWEST: LazyLock<Environment> = LazyLock::new(|| make(NEW));
    if level == NEW { NEWEST.clone() } else { STORED.clone() }
}

fn make(level: Level) -> Environment {
    // By domain, then by name.
    let by_domain = |value: DeclType| DeclType::map(DeclType::map(value, ATTRIBUTES), ATTRIBUTES);
    let device = DeclType::object([
        ("driver", DeclType::string(DRIVER)),
        ("attributes", by_domain(DeclType::new(DeclKind::Dyn, VALUE, 1))),
        ("capacity", by_domain(DeclType::new(DeclKind::Quantity, MAX_REQUEST, 8))),
        ("allowMultipleAllocations", DeclType::new(DeclKind::Bool, 1, 4)),
    ]);
    let device = Arc::new(device.named("kubernetes.DRADevice"));
    Environment::kubernetes(level).with_bind().with_sized_values().with_declared("device", &device)
}

/// Compiles a selector.
pub fn compile(expression: &str, level: Level) -> Result<Program, Error> {
    let program = program(expression, &environment(level)).map_err(|error| match error {
        CompileError::Issues(issues) => Error::Issues(issues),
        CompileError::Program(error) => Error::Program(error),
    })?;
    match program.output() {
        Type::Bool | Type::Dyn => Ok(program),
        other => Err(Error::Result(other.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_attributes_are_bounded() {
        let check = |expression: &str, fits: bool| {
            let program = compile(expression, NEW).map_err(|error| error.to_string());
            let fit = program.map(|program| program.estimate().max <= MAX_COST);
            assert_eq!(fit, Ok(fits), "{expression}");
        };
        check("device.attributes['a'].b.matches('^a+$')", true);
        check("device.attributes['a']['b'].matches('^a+$')", true);
        check("device.attributes['a'].b.startsWith(device.driver)", true);
        check("cel.bind(d, device.attributes['a'], d.b && d.c.matches('a'))", true);
        let most = "device.attributes['a'].all(k, device.attributes['a'].all(l, device.attributes['a'].all(m, \
            device.attributes['a'].all(n, k.matches('a+') || l != m))))";
        check(most, false);
    }
}
