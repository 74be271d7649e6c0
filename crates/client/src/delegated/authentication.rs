//! Certificates, front proxies and tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use daemon::flags::RequestHeader;
use daemon::serving::authority;
use daemon::serving::identity::{self, ProxyHeaders};
use http::HeaderMap;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::User;
use crate::{Client, Error, Material, Result, tls};

/// Identifies the user who sent a request.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// `peer` is the client's certificate chain, leaf first, as the TLS handshake gave it, verified or not. None
    /// when the request carries credentials that are not accepted, or none while anonymous requests are not
    /// allowed: answer 401. Errors mean that the API server could not be asked.
    async fn authenticate(&self, peer: &[CertificateDer<'_>], headers: &HeaderMap) -> Result<Option<User>>;
}

#[derive(Clone, Debug)]
pub struct AuthenticationOptions {
    /// `--client-ca-file`; certificates of the cluster's own authority are accepted besides.
    pub client_ca: Option<Material>,
    /// The front proxy that flags name, in place of the cluster's.
    pub front_proxy: Option<FrontProxyOptions>,
    /// Accept the authority in `kube-system/extension-apiserver-authentication`
    /// (not with `--authentication-skip-lookup`).
    pub lookup: bool,
    /// Whether requests without credentials are `system:anonymous`.
    pub anonymous: bool,
    /// `--authentication-token-webhook-cache-ttl`
    pub cache: Duration,
    /// Whether bearer tokens are reviewed.
    pub tokens: bool,
    pub audiences: Vec<String>,
}

/// A client that says in headers whom it speaks for.
#[derive(Clone, Debug)]
pub struct FrontProxyOptions {
    pub authority: Material,
    /// Common names that may; any that the authority signed where there are none.
    pub names: Vec<String>,
    pub headers: ProxyHeaders,
}

impl FrontProxyOptions {
    /// As flags name it, if they do.
    pub fn of_flags(flags: &RequestHeader) -> Option<FrontProxyOptions> {
        let file = &flags.requestheader_client_ca_file;
        (!file.as_os_str().is_empty()).then(|| FrontProxyOptions {
            authority: Material::File(file.clone()),
            names: flags.requestheader_allowed_names.clone(),
            headers: flags.headers(),
        })
    }

    fn read(&self) -> Result<FrontProxy> {
        Ok(FrontProxy {
            verifier: verifier(&self.authority.read()?)?,
            names: self.names.clone(),
            headers: self.headers.clone(),
        })
    }
}

impl Default for AuthenticationOptions {
    fn default() -> Self {
        AuthenticationOptions {
            client_ca: None,
            front_proxy: None,
            lookup: true,
            anonymous: true,
            cache: Duration::from_secs(10),
            tokens: true,
            audiences: Vec::new(),
        }
    }
}

impl AuthenticationOptions {
    /// An error where an authority that is named cannot be read: to go on without it would take its clients for strangers.
    pub fn check(&self) -> Result<()> {
        self.front_proxy.as_ref().map(FrontProxyOptions::read).transpose()?;
        self.authorities().map(|_| ())
    }

    fn authorities(&self) -> Result<Vec<Arc<dyn ClientCertVerifier>>> {
        self.client_ca.iter().map(|material| verifier(&material.read()?)).collect()
    }
}

/// Delegated authentication.
pub struct Authentication {
    client: Client,
    options: AuthenticationOptions,
    authorities: ArcSwapOption<Authorities>,
    loading: tokio::sync::Mutex<()>,
    tokens: Mutex<FxHashMap<String, (Option<User>, Instant)>>,
}

struct Authorities {
    verifiers: Vec<Arc<dyn ClientCertVerifier>>,
    front_proxy: Option<FrontProxy>,
    loaded: Instant,
}

struct FrontProxy {
    verifier: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
    headers: ProxyHeaders,
}

/// How long the cluster's authorities are used before they are looked up again.
const REFRESH: Duration = Duration::from_secs(60);
const TOKENS: usize = 4096;

impl Authentication {
    pub fn new(client: Client, options: AuthenticationOptions) -> Authentication {
        Authentication {
            client,
            options,
            authorities: ArcSwapOption::empty(),
            loading: tokio::sync::Mutex::new(()),
            tokens: Mutex::default(),
        }
    }

    async fn authorities(&self) -> Arc<Authorities> {
        let fresh = |authorities: &Arc<Authorities>| authorities.loaded.elapsed() < REFRESH;
        if let Some(authorities) = self.authorities.load_full().filter(fresh) {
            return authorities;
        }
        let _one = self.loading.lock().await;
        let previous = self.authorities.load_full();
        if let Some(authorities) = previous.clone().filter(fresh) {
            return authorities;
        }
        let loaded = match self.load().await {
            Ok(loaded) => Arc::new(loaded),
            Err(error) => {
                tracing::warn!(%error, "looking up the cluster's client authorities failed");
                let kept = previous.as_ref();
                Arc::new(Authorities {
                    verifiers: match kept {
                        Some(kept) => kept.verifiers.clone(),
                        None => self.options.authorities().unwrap_or_default(),
                    },
                    // settings from flags do not depend on the cluster's answer
                    front_proxy: self.options.front_proxy.as_ref().and_then(|own| own.read().ok()),
                    // Ask again soon.
                    loaded: Instant::now() - REFRESH + Duration::from_secs(5).min(REFRESH),
                })
            }
        };
        self.authorities.store(Some(loaded.clone()));
        loaded
    }

    async fn load(&self) -> Result<Authorities> {
        let mut verifiers = self.options.authorities()?;
        let mut front_proxy = self.options.front_proxy.as_ref().map(FrontProxyOptions::read).transpose()?;
        if self.options.lookup {
            let name = "extension-apiserver-authentication";
            let map: ConfigMap = self.client.get(Some("kube-system"), name).await?;
            let data = map.data.unwrap_or_default();
            if let Some(pem) = data.get("client-ca-file") {
                verifiers.push(verifier(pem.as_bytes())?);
            }
            // a list of names that cannot be read is not an empty one, which allows any
            let list = |key: &str| -> Result<Vec<String>> {
                let Some(text) = data.get(key).filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
                serde_json::from_str(text).map_err(|error| Error::Config(format!("{name}: {key}: {error}")))
            };
            if front_proxy.is_none()
                && let Some(pem) = data.get("requestheader-client-ca-file")
            {
                front_proxy = Some(FrontProxy {
                    verifier: verifier(pem.as_bytes())?,
                    names: list("requestheader-allowed-names")?,
                    headers: ProxyHeaders {
                        username: list("requestheader-username-headers")?,
                        uid: list("requestheader-uid-headers")?,
                        group: list("requestheader-group-headers")?,
                        extra_prefix: list("requestheader-extra-headers-prefix")?,
                    },
                });
            }
        }
        Ok(Authorities { verifiers, front_proxy, loaded: Instant::now() })
    }

    async fn review(&self, token: &str) -> Result<Option<User>> {
        if let Some((user, at)) = self.tokens.lock().get(token)
            && at.elapsed() < self.options.cache
        {
            return Ok(user.clone());
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.into(),
                audiences: Some(self.options.audiences.clone()).filter(|list| !list.is_empty()),
            },
            ..Default::default()
        };
        let review: TokenReview = self.client.create::<TokenReview>(None, &review).await?;
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        let mut tokens = self.tokens.lock();
        if tokens.len() >= TOKENS {
            tokens.retain(|_, (_, at)| at.elapsed() < self.options.cache);
        }
        if tokens.len() < TOKENS {
            tokens.insert(token.into(), (user.clone(), Instant::now()));
        }
        Ok(user)
    }
}

