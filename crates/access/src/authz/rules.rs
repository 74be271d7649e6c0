//! RBAC rules: what they match, and whether some cover others.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Attributes;

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    pub verbs: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
}

fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|own| own == "*" || own == value)
}

impl Rule {
    pub fn matches(&self, attributes: &Attributes<'_>) -> bool {
        if !has(&self.verbs, attributes.verb) {
            return false;
        }
        if !attributes.is_resource {
            return self.urls.iter().any(|url| url_matches(url, attributes.path));
        }
        has(&self.api_groups, attributes.group)
            && self
                .resources
                .iter()
                .any(|own| resource_matches(own, attributes.resource, attributes.subresource))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|own| own == attributes.name))
    }

    fn words(&self) -> usize {
        let lists = [&self.verbs, &self.api_groups, &self.resources, &self.resource_names, &self.urls];
        lists.into_iter().map(Vec::len).sum()
    }

    /// How many [`parts`] there are.
    fn parts(&self) -> usize {
        let resources = self.api_groups.len().saturating_mul(self.resources.len());
        let resources = resources.saturating_mul(self.resource_names.len().max(1));
        self.verbs.len().saturating_mul(resources.saturating_add(self.urls.len()))
    }
}

fn resource_matches(own: &str, resource: &str, subresource: &str) -> bool {
    if own == "*" {
        return true;
    }
    match own.split_once('/') {
        None => subresource.is_empty() && own == resource,
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((main, sub)) => main == resource && sub == subresource && !subresource.is_empty(),
    }
}

fn url_matches(own: &str, path: &str) -> bool {
    match own.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => own == path,
    }
}

/// Limit of rule parts that are compared. A rule of a thousand words has millions.
const MOST_PARTS: usize = 100_000;
/// Limit of comparisons between words of rules.
const MOST_COMPARED: usize = 100_000_000;

/// Comparing the rules would take too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rules have more combinations of verbs, groups, resources and names than can be compared with those of the user"
)]
pub struct TooMany;

/// The parts of `wanted` that no rule of `owned` covers, compacted.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Result<Vec<Rule>, TooMany> {
    let words_owned: usize = owned.iter().map(Rule::words).sum();
    let words_wanted: usize = wanted.iter().map(Rule::words).sum();
    if words_wanted.saturating_mul(words_owned) > MOST_COMPARED {
        return Err(TooMany);
    }
    let (mut looked_at, mut missing) = (0usize, Vec::new());
    for rule in wanted {
        if owned.iter().any(|own| covers(own, rule)) {
            continue;
        }
        looked_at = looked_at.saturating_add(rule.parts());
        if looked_at > MOST_PARTS || looked_at.saturating_mul(words_owned) > MOST_COMPARED {
            return Err(TooMany);
        }
        missing.extend(parts(rule).into_iter().filter(|part| !owned.iter().any(|own| covers(own, part))));
    }
    Ok(compact(missing))
}

/// One rule per combination of verb and what it applies to.
fn parts(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    let one = |text: &String| vec![text.clone()];
    for verb in &rule.verbs {
        for url in &rule.urls {
            parts.push(Rule { verbs: one(verb), urls: one(url), ..Rule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let part = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                    continue;
                }
                for name in &rule.resource_names {
                    parts.push(Rule { resource_names: one(name), ..part.clone() });
                }
            }
        }
    }
    parts
}

/// Whether a rule covers all of another.
fn covers(own: &Rule, rule: &Rule) -> bool {
    let url = |url: &String| {
        own.urls.iter().any(|granted| match (granted.strip_suffix('*'), url.strip_suffix('*')) {
            (Some(prefix), Some(wanted)) => wanted.starts_with(prefix),
            (Some(prefix), None) => url.starts_with(prefix),
            (None, _) => granted == url,
        })
    };
    let resource = |resource: &String| {
        let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        own.resources
            .iter()
            .any(|granted| granted == "*" || granted == resource || Some(granted) == sub.as_ref())
    };
    let named = || {
        own.resource_names.is_empty()
            || (!rule.resource_names.is_empty()
                && rule.resource_names.iter().all(|name| own.resource_names.contains(name)))
    };
    rule.verbs.iter().all(|verb| has(&own.verbs, verb))
        && rule.urls.iter().all(url)
        && (rule.api_groups.is_empty()
            || rule.resources.is_empty()
            || (rule.api_groups.iter().all(|group| has(&own.api_groups, group))
                && rule.resources.iter().all(resource)
                && named()))
}

