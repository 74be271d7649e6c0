//! Functions of the language and of Kubernetes' libraries: tables of overloads with what they do. A library's version, where
//! it has one, is chosen by the level of the environment.

pub mod authorizer;
pub(crate) mod convert;
mod extended;
pub(crate) mod format;
mod format_string;
mod lists;
mod network;
mod optional;
mod patch;
pub(crate) mod quantity;
mod regex;
pub(crate) mod semver;
mod sets;
mod standard;
mod strings;
mod time;
mod url;

use crate::error::EvalError;
use crate::value::{Outcome, Value};

pub use extended::Extended;

pub(crate) use patch::PATCHES;

pub use self::regex::re2;

pub(crate) use self::regex::compile as compile_regex;
pub(crate) use format_string::check as check_format;

/// What a function works with besides its arguments.
pub(crate) struct Context<'c> {
    /// The function as messages name it.
    pub function: &'c str,
    /// The pattern of a call whose pattern is a constant.
    pub pattern: Option<&'c ::regex::Regex>,
    /// Answers to authorization checks.
    pub answers: &'c authorizer::Answers,
}

pub(crate) type Run = for<'a, 'v> fn(&Context<'a>, &'a mut [Value<'v>]) -> Outcome<Value<'v>>;

/// An overload as the tables have it.
pub(crate) struct Row {
    pub id: &'static str,
    /// `name(types) -> type`; with a dot before it where it is called on its first argument.
    pub signature: &'static str,
    pub run: Run,
}

pub(crate) const fn row(id: &'static str, signature: &'static str, run: Run) -> Row {
    Row { id, signature, run }
}

/// The libraries of a level, which is the minor version that expressions must be compatible with.
pub(crate) fn tables(level: u32) -> Vec<&'static [Row]> {
    let mut tables = vec![
        standard::OPERATORS,
        standard::COMPARISONS,
        standard::FUNCTIONS,
        convert::ROWS,
        time::ROWS,
        url::ROWS,
        self::regex::ROWS,
        lists::KUBERNETES,
        authorizer::ROWS,
        quantity::ROWS,
        optional::ROWS,
        strings::ROWS,
        format_string::ROWS,
        sets::ROWS,
        network::ROWS,
        format::ROWS,
        authorizer::SELECTORS,
        standard::TWO_VARIABLES,
        semver::ROWS,
        lists::EXTENDED,
    ];
    if level >= 37 {
        tables.push(lists::INCLUDES);
    }
    tables
}

/// Functions whose arguments are not compared with the declared types before they run: they say themselves what they refuse.
pub(crate) fn is_unguarded(function: &str) -> bool {
    matches!(
        function,
        "_+_"
            | "_-_"
            | "_*_"
            | "_/_"
            | "_%_"
            | "-_"
            | "!_"
            | "_<_"
            | "_<=_"
            | "_>_"
            | "_>=_"
            | "@in"
            | "size"
            | "type"
            | "dyn"
            | "contains"
            | "startsWith"
            | "endsWith"
            | "matches"
            | "cel.@mapInsert"
    )
}

/// Functions that convert between types: of a constant they are computed when the program is made.
pub(crate) fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}

/// The position of the pattern among the arguments of functions that take one.
pub(crate) fn pattern_argument(function: &str) -> Option<usize> {
    matches!(function, "matches" | "find" | "findAll").then_some(1)
}

/// The error for arguments that no overload takes.
pub(crate) fn mismatch(function: &str, args: &[Value<'_>]) -> EvalError {
    let types: Vec<String> = args.iter().map(|arg| arg.type_of().name().to_owned()).collect();
    EvalError::message(format!("no such overload: {function}({})", types.join(", ")))
}

/// Binds arguments to variables by their kind, or answers that there is no such overload.
macro_rules! take {
    ($context:expr, $args:expr, [$($pattern:pat),+ $(,)?] => $body:expr) => {
        match $args {
            [$($pattern),+] => $body,
            args => Err($crate::library::mismatch($context.function, args)),
        }
    };
}

pub(crate) use take;
