//! What ends an evaluation without a value.

use crate::library::authorizer::Check;
use crate::source::Issues;
use crate::value::Value;

/// Errors of an expression that is to be compiled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// Of the text or of its types.
    #[error(transparent)]
    Issues(#[from] Issues),
    /// Of a part that is computed once, when the program is made.
    #[error("{0}")]
    Program(String),
}

/// Errors of an evaluation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// An error of the expression on these values, such as a division by zero. `&&` and `||` may absorb it.
    #[error("{0}")]
    Message(Box<str>),
    /// The evaluation has cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// The value of a composed variable is needed; evaluate its expression, set it, and evaluate again.
    #[error("variable {0} has not been evaluated")]
    Variable(std::sync::Arc<str>),
    /// The answer to an authorization check is needed; ask it and evaluate again.
    #[error("an authorization check has no answer yet")]
    Need(Box<Check>),
}

impl EvalError {
    pub fn message(message: impl Into<Box<str>>) -> EvalError {
        EvalError::Message(message.into())
    }

    pub(crate) fn no_such_key(key: &Value<'_>) -> EvalError {
        EvalError::message(format!("no such key: {}", key.plain()))
    }

    pub(crate) fn no_such_overload() -> EvalError {
        EvalError::message("no such overload")
    }

    /// Ends the whole evaluation: no operator may absorb it.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, EvalError::Message(_))
    }
}
