//! Service account tokens: the signature, the claims, and that everything they are bound to still exists.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Validation;
use machinery::names;
use registry::Kind;
use serde::de::DeserializeOwned;
use watchcache::resources::{Entry, Resources};

use super::{Error, TokenUser};
use crate::keys::Verifier;
use crate::kinds;
use crate::tokens::{Bound, Claims, Legacy};
use crate::user::User;

const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// The label of a secret whose token is no longer accepted.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Seconds by which clocks may differ. An object counts as there for this long after its deletion was asked for, too, so that its own
/// clean-up can speak.
const LEEWAY: i64 = 60;

pub struct ServiceAccounts {
    pub issuers: Vec<String>,
    pub verifiers: Vec<Verifier>,
    pub resources: Arc<Resources>,
    pub api_audiences: Vec<String>,
    /// Whether secrets behind legacy tokens must exist.
    pub lookup: bool,
}

impl ServiceAccounts {
    /// `None` when the token is not of our issuers, and so for others to judge.
    pub fn authenticate(&self, token: &str, audiences: &[String]) -> Option<Result<TokenUser, Error>> {
        let issuer = unverified_issuer(token)?;
        if issuer == LEGACY_ISSUER {
            return Some(self.legacy(token, audiences));
        }
        if !self.issuers.contains(&issuer) {
            return None;
        }
        Some(self.bound(token, audiences))
    }

    fn bound(&self, token: &str, audiences: &[String]) -> Result<TokenUser, Error> {
        let claims: Claims = self.verify(token)?;
        let good = self.audiences(&claims.audience, audiences)?;
        let now = jiff::Timestamp::now().as_second();
        if claims.expiry.is_some_and(|expiry| now - LEEWAY > expiry) {
            return Err(invalid("service account token has expired"));
        }
        if claims.not_before.is_some_and(|from| now + LEEWAY < from) {
            return Err(invalid("service account token is not valid yet"));
        }
        if claims.issued.is_some_and(|issued| now + LEEWAY < issued) {
            return Err(invalid("service account token is issued in the future"));
        }
        let private = claims.private.ok_or_else(|| invalid("token has no Kubernetes claims"))?;
        if private.validating_webhook.is_some() || private.mutating_webhook.is_some() {
            return Err(invalid(
                "feature gate \"APIServerWebhookAuthenticationToken\" is disabled, but token is webhook bound",
            ));
        }
        let namespace = &private.namespace;
        let account = self
            .resources
            .get(kinds::service_accounts(), namespace, &private.service_account.name)
            .ok_or_else(|| {
                invalid(format!("serviceaccounts {:?} not found", private.service_account.name))
            })?;
        if *account.uid != *private.service_account.uid {
            return Err(invalid("service account UID does not match claim"));
        }
        self.alive(&account, "service account", now)?;
        let mut user = User {
            name: format!("system:serviceaccount:{namespace}:{}", private.service_account.name),
            uid: private.service_account.uid.clone(),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
            ..User::default()
        };
        let mut extra = |key: &str, value: &str| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        if !claims.id.is_empty() {
            extra("credential-id", &format!("JTI={}", claims.id));
        }
        if let Some(pod) = &private.pod {
            self.still_there(kinds::pods(), namespace, pod, "pod", now)?;
            extra("pod-name", &pod.name);
            extra("pod-uid", &pod.uid);
        }
        if let Some(secret) = &private.secret {
            self.still_there(kinds::secrets(), namespace, secret, "secret", now)?;
        }
        if let Some(node) = &private.node {
            if private.pod.is_none() {
                self.still_there(kinds::nodes(), "", node, "node", now)?;
            }
            extra("node-name", &node.name);
            if !node.uid.is_empty() {
                extra("node-uid", &node.uid);
            }
        }
        Ok(TokenUser { user, audiences: good })
    }

    /// Those requested audiences that a token is valid for. A token that names none is for this server's own.
    fn audiences(&self, named: &[String], asked: &[String]) -> Result<Vec<String>, Error> {
        let named = if named.is_empty() { &self.api_audiences } else { named };
        let good: Vec<String> = asked.iter().filter(|audience| named.contains(audience)).cloned().collect();
        if good.is_empty() && !self.api_audiences.is_empty() {
            return Err(invalid(format!(
                "token audiences {named:?} is invalid for the target audiences {asked:?}"
            )));
        }
        Ok(good)
    }

