//! Service account tokens: issuing them bound to a pod, secret or node, and publishing the keys that verify them.

mod claims;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::json;
use api::{Status, Tree};
use jsonwebtoken::Header;

pub use claims::{Bound, Claims, Legacy, Private};

use crate::keys::{Signer, Verifier};
use crate::kinds;
use watchcache::resources::Resources;

/// Pods ask for this many seconds; their tokens live a year and warn after it, for clients that never reread them.
const WARN_ONLY_SECONDS: i64 = 3607;
const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// Issues tokens.
pub struct Issuer {
    pub resources: Arc<Resources>,
    pub issuer: String,
    pub api_audiences: Vec<String>,
    pub signer: Signer,
    pub verifiers: Vec<Verifier>,
    pub jwks_uri: String,
    /// Longest life in seconds; 0 is no limit.
    pub max_seconds: i64,
    pub extend: bool,
}

impl Issuer {
    /// `/.well-known/openid-configuration`.
    pub fn discovery(&self) -> Tree {
        let mut algorithms: Vec<Tree> = self.verifiers.iter().map(|key| key.jwk["alg"].clone()).collect();
        algorithms.dedup();
        json!({
            "issuer": self.issuer,
            "jwks_uri": self.jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    /// `/openid/v1/jwks`.
    pub fn jwks(&self) -> Tree {
        let keys: Vec<&Tree> = self.verifiers.iter().map(|key| &key.jwk).collect();
        json!({"keys": keys})
    }

    /// The object a token of this account is to be bound to, and for a pod its node.
    fn bound(&self, namespace: &str, account: &str, reference: &Tree) -> Result<BoundTo, Status> {
        let text = |name: &str| reference[name].as_str().unwrap_or_default();
        let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let (resource, plural, namespace) = match (group, kind) {
            ("", "Pod") => (kinds::pods(), "pods", namespace),
            ("", "Secret") => (kinds::secrets(), "secrets", namespace),
            ("", "Node") => (kinds::nodes(), "nodes", ""),
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        if name.is_empty() {
            return Err(Status::bad_request("Name parameter required."));
        }
        let entry = self
            .resources
            .get(resource, namespace, name)
            .ok_or_else(|| Status::not_found("", plural, name))?;
        let pod = (kind == "Pod").then(|| entry.read()).transpose()?;
        if pod.as_ref().is_some_and(|pod| pod["spec"]["serviceAccountName"] != account) {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        if !uid.is_empty() && uid != &*entry.uid {
            return Err(Status::conflict(
                "",
                kind,
                name,
                &format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        let bound = Bound { name: name.into(), uid: entry.uid.to_string() };
        Ok(match (kind, pod) {
            (_, Some(pod)) => {
                let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
                let node = node.map(|node| Bound {
                    name: node.into(),
                    uid: self
                        .resources
                        .get(kinds::nodes(), "", node)
                        .map(|node| node.uid.to_string())
                        .unwrap_or_default(),
                });
                BoundTo { pod: Some(bound), node, ..BoundTo::default() }
            }
            ("Secret", _) => BoundTo { secret: Some(bound), ..BoundTo::default() },
            _ => BoundTo { node: Some(bound), ..BoundTo::default() },
        })
    }
}

#[derive(Default)]
struct BoundTo {
    pod: Option<Bound>,
    secret: Option<Bound>,
    node: Option<Bound>,
}

impl Issuer {
    /// Checks a `TokenRequest` and completes what it leaves out. The service account is as stored.
    pub fn prepare(&self, service_account: &Tree, mut request: Tree) -> Result<Tree, Status> {
        let metadata = &service_account["metadata"];
        let text = |name: &str| metadata[name].as_str().unwrap_or_default();
        let asked = request["metadata"]["uid"].as_str().unwrap_or_default();
        if !asked.is_empty() && asked != text("uid") {
            let why = format!(
                "the UID in the token request ({asked}) does not match the UID of the service account ({})",
                text("uid")
            );
            return Err(Status::conflict(GROUP, KIND, text("name"), &why));
        }
        if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
            request["spec"]["audiences"] = json!(self.api_audiences);
        }
        if !request["metadata"].is_object() {
            request["metadata"] = json!({});
        }
        for field in ["name", "namespace", "uid"] {
            request["metadata"][field] = metadata[field].clone();
        }
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        request["metadata"]["creationTimestamp"] = json!(now);
        request["status"] = Tree::Null;
        check(&request["spec"])?;
        Ok(request)
    }

    /// Answers the prepared request with its status.
    pub async fn issue(
        &self,
        service_account: &Tree,
        mut request: Tree,
        warnings: &mut Vec<String>,
    ) -> Result<Tree, Status> {
        let text = |name: &str| service_account["metadata"][name].as_str().unwrap_or_default().to_owned();
        let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
        let spec = &mut request["spec"];
        let mut bound = BoundTo::default();
        if spec["boundObjectRef"].is_object() {
            bound = self.bound(&namespace, &name, &spec["boundObjectRef"])?;
        }
        let mut seconds = spec["expirationSeconds"].as_i64().unwrap_or_default();
        if self.max_seconds > 0 && seconds > self.max_seconds {
            warnings.push(format!(
                "requested expiration of {seconds} seconds shortened to {} seconds",
                self.max_seconds
            ));
            seconds = self.max_seconds;
            spec["expirationSeconds"] = json!(seconds);
        }
        let audiences: Vec<String> = spec["audiences"].parse().map_err(Status::internal)?;
        let now = jiff::Timestamp::now().as_second();
        let for_api = audiences.iter().all(|audience| self.api_audiences.contains(audience));
        let extended = self.extend && bound.pod.is_some() && seconds == WARN_ONLY_SECONDS && for_api;
        let claims = Claims {
            audience: audiences,
            expiry: Some(now + if extended { EXTENDED_SECONDS } else { seconds }),
            issued: Some(now),
            issuer: self.issuer.clone(),
            id: uuid::Uuid::new_v4().to_string(),
            private: Some(Private {
                namespace: namespace.clone(),
                node: bound.node,
                pod: bound.pod,
                secret: bound.secret,
                service_account: Bound { name: name.clone(), uid },
                warn_after: extended.then_some(now + seconds),
                ..Private::default()
            }),
            not_before: Some(now),
            subject: format!("system:serviceaccount:{namespace}:{name}"),
        };
        let mut header = Header::new(self.signer.algorithm);
        header.typ = None;
        header.kid = Some(self.signer.id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.signer.key).map_err(Status::internal)?;
        let expires = jiff::Timestamp::from_second(now + seconds).map_err(Status::internal)?;
        request["status"] = json!({"token": token, "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
        Ok(request)
    }
}

/// Fills what a request leaves out.
pub fn default(request: &mut Tree) {
    if request["spec"]["expirationSeconds"].is_null() {
        request["spec"]["expirationSeconds"] = json!(3600);
    }
}

/// A request may name the account that its path names, and no other.
pub fn check_names(request: &Tree, namespace: &str, name: &str) -> Result<(), Status> {
    for (field, own) in [("name", name), ("namespace", namespace)] {
        let said = request["metadata"][field].as_str().unwrap_or_default();
        if !said.is_empty() && said != own {
            let message =
                format!("Invalid value: {said:?}: must match the service account {field} if specified");
            return Err(invalid(name, format!("metadata.{field}"), message));
        }
    }
    Ok(())
}

fn check(spec: &Tree) -> Result<(), Status> {
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or_default();
    let why = if seconds < 600 {
        "may not specify a duration less than 10 minutes"
    } else if seconds > 1 << 32 {
        "may not specify a duration larger than 2^32 seconds"
    } else if spec["attestations"].as_object().is_some_and(|all| !all.is_empty()) {
        let why = "attestations may only be specified with a webhook bound object reference";
        let message = format!("Invalid value: {}: {why}", spec["attestations"]);
        return Err(invalid("", "spec.attestations".to_owned(), message));
    } else {
        return Ok(());
    };
    Err(invalid("", "spec.expirationSeconds".to_owned(), format!("Invalid value: {seconds}: {why}")))
}

fn invalid(name: &str, field: String, message: String) -> Status {
    let cause = api::status::Cause { reason: "FieldValueInvalid".into(), message, field };
    Status::invalid(GROUP, KIND, name, vec![cause])
}