#[async_trait]
impl Authenticator for Authentication {
    async fn authenticate(&self, peer: &[CertificateDer<'_>], headers: &HeaderMap) -> Result<Option<User>> {
        // whether a credential was present and not accepted
        let mut refused = false;
        if let Some((leaf, rest)) = peer.split_first() {
            let authorities = self.authorities().await;
            let now = UnixTime::now();
            if let Some(proxy) = &authorities.front_proxy
                && proxy.verifier.verify_client_cert(leaf, rest, now).is_ok()
            {
                match proxy.user(leaf, headers) {
                    Ok(Some(user)) => return Ok(Some(authenticated(user))),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::info!(%error, "Refused what a front proxy says");
                        refused = true;
                    }
                }
            }
            if authorities.verifiers.iter().any(|ca| ca.verify_client_cert(leaf, rest, now).is_ok()) {
                match authority::subject(leaf).and_then(|subject| subject.identity()) {
                    Ok(Some(user)) => return Ok(Some(authenticated(user.into()))),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::info!(%error, "Refused a certificate");
                        refused = true;
                    }
                }
            } else {
                refused = refused || !authorities.verifiers.is_empty();
            }
        }
        if self.options.tokens {
            match identity::token(headers) {
                Ok(Some(token)) => return Ok(self.review(&token).await?.map(authenticated)),
                Ok(None) => {}
                Err(error) => {
                    tracing::info!(%error, "Refused a token");
                    refused = true;
                }
            }
        }
        Ok((self.options.anonymous && !refused).then(User::anonymous))
    }
}

impl FrontProxy {
    /// Whom a proxy with this certificate speaks for.
    fn user(
        &self,
        leaf: &CertificateDer<'_>,
        headers: &HeaderMap,
    ) -> std::result::Result<Option<User>, FrontProxyError> {
        let proxy = authority::subject(leaf)?.common_name;
        if !self.names.is_empty() && !self.names.contains(&proxy) {
            return Err(FrontProxyError::NotAllowed(proxy));
        }
        Ok(self.headers.identity(headers)?.map(User::from))
    }
}

