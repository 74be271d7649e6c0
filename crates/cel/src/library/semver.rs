//! Semantic versions.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Context, Extended, Row, row, take};
use crate::error::EvalError;
use crate::text;
use crate::value::{Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row("string_to_semver", "semver(string) -> kubernetes.Semver", semver),
    row("string_bool_to_semver", "semver(string, bool) -> kubernetes.Semver", semver),
    row("is_semver_string", "isSemver(string) -> bool", is_semver),
    row("is_semver_string_bool", "isSemver(string, bool) -> bool", is_semver),
    row("semver_is_greater_than", ".isGreaterThan(kubernetes.Semver, kubernetes.Semver) -> bool", is_greater),
    row("semver_is_less_than", ".isLessThan(kubernetes.Semver, kubernetes.Semver) -> bool", is_less),
    row("semver_compare_to", ".compareTo(kubernetes.Semver, kubernetes.Semver) -> int", compare),
    row("semver_major", ".major(kubernetes.Semver) -> int", major),
    row("semver_minor", ".minor(kubernetes.Semver) -> int", minor),
    row("semver_patch", ".patch(kubernetes.Semver) -> int", patch),
];

#[derive(Debug)]
pub struct Semver {
    numbers: [u64; 3],
    prerelease: Vec<Identifier>,
    build: Vec<String>,
}

/// A part of a pre-release; numbers come before words.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl Semver {
    /// The order by which versions follow each other; builds do not count.
    pub(crate) fn precedence(&self, other: &Semver) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => self.prerelease.cmp(&other.prerelease),
            }
        })
    }
}

impl std::fmt::Display for Semver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (at, identifier) in self.prerelease.iter().enumerate() {
            f.write_str(if at == 0 { "-" } else { "." })?;
            match identifier {
                Identifier::Number(number) => write!(f, "{number}")?,
                Identifier::Word(word) => f.write_str(word)?,
            }
        }
        for (at, build) in self.build.iter().enumerate() {
            write!(f, "{}{build}", if at == 0 { "+" } else { "." })?;
        }
        Ok(())
    }
}

fn number(part: &str, name: &str) -> Result<u64, String> {
    if part.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {name} number {}", text::quote(part)));
    }
    if part.len() > 1 && part.starts_with('0') {
        let (first, rest) = name.split_at(1);
        return Err(format!(
            "{}{rest} number must not contain leading zeroes {}",
            first.to_uppercase(),
            text::quote(part)
        ));
    }
    let reason = if part.is_empty() { "invalid syntax" } else { "value out of range" };
    part.parse().map_err(|_| format!("strconv.ParseUint: parsing {}: {reason}", text::quote(part)))
}

fn is_word(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(crate) fn parse(text: &str) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let mut parts = text.splitn(3, '.');
    let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let (major, minor) = (number(major, "major")?, number(minor, "minor")?);
    let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
    let (patch, prerelease) =
        rest.split_once('-').map_or((rest, None), |(patch, words)| (patch, Some(words)));
    let numbers = [major, minor, number(patch, "patch")?];
    let prerelease: Result<Vec<Identifier>, String> =
        prerelease.into_iter().flat_map(|words| words.split('.')).map(identifier).collect();
    let prerelease = prerelease?;
    let build: Vec<String> =
        build.into_iter().flat_map(|words| words.split('.')).map(str::to_owned).collect();
    for word in &build {
        if word.is_empty() {
            return Err("Build meta data is empty".to_owned());
        }
        if !is_word(word) {
            return Err(format!("Invalid character(s) found in build meta data {}", text::quote(word)));
        }
    }
    Ok(Semver { numbers, prerelease, build })
}

fn identifier(word: &str) -> Result<Identifier, String> {
    if word.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        if word.len() > 1 && word.starts_with('0') {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {}",
                text::quote(word)
            ));
        }
        let parsed = word.parse().map(Identifier::Number);
        return parsed
            .map_err(|_| format!("strconv.ParseUint: parsing {}: value out of range", text::quote(word)));
    }
    if !is_word(word) {
        return Err(format!("Invalid character(s) found in prerelease {}", text::quote(word)));
    }
    Ok(Identifier::Word(word.to_owned()))
}

/// Adds what a short version lacks, and drops a `v` and leading zeros.
fn normalized(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
    if parts.len() < 3 {
        if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
    }
    Ok(parts.join("."))
}

fn without_zeros(part: &str) -> String {
    if part.len() < 2 {
        return part.to_owned();
    }
    let rest = part.trim_start_matches('0');
    if rest.starts_with(|c: char| c.is_ascii_digit()) { rest.to_owned() } else { format!("0{rest}") }
}

fn read(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<Result<Semver, String>> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(normalized(text).and_then(|text| parse(&text))),
        args => Err(super::mismatch(context.function, args)),
    }
}

fn semver<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match read(context, args)? {
        Ok(version) => Ok(Value::Extended(Extended::Semver(Arc::new(version)))),
        Err(message) => Err(EvalError::message(message)),
    }
}

fn is_semver<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(read(context, args)?.is_ok()))
}

fn order(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<Ordering> {
    take!(context, args, [Value::Extended(Extended::Semver(one)), Value::Extended(Extended::Semver(other))] => {
        Ok(one.precedence(other))
    })
}

fn is_greater<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(order(context, args)?.is_gt()))
}

fn is_less<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(order(context, args)?.is_lt()))
}

fn compare<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Int(order(context, args)? as i64))
}

fn part<'v>(context: &Context<'_>, args: &[Value<'v>], at: usize) -> Outcome<Value<'v>> {
    take!(context, args, [Value::Extended(Extended::Semver(version))] => Ok(Value::Int(version.numbers[at] as i64)))
}

fn major<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, 0)
}

fn minor<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, 1)
}

fn patch<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, 2)
}
