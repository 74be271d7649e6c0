//! A check of policies' expressions for the objects of one kind. Requests are served by programs that know nothing of the types of
//! objects; this finds expressions that can only fail.

use std::sync::Arc;

use super::{composed, namespace, request};
use crate::decl::DeclType;
use crate::environment::{Environment, STORED};
use crate::program::type_of;
use crate::source::Issues;
use crate::types::Type;

/// What a policy's parameters are.
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'d> {
    /// It has none.
    None,
    /// Objects of a kind that nothing is known of.
    Unknown,
    Declared(&'d Arc<DeclType>),
}

/// Checks a policy's variables in their order, then what may refer to them.
pub struct TypeCheck {
    environment: Environment,
    variables: Vec<(Arc<str>, Type)>,
}

impl TypeCheck {
    /// `object` is what `object` and `oldObject` are; [`DeclType::named`] has named its objects, and those of the parameters.
    pub fn new(object: &Arc<DeclType>, parameters: Parameters<'_>) -> TypeCheck {
        let environment = Environment::kubernetes(STORED)
            .with_declared("namespaceObject", &namespace())
            .with_declared("request", &request())
            .with_declared("object", object)
            .with_declared("oldObject", object)
            .with_variable("authorizer", Type::object("kubernetes.authorization.Authorizer"));
        let environment = match parameters {
            Parameters::None => environment,
            Parameters::Unknown => environment.with_variable("params", Type::Dyn),
            Parameters::Declared(params) => environment.with_declared("params", params),
        };
        TypeCheck { environment, variables: Vec::new() }
    }

    /// Makes a variable known to the expressions after it, whatever is wrong with it.
    pub fn declare(&mut self, name: &str, expression: &str) {
        let of = self.type_of(expression).map_or(Type::Dyn, |of| composed(&of));
        self.variables.retain(|(known, _)| **known != *name);
        self.variables.push((Arc::from(name), of));
    }

    pub fn check(&self, expression: &str) -> Result<(), Issues> {
        self.type_of(expression).map(drop)
    }

    fn type_of(&self, expression: &str) -> Result<Type, Issues> {
        type_of(expression, &self.environment.clone().with_composed(self.variables.iter().cloned()))
    }
}
