//! Service account tokens: the signature, the claims, and that everything they are bound to still exists.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Validation;
use serde::de::DeserializeOwned;

use super::{Error, TokenUser};
use crate::keys::Verifier;
use crate::kinds;
use crate::resources::{Entry, Resources};
use crate::tokens::{Bound, Claims, Legacy};
use crate::user::User;

const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// An object counts as there for this long after its deletion was asked for, so that its own clean-up can speak.
const DELETION_LEEWAY: i64 = 60;

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
            return Some(self.legacy(token));
        }
        if !self.issuers.contains(&issuer) {
            return None;
        }
        Some(self.bound(token, audiences))
    }

    fn bound(&self, token: &str, audiences: &[String]) -> Result<TokenUser, Error> {
        let claims: Claims = self.verify(token)?;
        let good: Vec<String> =
            audiences.iter().filter(|audience| claims.audience.contains(audience)).cloned().collect();
        if good.is_empty() {
            return Err(invalid(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                claims.audience
            )));
        }
        let now = jiff::Timestamp::now().as_second();
        if claims.expiry.is_some_and(|expiry| now > expiry) {
            return Err(invalid("service account token has expired"));
        }
        if claims.not_before.is_some_and(|from| now + 60 < from) {
            return Err(invalid("service account token is not valid yet"));
        }
        let private = claims.private.ok_or_else(|| invalid("token has no Kubernetes claims"))?;
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

    fn still_there(
        &self,
        resource: &'static api::model::Resource,
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
        let object = entry.tree();
        let Some(deleted) = object["metadata"]["deletionTimestamp"].as_str() else { return Ok(()) };
        match deleted.parse::<jiff::Timestamp>() {
            Ok(deleted) if deleted.as_second() + DELETION_LEEWAY < now => {
                Err(invalid(format!("{what} {:?} has been deleted", entry.name)))
            }
            _ => Ok(()),
        }
    }

    /// Tokens kept in secrets, without audience and expiry.
    fn legacy(&self, token: &str) -> Result<TokenUser, Error> {
        let claims: Legacy = self.verify(token)?;
        if self.lookup {
            let account = self.resources.get(kinds::service_accounts(), &claims.namespace, &claims.name);
            let secret = self.resources.get(kinds::secrets(), &claims.namespace, &claims.secret);
            let (Some(account), Some(secret)) = (account, secret) else {
                return Err(invalid("token has been invalidated"));
            };
            let stored = secret.tree()["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok());
            if *account.uid != *claims.uid || stored.as_deref() != Some(token.as_bytes()) {
                return Err(invalid("token doesn't match server's copy"));
            }
        }
        let namespace = &claims.namespace;
        let user = User {
            name: format!("system:serviceaccount:{namespace}:{}", claims.name),
            uid: claims.uid,
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
            ..User::default()
        };
        Ok(TokenUser { user, audiences: self.api_audiences.clone() })
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

fn invalid(why: impl Into<String>) -> Error {
    Error::Token(format!("invalid bearer token, {}", why.into()))
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
