//! RBAC rules: what they match, and whether some cover others.

use serde::{Deserialize, Serialize};

use super::Attributes;

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// The parts of `wanted` that no rule of `held` covers, put together again.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing = Vec::new();
    for rule in wanted {
        for part in parts(rule) {
            if !held.iter().any(|own| covers(own, &part)) {
                missing.push(part);
            }
        }
    }
    compact(missing)
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

fn covers(own: &Rule, part: &Rule) -> bool {
    if !has(&own.verbs, &part.verbs[0]) {
        return false;
    }
    if let Some(url) = part.urls.first() {
        return own.urls.iter().any(|held| match (held.strip_suffix('*'), url.strip_suffix('*')) {
            (Some(prefix), Some(wanted)) => wanted.starts_with(prefix),
            (Some(prefix), None) => url.starts_with(prefix),
            (None, _) => held == url,
        });
    }
    let resource = &part.resources[0];
    let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    has(&own.api_groups, &part.api_groups[0])
        && own.resources.iter().any(|held| held == "*" || held == resource || Some(held) == sub.as_ref())
        && (own.resource_names.is_empty()
            || part.resource_names.first().is_some_and(|name| own.resource_names.contains(name)))
}

/// Joins the verbs of rules that differ in nothing else.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    for mut rule in rules {
        let same = joined.iter_mut().find(|other| {
            (&other.api_groups, &other.resources, &other.resource_names, &other.urls)
                == (&rule.api_groups, &rule.resources, &rule.resource_names, &rule.urls)
        });
        match same {
            Some(other) => other.verbs.append(&mut rule.verbs),
            None => joined.push(rule),
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
        let held = [rule(&["get", "list"], &[""], &["pods"])];
        assert!(uncovered(&held, &[rule(&["get"], &[""], &["pods"])]).is_empty());
        let missing = uncovered(&held, &[rule(&["get", "delete", "watch"], &["", "apps"], &["pods"])]);
        let text: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "delete" "watch"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "watch"]}"#
            ]
        );
        assert!(uncovered(&[rule(&["*"], &["*"], &["*"])], &missing).is_empty());
    }
}