/// Joins the verbs of rules that differ in nothing else.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    let mut places: HashMap<Rule, usize> = HashMap::new();
    for mut rule in rules {
        let verbs = std::mem::take(&mut rule.verbs);
        match places.get(&rule) {
            Some(place) => joined[*place].verbs.extend(verbs),
            None => {
                places.insert(rule.clone(), joined.len());
                joined.push(Rule { verbs, ..rule });
            }
        }
    }
    joined
}

/// As upstream prints rules in refusals.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |values: &[String]| {
            let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            format!("[{}]", quoted.join(" "))
        };
        let mut fields = Vec::new();
        for (name, values) in [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.resource_names),
            ("NonResourceURLs", &self.urls),
            ("Verbs", &self.verbs),
        ] {
            if !values.is_empty() {
                fields.push(format!("{name}:{}", list(values)));
            }
        }
        write!(f, "{{{}}}", fields.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Rule {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Rule { verbs: list(verbs), api_groups: list(groups), resources: list(resources), ..Rule::default() }
    }

    #[test]
    fn subresources_are_named_apart() {
        let user = User::default();
        let mut ask = Attributes::resource(&user, "get", "", "pods", "a", "b");
        assert!(rule(&["get"], &[""], &["pods"]).matches(&ask));
        ask.subresource = "log";
        assert!(!rule(&["get"], &[""], &["pods"]).matches(&ask));
        for own in ["pods/log", "*/log", "*"] {
            assert!(rule(&["*"], &["*"], &[own]).matches(&ask), "{own}");
        }
    }

    #[test]
    fn covering() {
        let owned = [rule(&["get", "list"], &[""], &["pods"])];
        assert_eq!(uncovered(&owned, &[rule(&["get"], &[""], &["pods"])]), Ok(Vec::new()));
        let missing =
            uncovered(&owned, &[rule(&["get", "delete", "watch"], &["", "apps"], &["pods"])]).unwrap();
        let text: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "delete" "watch"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "watch"]}"#
            ]
        );
        assert_eq!(uncovered(&[rule(&["*"], &["*"], &["*"])], &missing), Ok(Vec::new()));
    }

    #[test]
    fn names_are_covered_by_rules_without_and_by_the_same() {
        let named = |names: &[&str]| Rule {
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..rule(&["get"], &[""], &["pods"])
        };
        let check = |owned: Rule, wanted: Rule, covered: bool| {
            assert_eq!(uncovered(&[owned], &[wanted]).unwrap().is_empty(), covered);
        };
        check(named(&[]), named(&["a", "b"]), true);
        check(named(&["b", "a"]), named(&["a", "b"]), true);
        check(named(&["a"]), named(&["a", "b"]), false);
        check(named(&["a"]), named(&[]), false);
    }

    #[test]
    fn rules_of_too_many_combinations_are_not_compared() {
        let words: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let large = rule(&words, &words, &words);
        assert_eq!(
            uncovered(&[rule(&["get"], &[""], &["pods"])], std::slice::from_ref(&large)),
            Err(TooMany)
        );
        assert_eq!(uncovered(&[rule(&["*"], &["*"], &["*"])], std::slice::from_ref(&large)), Ok(Vec::new()));
        assert_eq!(uncovered(std::slice::from_ref(&large), std::slice::from_ref(&large)), Ok(Vec::new()));
        let owned: Vec<Rule> = (0..100).map(|_| large.clone()).collect();
        assert_eq!(uncovered(&owned, &owned), Err(TooMany));
    }
}