#[derive(Debug, thiserror::Error)]
enum FrontProxyError {
    #[error("x509: subject with cn={0} is not in the allowed list")]
    NotAllowed(String),
    #[error(transparent)]
    Certificate(#[from] authority::Refusal),
    #[error(transparent)]
    Header(#[from] identity::Unreadable),
}

fn authenticated(mut user: User) -> User {
    let group = "system:authenticated";
    if user.name != "system:anonymous" && !user.groups.iter().any(|own| own == group) {
        user.groups.push(group.into());
    }
    user
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>> {
    let roots = Arc::new(tls::roots(pem)?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| Error::Config(format!("client certificate authority: {error}")))?;
    Ok(verifier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    /// Certificates of the organization system:masters, without a common name and with one.
    const NAMELESS: &str = concat!(
        "MIIBhzCCAS2gAwIBAgIUFnT5FTkUmSdnjZO4GJKgwnZiVwMwCgYIKoZIzj0EAwIwGTEXMBUGA1UECgwOc3lzdGVtOm",
        "1hc3RlcnMwHhcNMjYxMTIxMjE1NTUyWhcNMzYxMTE4MjE1NTUyWjAZMRcwFQYDVQQKDA5zeXN0ZW06bWFzdGVyczBZ",
        "MBMGByqGSM49AgEGCCqGSM49AwEHA0IABLvKPZ7iAbmZce9MK0jDexpdf+N0+MpMWRuI7mZUK4IydykV93z73wnpAL",
        "X6lfkatufzwiIx143E4iGuXVwPOVWjUzBRMB0GA1UdDgQWBBSZqqj/dcwy8xeA4AJGLXOoa3rLxDAfBgNVHSMEGDAW",
        "gBSZqqj/dcwy8xeA4AJGLXOoa3rLxDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDPZq1Y24x/jI",
        "iDCHw4PG2KIN1BxgKireavM+8/JM/mJQIgeF5HYCNZhWjg+SgLd23tdBTTuh8mkRV+0WZc3sIl7G4=",
    );
    const ADMIN: &str = concat!(
        "MIIBpzCCAU2gAwIBAgIUcyt5Zw/8jFkUQg4lGyxK46rPqc8wCgYIKoZIzj0EAwIwKTEXMBUGA1UECgwOc3lzdGVtOm",
        "1hc3RlcnMxDjAMBgNVBAMMBWFkbWluMB4XDTI2MTEyMTIxNTU1MloXDTM2MTExODIxNTU1MlowKTEXMBUGA1UECgwO",
        "c3lzdGVtOm1hc3RlcnMxDjAMBgNVBAMMBWFkbWluMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEu8o9nuIBuZlx70",
        "wrSMN7Gl1/43T4ykxZG4juZlQrgjJ3KRX3fPvfCekAtfqV+Rq25/PCIjHXjcTiIa5dXA85VaNTMFEwHQYDVR0OBBYE",
        "FJmqqP91zDLzF4DgAkYtc6hresvEMB8GA1UdIwQYMBaAFJmqqP91zDLzF4DgAkYtc6hresvEMA8GA1UdEwEB/wQFMA",
        "MBAf8wCgYIKoZIzj0EAwIDSAAwRQIhALp7J1subhs4EImyK/BUQSoK/WaXBgE5bs6kXapZaEp9AiBDLb3zmMjDysXi",
        "B7mvFEJoaNrJ+wirsbT4hHbhAI+9zQ==",
    );

    #[test]
    fn an_authority_that_cannot_be_read_is_not_left_out() {
        let check = |client_ca: Option<&[u8]>, front_proxy: Option<&[u8]>| {
            let front_proxy = front_proxy.map(|pem| FrontProxyOptions {
                authority: Material::Inline(pem.to_vec()),
                names: Vec::new(),
                headers: ProxyHeaders::default(),
            });
            let client_ca = client_ca.map(|pem| Material::Inline(pem.to_vec()));
            AuthenticationOptions { client_ca, front_proxy, ..Default::default() }.check().is_ok()
        };
        let pem = format!("-----BEGIN CERTIFICATE-----\n{ADMIN}\n-----END CERTIFICATE-----\n");
        let (good, bad): (&[u8], &[u8]) = (pem.as_bytes(), b"nothing");
        assert!(check(None, None));
        assert!(check(Some(good), Some(good)));
        assert!(!check(Some(bad), None));
        assert!(!check(Some(good), Some(bad)));
    }

    #[test]
    fn a_certificate_without_a_common_name_names_no_user() {
        let user = |text: &str| {
            let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            authority::subject(&CertificateDer::from(der)).unwrap().identity().unwrap()
        };
        assert!(user(NAMELESS).is_none());
        let admin = user(ADMIN).unwrap();
        assert_eq!((admin.name.as_str(), admin.groups), ("admin", vec!["system:masters".to_owned()]));
    }
}
