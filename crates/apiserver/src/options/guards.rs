//! Security flags. If one is not supported the server refuses to start; ignoring it, as other flags are, would leave the server
//! open or its data unprotected against the operator's orders.

use access::authn::Anonymous;
use serde::Deserialize;

use super::authentication;
use super::authorization;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Guards {
    /// A file of kind AuthorizationConfiguration, in place of --authorization-mode.
    #[arg(long, default_value = "")]
    pub authorization_config: String,
    /// A file of kind AuthenticationConfiguration: what it says of anonymous requests.
    #[arg(long, default_value = "")]
    pub authentication_config: String,
    #[arg(long, default_value = "")]
    pub authorization_policy_file: String,
    #[arg(long, default_value = "")]
    pub authorization_webhook_config_file: String,
    #[arg(long)]
    pub authorization_webhook_version: Option<String>,
    #[arg(long)]
    pub authorization_webhook_cache_authorized_ttl: Option<String>,
    #[arg(long)]
    pub authorization_webhook_cache_unauthorized_ttl: Option<String>,
    #[arg(long, default_value = "")]
    pub authentication_token_webhook_config_file: String,
    #[arg(long, default_value = "")]
    pub encryption_provider_config: String,
    #[arg(long)]
    pub encryption_provider_config_automatic_reload: bool,
    /// A file of kind EgressSelectorConfiguration. One that asks for anything but direct connections is refused.
    #[arg(long, default_value = "")]
    pub egress_selector_config_file: String,
    #[arg(long, default_value = "")]
    pub audit_policy_file: String,
    #[arg(long, default_value = "")]
    pub tracing_config_file: String,
    #[command(flatten)]
    pub oidc: Oidc,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Oidc {
    #[arg(long)]
    pub oidc_issuer_url: Option<String>,
    #[arg(long)]
    pub oidc_client_id: Option<String>,
    #[arg(long)]
    pub oidc_ca_file: Option<String>,
    #[arg(long)]
    pub oidc_groups_claim: Option<String>,
    #[arg(long)]
    pub oidc_groups_prefix: Option<String>,
    #[arg(long)]
    pub oidc_required_claim: Option<String>,
    #[arg(long)]
    pub oidc_signing_algs: Option<String>,
    #[arg(long)]
    pub oidc_username_claim: Option<String>,
    #[arg(long)]
    pub oidc_username_prefix: Option<String>,
}

impl Oidc {
    fn any(&self) -> bool {
        [
            &self.oidc_issuer_url,
            &self.oidc_client_id,
            &self.oidc_ca_file,
            &self.oidc_groups_claim,
            &self.oidc_groups_prefix,
            &self.oidc_required_claim,
            &self.oidc_signing_algs,
            &self.oidc_username_claim,
            &self.oidc_username_prefix,
        ]
        .iter()
        .any(|flag| flag.is_some())
    }
}

/// A file's text, or why it cannot be read, as Go says it.
pub fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            std::io::ErrorKind::IsADirectory => return format!("read {path}: is a directory"),
            _ => error.to_string(),
        };
        format!("open {path}: {reason}")
    })
}

impl Guards {
    /// The authorizers in their order: those of `--authorization-mode`, or of the file.
    pub fn authorizers(&self, modes: &[String]) -> Result<Vec<String>, Vec<String>> {
        if !self.authorization_config.is_empty() {
            let webhook = !self.authorization_webhook_config_file.is_empty()
                || self.authorization_webhook_version.is_some()
                || self.authorization_webhook_cache_authorized_ttl.is_some()
                || self.authorization_webhook_cache_unauthorized_ttl.is_some();
            if webhook || !modes.is_empty() {
                return Err(vec![
                    "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined"
                        .into(),
                ]);
            }
            return authorization::load(&self.authorization_config);
        }
        let mut mistakes = Vec::new();
        let has = |mode: &str| modes.iter().any(|own| own == mode);
        for (mode, file, missing, unused) in [
            (
                "ABAC",
                &self.authorization_policy_file,
                "authorization-mode ABAC's authorization policy file not passed",
                "cannot specify --authorization-policy-file without mode ABAC",
            ),
            (
                "Webhook",
                &self.authorization_webhook_config_file,
                "authorization-mode Webhook's authorization config file not passed",
                "cannot specify --authorization-webhook-config-file without mode Webhook",
            ),
        ] {
            match (has(mode), file.is_empty()) {
                (true, true) => mistakes.push(missing.to_owned()),
                (true, false) => mistakes.push(format!("authorization-mode {mode} is not supported yet")),
                (false, false) => mistakes.push(unused.to_owned()),
                (false, true) => {}
            }
        }
        for mode in modes {
            if !matches!(mode.as_str(), "Node" | "RBAC" | "AlwaysAllow" | "AlwaysDeny" | "ABAC" | "Webhook") {
                mistakes.push(format!("authorization-mode {mode:?} is not a valid mode"));
            }
        }
        if (1..modes.len()).any(|index| modes[..index].contains(&modes[index])) {
            let quoted: Vec<String> = modes.iter().map(|mode| format!("{mode:?}")).collect();
            mistakes
                .push(format!("authorization-mode [{}] has mode specified more than once", quoted.join(" ")));
        }
        match (mistakes.is_empty(), modes.is_empty()) {
            (false, _) => Err(mistakes),
            (true, true) => Ok(vec!["AlwaysAllow".to_owned()]),
            (true, false) => Ok(modes.to_vec()),
        }
    }

