//! Who sends a request: front proxy, client certificate, bearer token, or nobody in particular.
//!
//! Credentials that are there but wrong are refused (401); only a request without any is anonymous.

mod bootstrap_token;
mod credentials;
mod header;
mod impersonation;
mod service_account;
mod static_token;

use std::sync::Arc;

use daemon::serving::Peer;
use daemon::serving::authority::{Authority, Subject};
use http::HeaderMap;

use crate::options::Anonymous;
use crate::resources::Resources;
use crate::user::User;

pub use header::RequestHeader;
pub use impersonation::{Wanted, impersonated};
pub use service_account::ServiceAccounts;
pub use static_token::StaticTokens;

pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";

/// The request's credentials are no good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("verifying certificate: {0}")]
    Certificate(String),
    #[error("{0}")]
    Token(String),
    #[error("no credentials")]
    NoCredentials,
}

/// Everything that can vouch for a request.
pub struct Authenticator {
    pub client_ca: Option<Authority>,
    pub request_header: Option<RequestHeader>,
    pub service_accounts: ServiceAccounts,
    pub static_tokens: StaticTokens,
    pub bootstrap_tokens: bool,
    pub anonymous: Anonymous,
    pub resources: Arc<Resources>,
    pub api_audiences: Vec<String>,
}

/// A connection's certificate as last verified.
struct Verified {
    generation: u64,
    holder: Result<Holder, String>,
}

/// Whose certificate it is.
struct Holder {
    /// None where it has no common name: it is nobody's, whatever groups it names.
    user: Option<User>,
    /// Unix seconds.
    not_after: i64,
}

/// The user of a token and the audiences it is good for.
#[derive(Debug)]
pub struct TokenUser {
    pub user: User,
    pub audiences: Vec<String>,
}

impl Authenticator {
    /// Takes out of a request all that a backend must not see of who its user is.
    pub fn strip_credentials(&self, headers: &mut HeaderMap) {
        credentials::strip(headers, |name| {
            self.request_header.as_ref().is_some_and(|front| front.reads(name))
        });
    }

    /// `path` is that of the request, without its query.
    pub fn authenticate(&self, headers: &HeaderMap, path: &str, peer: &Peer) -> Result<User, Error> {
        let mut problem = None;
        if let Some(front) = &self.request_header {
            match front.authenticate(headers, peer) {
                Ok(Some(user)) => return Ok(user.authenticated()),
                Ok(None) => {}
                Err(error) => problem = Some(error),
            }
        }
        match self.certificate(peer) {
            Ok(Some(user)) => return Ok(user.authenticated()),
            Ok(None) => {}
            Err(error) => problem = Some(error),
        }
        if let Some(token) = credentials::bearer(headers) {
            return match self.token(&token, &self.api_audiences) {
                Ok(found) => Ok(found.user.authenticated()),
                Err(error) => Err(error),
            };
        }
        match problem {
            Some(error) => Err(error),
            None if self.anonymous.allows(path) => {
                Ok(User { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..User::default() })
            }
            None => Err(Error::NoCredentials),
        }
    }

    /// The user of a bearer token that is good for one of `audiences`.
    pub fn token(&self, token: &str, audiences: &[String]) -> Result<TokenUser, Error> {
        if let Some(user) = self.static_tokens.find(token) {
            return Ok(TokenUser { user, audiences: self.api_audiences.clone() });
        }
        if let Some(result) = self.service_accounts.authenticate(token, audiences) {
            return result;
        }
        if self.bootstrap_tokens
            && let Some(user) = bootstrap_token::authenticate(&self.resources, token)
        {
            return Ok(TokenUser { user, audiences: self.api_audiences.clone() });
        }
        Err(Error::Token("invalid bearer token".into()))
    }

    fn certificate(&self, peer: &Peer) -> Result<Option<User>, Error> {
        let Some(authority) = &self.client_ca else { return Ok(None) };
        if peer.certificates().is_empty() {
            return Ok(None);
        }
        let verify = || Verified {
            generation: authority.generation(),
            holder: authority
                .verify(peer.certificates())
                .map(|subject| Holder::new(subject, &peer.certificates()[0]))
                .map_err(|error| error.to_string()),
        };
        // The signatures are checked once per connection and bundle; the validity at every request.
        let kept = peer.note(verify);
        let fresh;
        let verified = match kept {
            Some(kept) if kept.generation == authority.generation() => kept,
            _ => {
                fresh = verify();
                &fresh
            }
        };
        let holder = verified.holder.as_ref().map_err(|error| Error::Certificate(error.clone()))?;
        if holder.not_after < jiff::Timestamp::now().as_second() {
            return Err(Error::Certificate("x509: certificate has expired or is not yet valid".into()));
        }
        Ok(holder.user.clone())
    }
}

impl Holder {
    fn new(subject: Subject, certificate: &[u8]) -> Holder {
        if subject.common_name.is_empty() {
            return Holder { user: None, not_after: subject.not_after };
        }
        let mut user = User { name: subject.common_name, groups: subject.organizations, ..User::default() };
        user.extra.insert(
            "authentication.kubernetes.io/credential-id".into(),
            vec![format!("X509SHA256={}", fingerprint(certificate))],
        );
        Holder { user: Some(user), not_after: subject.not_after }
    }
}

impl User {
    /// With the group of all who are known.
    fn authenticated(mut self) -> User {
        if !self.in_group(AUTHENTICATED) && self.name != ANONYMOUS {
            self.groups.push(AUTHENTICATED.into());
        }
        self
    }
}

fn fingerprint(certificate: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}
