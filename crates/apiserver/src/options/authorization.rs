//! `--authorization-config`: who is asked whether a request may be, in which order. Webhooks and ABAC are refused: left
//! out, what they forbid would be allowed.

use machinery::names;
use serde::Deserialize;

const GROUP: &str = "apiserver.config.k8s.io";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const TYPES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Configuration {
    authorizers: Vec<Authorizer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Authorizer {
    r#type: String,
    name: String,
    webhook: Option<api::Tree>,
}

/// The modes that a file names.
pub fn load(path: &str) -> Result<Vec<String>, Vec<String>> {
    let text = super::guards::read(path).map_err(|error| vec![error])?;
    modes(&text)
}

fn modes(text: &str) -> Result<Vec<String>, Vec<String>> {
    let configuration: Configuration = match text.trim() {
        "" => Configuration::default(),
        text => daemon::config::strict(text, GROUP, &VERSIONS, "AuthorizationConfiguration")
            .map_err(|error| vec![format!("failed to load AuthorizationConfiguration from file: {error}")])?,
    };
    let authorizers = configuration.authorizers;
    let mut mistakes = mistakes(&authorizers);
    if mistakes.is_empty() {
        let misnamed = |one: &&Authorizer| one.r#type != "Webhook" && one.name != one.r#type.to_lowercase();
        mistakes.extend(authorizers.iter().filter(misnamed).map(|one| {
            let (kind, name) = (&one.r#type, &one.name);
            format!("expected name {} for authorizer {kind} instead of {name}", kind.to_lowercase())
        }));
    }
    if mistakes.is_empty() {
        let absent = |kind: &str| matches!(kind, "ABAC" | "Webhook");
        mistakes.extend(authorizers.iter().enumerate().filter(|(_, one)| absent(&one.r#type)).map(
            |(index, one)| {
                format!("authorizers[{index}].type: authorizers of type {} are not supported yet", one.r#type)
            },
        ));
    }
    match mistakes.is_empty() {
        true => Ok(authorizers.into_iter().map(|one| one.r#type).collect()),
        false => Err(mistakes),
    }
}

fn mistakes(authorizers: &[Authorizer]) -> Vec<String> {
    let mut mistakes = Vec::new();
    if authorizers.is_empty() {
        mistakes.push("authorizers: Required value: at least one authorization mode must be defined".into());
    }
    for (index, one) in authorizers.iter().enumerate() {
        let before = &authorizers[..index];
        let Authorizer { r#type: kind, name, webhook } = one;
        let mut mistake =
            |field: &str, text: String| mistakes.push(format!("authorizers[{index}].{field}: {text}"));
        match kind.as_str() {
            "" => {
                mistake("type", "Required value".into());
                continue;
            }
            kind if !TYPES.contains(&kind) => {
                let types: Vec<String> = TYPES.iter().map(|kind| format!("{kind:?}")).collect();
                mistake(
                    "type",
                    format!("Unsupported value: {kind:?}: supported values: {}", types.join(", ")),
                );
                continue;
            }
            kind if kind != "Webhook" && before.iter().any(|other| other.r#type == kind) => {
                mistake("type", format!("Duplicate value: {kind:?}"));
                continue;
            }
            _ => {}
        }
        if name.is_empty() {
            mistake("name", "Required value".into());
        } else if before.iter().any(|other| other.name == *name) {
            mistake("name", format!("Duplicate value: {name:?}"));
        } else {
            for problem in names::dns1123_subdomain(name) {
                mistake("name", format!("Invalid value: {name:?}: authorizer name is invalid: {problem}"));
            }
        }
        match (kind == "Webhook", webhook.is_some()) {
            (true, false) => mistake("webhook", "Required value: required when type=Webhook".into()),
            (false, true) => mistake(
                "webhook",
                "Invalid value: \"non-null\": may only be specified when type=Webhook".into(),
            ),
            _ => {}
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_modes_or_are_refused_in_upstreams_words() {
        let head = "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthorizationConfiguration\n";
        let read = |text: &str| modes(&format!("{head}authorizers: {text}"));
        assert_eq!(
            read("[{type: Node, name: node}, {type: RBAC, name: rbac, webhook: null}]").unwrap(),
            ["Node", "RBAC"]
        );
        for (text, expected) in [
            ("[]", "authorizers: Required value: at least one authorization mode must be defined"),
            ("null", "authorizers: Required value: at least one authorization mode must be defined"),
            ("[{type: RBAC}]", "authorizers[0].name: Required value"),
            ("[{name: a}]", "authorizers[0].type: Required value"),
            (
                "[{type: Nope, name: x}]",
                "authorizers[0].type: Unsupported value: \"Nope\": supported values: \"ABAC\", \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"",
            ),
            (
                "[{type: RBAC, name: a}, {type: AlwaysAllow, name: b}]",
                "expected name rbac for authorizer RBAC instead of a|expected name alwaysallow for authorizer AlwaysAllow instead of b",
            ),
            (
                "[{type: RBAC, name: a}, {type: RBAC, name: a}]",
                "authorizers[1].type: Duplicate value: \"RBAC\"",
            ),
            (
                "[{type: RBAC, name: rbac, webhook: {timeout: 3s}}]",
                "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
            ),
            (
                "[{type: Webhook, name: a}]",
                "authorizers[0].webhook: Required value: required when type=Webhook",
            ),
            (
                "[{type: Webhook, name: a, webhook: {timeout: 3s}}, {type: RBAC, name: rbac}]",
                "authorizers[0].type: authorizers of type Webhook are not supported yet",
            ),
            (
                "[{type: ABAC, name: abac}]",
                "authorizers[0].type: authorizers of type ABAC are not supported yet",
            ),
            (
                "[{type: RBAC, name: rbac, x: 1}]",
                "failed to load AuthorizationConfiguration from file: strict decoding error: unknown field \"authorizers[0].x\"",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().join("|"), expected, "{text}");
        }
        assert!(read("[{type: RBAC, name: A_b}]").unwrap_err()[0].starts_with(
            "authorizers[0].name: Invalid value: \"A_b\": authorizer name is invalid: a lowercase RFC 1123 subdomain"
        ));
        assert_eq!(load("/nonexistent").unwrap_err(), ["open /nonexistent: no such file or directory"]);
    }
}
