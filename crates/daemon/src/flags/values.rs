//! Effective values of the flags, for `/flagz`.

use std::any::TypeId;
use std::collections::BTreeMap;

use clap::{ArgMatches, Command};
use parking_lot::Mutex;

use super::Duration;

static VALUES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Each flag of the process with its effective value, in upstream's form: lists are `[a,b]`. Flags that were accepted
/// without effect are there where they were given.
pub fn values() -> BTreeMap<String, String> {
    VALUES.lock().clone()
}

/// Sets the effective value of a flag that the command line leaves to the daemon's default.
pub fn set_value(name: &str, value: &dyn ToString) {
    VALUES.lock().insert(name.to_owned(), value.to_string());
}

pub(super) fn keep(values: BTreeMap<String, String>) {
    *VALUES.lock() = values;
}

pub(super) fn of(command: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_long() else { continue };
        if matches!(name, "help" | "version") {
            continue;
        }
        let raw = matches.get_raw(argument.get_id().as_str());
        let mut texts: Vec<String> =
            raw.into_iter().flatten().map(|text| text.to_string_lossy().into_owned()).collect();
        if argument.get_value_parser().type_id() == TypeId::of::<Duration>() {
            for text in &mut texts {
                if let Ok(duration) = text.parse::<Duration>() {
                    *text = duration.to_string();
                }
            }
        }
        let list = matches!(argument.get_action(), clap::ArgAction::Append);
        let value = match list {
            true => format!("[{}]", texts.join(",")),
            false => texts.pop().unwrap_or_default(),
        };
        found.insert(name.to_owned(), value);
    }
    found
}
