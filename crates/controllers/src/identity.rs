//! A controller's own identity: a token of its service account, renewed before it runs out.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Credentials, Material, Rate, Renewed};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::views::{Namespace, ServiceAccount};

const NAMESPACE: &str = "kube-system";
/// Requested lifetime of a token in seconds; the server may give less.
const LIFETIME: i64 = 3600;
/// Minimum age of a token before a refusal renews it: the token may not be the reason.
const SOONEST: Duration = Duration::from_secs(10);

/// Clients by service account.
pub struct Identities {
    root: Client,
    /// The daemon's own, at the rate of controllers: for those without an account of their own.
    shared: Client,
    /// A client like the daemon's own, without credentials. All accounts share its connections; each request adds its token.
    anonymous: Client,
    each_its_own: bool,
    clients: Mutex<FxHashMap<String, Client>>,
    renewals: TaskTracker,
    shutdown: CancellationToken,
}

impl Identities {
    pub fn new(
        root: Client,
        each_its_own: bool,
        rate: Option<Rate>,
        shutdown: CancellationToken,
    ) -> client::Result<Identities> {
        let config = Config { rate, ..root.config().clone() };
        let anonymous = Client::new(Config { credentials: Credentials::default(), ..config.clone() })?;
        let shared = if rate.is_some() { Client::new(config)? } else { root.clone() };
        let (clients, renewals) = (Mutex::default(), TaskTracker::new());
        Ok(Identities { root, shared, anonymous, each_its_own, clients, renewals, shutdown })
    }

    /// The client of a service account of `kube-system`, which is created where it does not exist.
    pub async fn client(&self, account: &str) -> client::Result<Client> {
        if !self.each_its_own {
            return Ok(self.shared.clone());
        }
        if let Some(client) = self.clients.lock().get(account) {
            return Ok(client.clone());
        }
        let (token, lifetime) = self.patiently(account).await?;
        let shared = Arc::new(Renewed::new(token));
        let agent = format!(
            "{}/system:serviceaccount:{NAMESPACE}:{account}",
            daemon::version::user_agent("kube-controller-manager")
        );
        let client = self.anonymous.with_token(Material::Shared(shared.clone()), &agent);
        self.clients.lock().insert(account.to_owned(), client.clone());
        self.renewals.spawn(renew(
            self.root.clone(),
            account.to_owned(),
            shared,
            lifetime,
            self.shutdown.clone(),
        ));
        Ok(client)
    }

    /// A token, tried for until there is one: at start the API server may not be ready to give any.
    async fn patiently(&self, account: &str) -> client::Result<(Vec<u8>, Duration)> {
        let mut wait = Duration::from_millis(100);
        loop {
            match request(&self.root, account).await {
                Ok(token) => return Ok(token),
                Err(error) => tracing::warn!(account, %error, "requesting a token"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(client::Error::Shutdown),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(5)),
            }
        }
    }

    /// Waits for the renewals to end, after the shutdown.
    pub async fn finish(&self) {
        self.renewals.close();
        self.renewals.wait().await;
    }
}

/// Renews a token when four fifths of its life are over, or when the server refuses it: the service account may have
/// been recreated, or the key that signed it is no longer valid.
async fn renew(
    root: Client,
    account: String,
    token: Arc<Renewed>,
    mut lifetime: Duration,
    shutdown: CancellationToken,
) {
    let mut wait = lifetime * 4 / 5;
    let mut since = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = async { token.refused().await; tokio::time::sleep_until(since + SOONEST).await } => {
                tracing::info!(account, "The token is refused, requesting another");
            }
        }
        since = Instant::now();
        match request(&root, &account).await {
            Ok((renewed, renewed_lifetime)) => {
                token.replace(renewed);
                lifetime = renewed_lifetime;
                wait = lifetime * 4 / 5;
            }
            Err(error) => {
                tracing::warn!(account, %error, "renewing the token");
                wait = Duration::from_secs(10).min(lifetime / 20);
            }
        }
    }
}

/// A token and how long it is good for.
async fn request(root: &Client, account: &str) -> client::Result<(Vec<u8>, Duration)> {
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": LIFETIME},
    });
    let ask = || root.create_subresource::<ServiceAccount, Value>(Some(NAMESPACE), account, "token", &body);
    let answer = match ask().await {
        Err(error) if error.is_not_found() => {
            create_account(root, account).await?;
            ask().await?
        }
        answer => answer?,
    };
    let text = |path: &str| answer.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let token = text("/status/token").as_bytes().to_vec();
    let lifetime = match text("/status/expirationTimestamp").parse::<jiff::Timestamp>() {
        Ok(expires) => {
            let seconds = expires.as_second() - jiff::Timestamp::now().as_second();
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(60))
        }
        Err(_) => Duration::from_secs(LIFETIME.unsigned_abs()),
    };
    Ok((token, lifetime))
}

async fn create_account(root: &Client, account: &str) -> client::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let body = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": NAMESPACE, "name": account},
    });
    let create = || root.create::<ServiceAccount>(Some(NAMESPACE), &body);
    match create().await {
        Err(error) if error.is_not_found() => {
            root.create::<Namespace>(None, &namespace).await?;
            create().await.map(drop)
        }
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}
