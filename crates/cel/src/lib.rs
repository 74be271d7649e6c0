//! The Common Expression Language as Kubernetes has it, for validation rules of custom resources, admission policies, match
//! conditions, device selectors, and authentication and authorization rules.
//!
//! [`compile`] parses an expression, checks its types against an [`Environment`] and estimates its cost; [`Program::run`]
//! evaluates it on values that borrow from objects. Everything here is pure: there is no I/O and no clock. An authorization
//! check whose answer is not known ends an evaluation with [`EvalError::Need`]; the caller asks, adds the answer, and runs
//! the program again.
//!
//! The grammar and its messages are the public `cel` crate's. Its evaluator has neither a type checker nor costs, which is
//! why these are ours. Protobuf messages are absent: Kubernetes has none in expressions.

pub mod admission;
mod check;
mod cost;
mod decl;
mod depth;
pub mod devices;
mod environment;
mod error;
mod escape;
mod estimate;
pub mod library;
mod macros;
mod parse;
mod plan;
mod program;
mod run;
mod schema;
mod source;
mod syntax;
mod syntax_errors;
mod text;
mod types;
pub mod value;

pub use decl::{DeclField, DeclKind, DeclObject, DeclType, ListSemantics, MAX_REQUEST};
pub use environment::{Environment, Level, NEW, STORED};
pub use error::{CompileError, EvalError};
pub use escape::{escape, is_reserved, unescape};
pub use estimate::Range;
pub use library::authorizer::{Answer, Answers, Check};
pub use program::{
    Activation, BUDGET, Evaluated, MATCH_CONDITIONS_BUDGET, MAX_MESSAGE, PER_CALL_LIMIT, Program, compile,
};
pub use schema::{declare, declare_published};
pub use source::{Issue, Issues, Place};
pub use types::Type;
pub use value::Value;