    fn still_there(
        &self,
        resource: &'static Arc<Kind>,
        namespace: &str,
        bound: &Bound,
        what: &str,
        now: i64,
    ) -> Result<(), Error> {
        let gone = || invalid(format!("{what} {:?} of the token is gone", bound.name));
        let entry = self.resources.get(resource, namespace, &bound.name).ok_or_else(gone)?;
        if *entry.uid != *bound.uid {
            return Err(gone());
        }
        self.alive(&entry, what, now)
    }

    fn alive(&self, entry: &Entry, what: &str, now: i64) -> Result<(), Error> {
        let object = entry.read().map_err(|error| invalid(error.message))?;
        let Some(deleted) = object["metadata"]["deletionTimestamp"].as_str() else { return Ok(()) };
        match deleted.parse::<jiff::Timestamp>() {
            Ok(deleted) if deleted.as_second() + LEEWAY < now => {
                Err(invalid(format!("{what} {:?} has been deleted", entry.name)))
            }
            _ => Ok(()),
        }
    }

    /// Tokens kept in secrets, without audience and expiry: for this server's own audiences, as long as all of what they name
    /// is as it was.
    fn legacy(&self, token: &str, audiences: &[String]) -> Result<TokenUser, Error> {
        let Legacy { subject, audience, namespace, secret, name, uid } = self.verify(token)?;
        let good = self.audiences(&audience, audiences)?;
        let claims = [("sub", &subject), ("namespace", &namespace), ("secretName", &secret)];
        let claims = claims.into_iter().chain([("serviceAccountName", &name), ("serviceAccountUID", &uid)]);
        if let Some((claim, _)) = claims.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(invalid(format!("{claim} claim is missing")));
        }
        if split_username(&subject) != Some((&namespace, &name)) {
            return Err(invalid("sub claim is invalid"));
        }
        if self.lookup {
            // an unreadable object authenticates no one
            let staying = |entry: &Entry| {
                entry.read().ok().filter(|object| !object["metadata"]["deletionTimestamp"].is_string())
            };
            let kept = self.resources.get(kinds::secrets(), &namespace, &secret);
            let kept = kept.and_then(|secret| staying(&secret));
            let kept = kept.ok_or_else(|| invalid("Token has been invalidated"))?;
            let own = kept["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok());
            let same = own.is_some_and(|own| {
                aws_lc_rs::constant_time::verify_slices_are_equal(&own, token.as_bytes()).is_ok()
            });
            if !same {
                return Err(invalid("Token does not match server's copy"));
            }
            let account = self.resources.get(kinds::service_accounts(), &namespace, &name);
            let account = account.ok_or_else(|| invalid(format!("serviceaccounts {name:?} not found")))?;
            if staying(&account).is_none() {
                return Err(invalid(format!("ServiceAccount {namespace}/{name} has been deleted")));
            }
            if *account.uid != *uid {
                let own = &account.uid;
                return Err(invalid(format!("ServiceAccount UID ({own}) does not match claim ({uid})")));
            }
            if kept["metadata"]["labels"][INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
                let why = "has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens";
                return Err(invalid(format!(
                    "the token in secret {namespace}/{secret} for service account {namespace}/{name} {why}, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
                )));
            }
        }
        let user = User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid,
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
            ..User::default()
        };
        Ok(TokenUser { user, audiences: good })
    }

    /// The claims, when one of the keys signed them.
    fn verify<T: DeserializeOwned + Clone>(&self, token: &str) -> Result<T, Error> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| invalid(error.to_string()))?;
        let mut last = invalid("no key verifies the token");
        for verifier in &self.verifiers {
            if header.alg != verifier.algorithm || header.kid.as_ref().is_some_and(|kid| *kid != verifier.id)
            {
                continue;
            }
            let mut validation = Validation::new(verifier.algorithm);
            validation.validate_exp = false;
            validation.validate_aud = false;
            validation.required_spec_claims.clear();
            match jsonwebtoken::decode::<T>(token, &verifier.key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => last = invalid(error.to_string()),
            }
        }
        Err(last)
    }
}

/// Namespace and name in the name of a service account's user; `None` where either is no name.
pub fn split_username(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (names::is_dns1123_label(namespace) && names::is_dns1123_subdomain(name)).then_some((namespace, name))
}

fn invalid(why: impl Into<String>) -> Error {
    Error::Token(format!("[invalid bearer token, {}]", why.into()))
}

fn unverified_issuer(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Issuer {
        iss: String,
    }
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next()?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice::<Issuer>(&bytes).ok().map(|issuer| issuer.iss)
}
