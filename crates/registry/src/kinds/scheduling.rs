//! PriorityClasses.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::profile::{Generation, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{get, number, text};

/// The highest value that is not the system's.
pub const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;

/// The classes that every cluster has, with their values.
pub const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) const RULES: Table = &[(
    "k8s.io.api.scheduling.v1.PriorityClass",
    &[Rule::Default("preemptionPolicy", Literal::Text("PreemptLowerPriority"))],
)];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::One,
    immutable: &[("preemptionPolicy", "field is immutable")],
    check: Some(check),
    full: true,
    ..Profile::new("scheduling.k8s.io", "priorityclasses")
}];

fn check(_: &Context<'_>, class: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    if let Some(old) = old {
        if number(class, "value") != number(old, "value") {
            errors.push(Path::new("value").forbidden("may not be changed in an update."));
        }
        return;
    }
    let (name, value) = (text(class, "metadata.name"), number(class, "value"));
    if name.starts_with("system-") {
        let known = SYSTEM_CLASSES.iter().find(|(system, _)| *system == name);
        let problem = match known {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, expected)) if *expected != value => {
                Some(format!("value of {name} PriorityClass must be {expected}"))
            }
            Some(_) if get(class, "globalDefault") == &Tree::Bool(true) => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            errors.push(Path::new("metadata.name").forbidden(&format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
            )));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        errors.push(Path::new("value").forbidden(&format!(
            "maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        )));
    }
    let policy = text(class, "preemptionPolicy");
    if policy.is_empty() {
        errors.push(Path::new("preemptionPolicy").required(""));
    } else if !matches!(policy, "PreemptLowerPriority" | "Never") {
        let values = ["PreemptLowerPriority", "Never"];
        errors.push(Path::new("preemptionPolicy").not_supported(policy, &values));
    }
}