    /// Whether requests without credentials are taken: by the flag, or by the file. Where `modes` let everyone do
    /// everything, only a file says so.
    pub fn anonymous(&self, flag: Option<bool>, modes: &[String]) -> Result<Anonymous, String> {
        let file = match self.authentication_config.as_str() {
            "" => None,
            _ if self.oidc.any() => {
                return Err("authentication-config file and oidc-* flags are mutually exclusive".into());
            }
            path => authentication::load(path)?,
        };
        match file {
            Some(_) if flag.is_some() => Err(
                "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file"
                    .into(),
            ),
            Some(anonymous) => Ok(anonymous),
            None => {
                let everyone = self.authorization_config.is_empty() && modes.iter().any(|mode| mode == "AlwaysAllow");
                let enabled = flag.unwrap_or(true);
                if everyone && enabled {
                    tracing::warn!(
                        "AnonymousAuth is not allowed with the AlwaysAllow authorizer. Resetting AnonymousAuth to false. You should use a different authorizer"
                    );
                }
                Ok(Anonymous::everywhere(enabled && !everyone))
            }
        }
    }

    /// Flags that do not go together.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let set = |flag: &Option<String>| flag.as_ref().is_some_and(|text| !text.is_empty());
        if self.oidc.any() && !(set(&self.oidc.oidc_issuer_url) && set(&self.oidc.oidc_client_id)) {
            mistakes.push(
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
                    .into(),
            );
        }
        if self.encryption_provider_config_automatic_reload && self.encryption_provider_config.is_empty() {
            mistakes.push(
                "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config"
                    .into(),
            );
        }
        mistakes
    }

    /// Why the server does not start with what these flags ask for: a file that is not there, or something it cannot do.
    pub fn refusal(&self) -> Option<String> {
        let unsupported = |flag: &str| format!("--{flag} is not supported yet");
        if self.oidc.any() {
            return Some(unsupported("oidc-issuer-url"));
        }
        for (path, flag, reading) in [
            (
                &self.encryption_provider_config,
                "encryption-provider-config",
                "error while parsing file: error while loading file: error reading encryption provider configuration file",
            ),
            (&self.authentication_token_webhook_config_file, "authentication-token-webhook-config-file", ""),
        ] {
            if path.is_empty() {
                continue;
            }
            return Some(match (read(path), reading) {
                (Ok(_), _) => unsupported(flag),
                (Err(error), "") => error.replacen("open ", "stat ", 1),
                (Err(error), reading) => format!("{reading} {path:?}: {error}"),
            });
        }
        self.egress().or_else(|| self.harmless())
    }

    fn egress(&self) -> Option<String> {
        let path = &self.egress_selector_config_file;
        let text = match read(path) {
            _ if path.is_empty() => return None,
            Ok(text) => text,
            Err(error) => {
                return Some(format!(
                    "failed to read egress selector config: unable to read egress selector configuration from {path:?} [{error}]"
                ));
            }
        };
        match proxied_egress(&text) {
            Ok(names) if names.is_empty() => None,
            Ok(names) => Some(format!(
                "--egress-selector-config-file: connections by proxy for {} are not supported yet",
                names.join(", ")
            )),
            Err(error) => Some(format!("failed to read egress selector config: {error}")),
        }
    }

    /// Nothing is less safe without these; only files that are not there are an error.
    fn harmless(&self) -> Option<String> {
        if let Some(Err(error)) = given(&self.audit_policy_file) {
            let path = &self.audit_policy_file;
            return Some(format!("loading audit policy file: failed to read file path {path:?}: {error}"));
        }
        if let Some(Err(error)) = given(&self.tracing_config_file) {
            let path = &self.tracing_config_file;
            return Some(format!(
                "failed to read tracing config: unable to read tracing configuration from {path:?}: {error}"
            ));
        }
        None
    }
}

fn given(path: &str) -> Option<Result<String, String>> {
    (!path.is_empty()).then(|| read(path))
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EgressSelectorConfiguration {
    egress_selections: Vec<EgressSelection>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EgressSelection {
    name: String,
    connection: Connection,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Connection {
    proxy_protocol: String,
    transport: Option<api::Tree>,
}

/// What is to be reached by a proxy.
fn proxied_egress(text: &str) -> Result<Vec<String>, String> {
    let kind = "EgressSelectorConfiguration";
    let read = |group: &str| {
        daemon::config::strict::<EgressSelectorConfiguration>(text, group, &["v1beta1", "v1alpha1"], kind)
    };
    let configuration =
        read("apiserver.k8s.io").or_else(|error| read("apiserver.config.k8s.io").map_err(|_| error))?;
    let direct = |one: &EgressSelection| {
        one.connection.proxy_protocol == "Direct" && one.connection.transport.is_none()
    };
    Ok(configuration.egress_selections.into_iter().filter(|one| !direct(one)).map(|one| one.name).collect())
}

#[cfg(test)]
mod tests;
