//! Flags with pflag's habits on top of clap: `_` is `-`, the last one wins, booleans are `--x` or
//! `--x=false`, `-v=4`, upstream's error texts.
//!
//! A daemon declares a clap struct. In it a plain `bool` is a Go boolean (give `default_value_t = true`
//! together with `action = clap::ArgAction::Set` for one that is on by default), a `Vec<String>` with
//! `value_delimiter = ','` is a Go string slice, durations are [`Duration`], and [`Logging`] and
//! [`SecureServing`] are flattened in. Flags of upstream that a daemon takes but does not act on
//! are listed as [`Unsupported`], so that a drop-in start works and says what has no effect.

mod common;
mod duration;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command, Parser};

pub use common::{Logging, RequestHeader, SecureServing, path};
pub use duration::Duration;
pub use values::{set_value, values};

/// A flag of upstream's that is accepted without effect.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported {
    /// Without the dashes.
    pub name: &'static str,
    /// A boolean: takes no value unless written `--x=…`.
    pub boolean: bool,
}

/// Result of parsing a command line.
#[derive(Debug)]
pub enum Outcome<T> {
    Run {
        options: T,
        /// Flags given that have no effect, to be logged once logging is up.
        ignored: Vec<String>,
        /// Each flag and its effective value, as upstream writes them.
        values: BTreeMap<String, String>,
    },
    /// `--help` or `--version`: print to stdout, exit 0.
    Print(String),
    /// Print `Error: …` to stderr, exit 1.
    Fail(String),
}

/// Parses the process' command line; prints and exits for `--help`, `--version` and errors.
pub fn parse<T: Parser>() -> T {
    parse_with::<T>(&[]).0
}

/// [`parse`] for a daemon that lists flags it accepts without effect. The second part names those given.
pub fn parse_with<T: Parser>(unsupported: &[Unsupported]) -> (T, Vec<String>) {
    match parse_from::<T>(std::env::args().skip(1), unsupported) {
        Outcome::Run { options, ignored, values } => {
            values::keep(values);
            (options, ignored)
        }
        Outcome::Print(text) => {
            println!("{text}");
            std::process::exit(0)
        }
        Outcome::Fail(text) => {
            eprintln!("Error: {text}");
            std::process::exit(1)
        }
    }
}

/// [`parse`] without the process around it. `arguments` is without the program's name.
pub fn parse_from<T: Parser>(
    arguments: impl IntoIterator<Item = String>,
    unsupported: &[Unsupported],
) -> Outcome<T> {
    let mut command = go_command(T::command());
    let mut normal = vec![command.get_name().to_owned()];
    let mut ignored = Vec::new();
    let mut values =
        BTreeMap::from([("help".to_owned(), "false".to_owned()), ("version".into(), "false".into())]);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match split(&argument, &command) {
            Ok(split) => split,
            Err(message) => return Outcome::Fail(message),
        };
        match name.as_str() {
            "help" => return Outcome::Print(command.render_help().to_string().trim_end().to_owned()),
            "version" => match value.as_deref() {
                None | Some("true") => {
                    return Outcome::Print(format!("Kubernetes {}", crate::version::GIT_VERSION));
                }
                Some("raw") => return Outcome::Print(crate::version::raw()),
                Some(_) => continue,
            },
            _ => {}
        }
        let known = command.get_arguments().find(|known| known.get_long() == Some(&name));
        let other = unsupported.iter().chain(&Logging::UNSUPPORTED).find(|other| other.name == name);
        let boolean = match (known, other) {
            (Some(known), _) => is_bool(known),
            (None, Some(other)) => other.boolean,
            (None, None) => return Outcome::Fail(format!("unknown flag: --{name}")),
        };
        let value = match value {
            Some(value) => value,
            None if boolean => "true".to_owned(),
            None => match arguments.next() {
                Some(next) => next,
                None if argument.starts_with("--") => {
                    return Outcome::Fail(format!("flag needs an argument: --{name}"));
                }
                None => return Outcome::Fail(format!("flag needs an argument: '{name}' in {argument}")),
            },
        };
        match known {
            Some(_) => normal.push(format!("--{name}={value}")),
            None => {
                values.insert(name.clone(), value);
                ignored.push(name);
            }
        }
    }
    let parsed = command.try_get_matches_from_mut(normal).and_then(|mut matches| {
        values.append(&mut values::of(&command, &matches));
        T::from_arg_matches_mut(&mut matches)
    });
    match parsed {
        Ok(options) => Outcome::Run { options, ignored, values },
        Err(error) => Outcome::Fail(message(&error)),
    }
}

