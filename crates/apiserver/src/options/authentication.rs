//! Who a request without credentials is: `--anonymous-auth`, or `anonymous` of `--authentication-config`. That file's
//! `jwt` is refused.

use access::authn::Anonymous;
use serde::Deserialize;

const GROUP: &str = "apiserver.config.k8s.io";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Configuration {
    jwt: Vec<api::Tree>,
    anonymous: Option<Configured>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Configured {
    enabled: bool,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    path: String,
}

/// What a file says of requests without credentials, if it says anything.
pub fn load(path: &str) -> Result<Option<Anonymous>, String> {
    let failed =
        |error: String| format!("failed to load authentication configuration from file {path:?}: {error}");
    let text = super::guards::read(path).map_err(failed)?;
    if text.trim().is_empty() {
        return Err(failed("empty config data".into()));
    }
    let configuration: Configuration =
        daemon::config::strict(&text, GROUP, &VERSIONS, "AuthenticationConfiguration").map_err(failed)?;
    let invalid = |error: String| Err(format!("invalid authentication configuration: {error}"));
    if !configuration.jwt.is_empty() {
        return invalid("jwt: authenticators by JSON web tokens are not supported yet".into());
    }
    let Some(anonymous) = configuration.anonymous else { return Ok(None) };
    let paths: Vec<String> = anonymous.conditions.into_iter().map(|condition| condition.path).collect();
    if !anonymous.enabled && !paths.is_empty() {
        let shown: Vec<String> = paths.iter().map(|path| format!("{{\"Path\":{path:?}}}")).collect();
        return invalid(format!(
            "anonymous.conditions: Invalid value: [{}]: enabled should be set to true when conditions are defined",
            shown.join(",")
        ));
    }
    Ok(Some(Anonymous { enabled: anonymous.enabled, paths }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_where_anyone_may_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authn.yaml").display().to_string();
        let read = |text: &str| {
            let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
            std::fs::write(&path, format!("{head}{text}")).unwrap();
            load(&path).map_err(|error| error.replace(&path, "PATH"))
        };
        let livez = read("anonymous: {enabled: true, conditions: [{path: /livez}]}").unwrap().unwrap();
        assert!(livez.allows("/livez") && !livez.allows("/livez/") && !livez.allows("/version"));
        assert_eq!(read("anonymous: {enabled: true}").unwrap(), Some(Anonymous::everywhere(true)));
        assert_eq!(read("anonymous: {}").unwrap(), Some(Anonymous::everywhere(false)));
        assert_eq!(read("anonymous: null\njwt: []").unwrap(), None);
        for (text, expected) in [
            (
                "anonymous: {enabled: false, conditions: [{path: /livez}]}",
                "invalid authentication configuration: anonymous.conditions: Invalid value: [{\"Path\":\"/livez\"}]: enabled should be set to true when conditions are defined",
            ),
            (
                "jwt: [{issuer: {url: https://x}}]",
                "invalid authentication configuration: jwt: authenticators by JSON web tokens are not supported yet",
            ),
            (
                "anonymous: {enabled: true, conditions: [{path: /livez, x: 1}]}",
                "failed to load authentication configuration from file \"PATH\": strict decoding error: unknown field \"anonymous.conditions[0].x\"",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert_eq!(
            load("/nonexistent").unwrap_err(),
            "failed to load authentication configuration from file \"/nonexistent\": open /nonexistent: no such file or directory"
        );
    }
}
