//! Who sends a request: front proxy, client certificate, bearer token, or nobody in particular.
//!
//! Credentials that are there but wrong are refused (401); only a request without any is anonymous.

mod bootstrap_token;
mod header;
mod service_account;
mod static_token;

use std::sync::Arc;

use daemon::serving::Peer;
use daemon::serving::authority::{Authority, Refusal};
use daemon::serving::identity::{self, Unreadable};
use http::HeaderMap;
use watchcache::resources::Resources;

use crate::user::User;

pub use header::RequestHeader;
pub use service_account::{ServiceAccounts, split_username};
pub use static_token::StaticTokens;

pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";

/// The request's credentials are no good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("verifying certificate: {0}")]
    Certificate(#[from] Refusal),
    #[error("x509: subject with cn={0} is not in the allowed list")]
    NotAllowed(String),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
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
    /// The gate `AllowParsingUserUIDFromCertAuth`.
    pub uid_of_certificate: bool,
}

/// Whether requests without credentials are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anonymous {
    pub enabled: bool,
    /// Only at these paths; at any where there are none.
    pub paths: Vec<String>,
}

impl Anonymous {
    /// At any path.
    pub fn everywhere(enabled: bool) -> Anonymous {
        Anonymous { enabled, paths: Vec::new() }
    }

    pub fn allows(&self, path: &str) -> bool {
        self.enabled && (self.paths.is_empty() || self.paths.iter().any(|own| own == path))
    }
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
        identity::strip(headers, |name| {
            let of_proxy = self.request_header.as_ref().is_some_and(|front| front.headers.reads(name));
            of_proxy || name.starts_with("impersonate-")
        });
    }

    /// `path` is that of the request, without its query.
    pub async fn authenticate(&self, headers: &HeaderMap, path: &str, peer: &Peer) -> Result<User, Error> {
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
        if let Some(token) = identity::token(headers)? {
            return Ok(self.token(&token, &self.api_audiences).await?.user.authenticated());
        }
        match problem {
            Some(error) => Err(error),
            None if self.anonymous.allows(path) => {
                Ok(User { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..User::default() })
            }
            None => Err(Error::NoCredentials),
        }
    }

    /// The user of a bearer token that is good for one of `audiences`. A token that names no audience is for this server's own.
    pub async fn token(&self, token: &str, audiences: &[String]) -> Result<TokenUser, Error> {
        let own = self.api_audiences.iter().filter(|own| audiences.contains(own)).cloned();
        let own: Vec<String> = own.collect();
        let for_us = !own.is_empty() || self.api_audiences.is_empty();
        if for_us && let Some(user) = self.static_tokens.find(token) {
            return Ok(TokenUser { user, audiences: own });
        }
        if let Some(result) = self.service_accounts.authenticate(token, audiences) {
            return result;
        }
        if for_us
            && self.bootstrap_tokens
            && let Some(user) = bootstrap_token::authenticate(&self.resources, token)
        {
            return Ok(TokenUser { user, audiences: own });
        }
        Err(Error::Token("invalid bearer token".into()))
    }

    fn certificate(&self, peer: &Peer) -> Result<Option<User>, Error> {
        let Some(authority) = &self.client_ca else { return Ok(None) };
        if peer.certificates().is_empty() {
            return Ok(None);
        }
        let Some(named) = peer.verified(authority)?.identity()? else { return Ok(None) };
        let mut user = User::from(named);
        if !self.uid_of_certificate {
            user.uid.clear();
        }
        user.extra.insert(
            "authentication.kubernetes.io/credential-id".into(),
            vec![format!("X509SHA256={}", fingerprint(&peer.certificates()[0]))],
        );
        Ok(Some(user))
    }
}

impl User {
    /// Adds the group of all authenticated users.
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