/// Go's `strconv.ParseBool`.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Name (dashes) and value of one argument.
fn split(argument: &str, command: &Command) -> Result<(String, Option<String>), String> {
    if let Some(long) = argument.strip_prefix("--").filter(|long| !long.is_empty()) {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        return Ok((name.replace('_', "-"), value));
    }
    let Some(short) = argument.strip_prefix('-').filter(|short| !short.is_empty() && !short.starts_with('-'))
    else {
        return Err(format!("{:?} does not take any arguments, got [{argument:?}]", command.get_name()));
    };
    let letter = short.chars().next().unwrap_or_default();
    let rest = &short[letter.len_utf8()..];
    let value = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest).to_owned());
    match letter {
        'h' => Ok(("help".into(), None)),
        'v' => Ok(("v".into(), value)),
        _ => match command.get_arguments().find(|known| known.get_short() == Some(letter)) {
            Some(known) => Ok((known.get_long().unwrap_or_default().to_owned(), value)),
            None => Err(format!("unknown shorthand flag: '{letter}' in {argument}")),
        },
    }
}

fn is_bool(argument: &clap::Arg) -> bool {
    argument.get_value_parser().type_id() == std::any::TypeId::of::<bool>()
}

fn go_command(command: Command) -> Command {
    command.args_override_self(true).disable_help_flag(true).disable_version_flag(true).mut_args(|argument| {
        if !is_bool(&argument) {
            return argument;
        }
        let plain = matches!(argument.get_action(), ArgAction::SetTrue);
        let argument = argument.action(ArgAction::Set).value_parser(GoBool);
        if plain { argument.default_value("false") } else { argument }
    })
}

/// `bool` with Go's spellings.
#[derive(Clone)]
struct GoBool;

impl clap::builder::TypedValueParser for GoBool {
    type Value = bool;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<bool, clap::Error> {
        if let Some(value) = value.to_str().and_then(go_bool) {
            return Ok(value);
        }
        let text = value.to_string_lossy().into_owned();
        let name = argument.and_then(clap::Arg::get_long).unwrap_or_default();
        let cause = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
        let mut error = clap::Error::new(ErrorKind::ValueValidation).with_cmd(command);
        error.insert(ContextKind::InvalidArg, ContextValue::String(format!("--{name}")));
        error.insert(ContextKind::InvalidValue, ContextValue::String(text));
        error.insert(ContextKind::Custom, ContextValue::String(cause));
        Err(error)
    }
}

/// A clap error in pflag's words.
fn message(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let argument = context(ContextKind::InvalidArg);
            let flag = argument.split([' ', '=']).next().unwrap_or_default();
            let flag = if flag == "--v" { "-v, --v" } else { flag };
            let value = context(ContextKind::InvalidValue);
            let custom = context(ContextKind::Custom);
            let cause = match std::error::Error::source(error) {
                _ if !custom.is_empty() => custom,
                Some(source) if source.to_string().contains("invalid digit") => {
                    format!("strconv.ParseInt: parsing {value:?}: invalid syntax")
                }
                Some(source) if source.to_string().contains(" is not in ") => {
                    format!("strconv.ParseInt: parsing {value:?}: value out of range")
                }
                Some(source) => source.to_string(),
                None => "invalid value".into(),
            };
            format!("invalid argument {value:?} for {flag:?} flag: {cause}")
        }
        ErrorKind::MissingRequiredArgument => {
            let names = context(ContextKind::InvalidArg);
            format!("required flag(s) {names:?} not set")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}
