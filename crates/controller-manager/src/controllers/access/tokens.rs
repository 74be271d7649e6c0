//! `serviceaccount-token-controller`: fills secrets that are to have a token of a service account, and deletes them with it.
//!
//! Absent: taking the name of a deleted secret out of the account's list `secrets`, which nothing but old clients fills.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use client::{Client, DeleteOptions, Event, Index, Informer, Key, ResourceRef, Scope, Selectors};
use controllers::views::{Partial, Secret, ServiceAccount};
use controllers::{Context, Error, Next, Reconcile};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Options;
use crate::controllers::certificates::root_ca;

pub(super) const TYPE: &str = "kubernetes.io/service-account-token";
pub(super) const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub(super) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const ISSUER: &str = "kubernetes/serviceaccount";

struct Controller {
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    signer: Signer,
    /// In base 64, as secrets have it.
    authority: String,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let file = &options.service_account_private_key_file;
    if file.as_os_str().is_empty() {
        tracing::info!("serviceaccount-token-controller does nothing: there is no private key");
        context.shutdown.cancelled().await;
        return Ok(());
    }
    let pem = tokio::fs::read_to_string(file).await;
    let signer = pem.map_err(|error| error.to_string()).and_then(|pem| Signer::new(&pem));
    let signer = signer.map_err(|error| {
        Error::Other(format!("error reading key for service account token controller: {error}"))
    })?;
    // The accounts of other controllers get their tokens here, so it has none of its own.
    let mut builder = context.own_builder("serviceaccount_tokens_secret", "serviceaccount-token-controller");
    let secrets: Informer<Secret> = builder.reads_some(Scope::All, Selectors::fields(format!("type={TYPE}")));
    let of_account: Index<Secret, Key> = secrets.index(account_of);
    secrets.enqueue_to(builder.queue.clone());
    let accounts = builder.reads::<ServiceAccount>();
    let queue = builder.queue.clone();
    accounts.on_keyed_event(move |key, event| {
        if !matches!(event, Event::Modified { .. }) {
            of_account.get(key).iter().for_each(|secret| queue.add(secret.metadata.cache_key()));
        }
    });
    let authority = STANDARD.encode(root_ca::authority(&context, &options).await?);
    let controller = Controller { secrets, accounts, signer, authority };
    builder.run(options.concurrent_serviceaccount_token_syncs, controller).await
}

fn account_of(secret: &Secret) -> Option<Key> {
    let name = secret.metadata.annotation(ACCOUNT_NAME).filter(|_| secret.type_ == TYPE)?;
    Some(Key::new(&secret.metadata.namespace, name))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(secret) = self.secrets.get_key(key) else { return Ok(Next::Done) };
        let Some(name) = account_of(&secret) else { return Ok(Next::Done) };
        let Some(account) = self.account(client, &name, secret.metadata.annotation(ACCOUNT_UID)).await?
        else {
            let options = DeleteOptions::default().uid(secret.metadata.uid.clone());
            return match client.delete::<Secret>(key.namespace(), &key.name, &options).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
                _ => Ok(Next::Done),
            };
        };
        if !needs(&secret.data, &self.authority).any() {
            return Ok(Next::Done);
        }
        let resource = ResourceRef::of::<Secret>();
        let api = client.at(&resource);
        let mut whole: Value = match api.get(key.namespace(), &key.name).await {
            Err(error) if error.is_not_found() => return Ok(Next::Done),
            found => found?,
        };
        if whole["metadata"]["resourceVersion"] != secret.metadata.resource_version.as_str() {
            // Its newer state comes here, too.
            return Ok(Next::Done);
        }
        self.fill(&mut whole, &secret, &account)?;
        match api.update::<Partial>(key.namespace(), &key.name, None, &whole).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(Next::Done),
        }
    }
}

/// What a secret lacks.
struct Needs {
    authority: bool,
    namespace: bool,
    token: bool,
}

impl Needs {
    fn any(&self) -> bool {
        self.authority || self.namespace || self.token
    }
}

fn needs(data: &std::collections::BTreeMap<String, String>, authority: &str) -> Needs {
    let lacks = |name: &str| data.get(name).is_none_or(String::is_empty);
    let other = data.get("ca.crt").is_none_or(|own| own != authority);
    Needs { authority: !authority.is_empty() && other, namespace: lacks("namespace"), token: lacks("token") }
}

impl Controller {
    /// The account of that name, and uid where one is given: the server is asked before it is taken for gone.
    async fn account(
        &self,
        client: &Client,
        key: &Key,
        uid: Option<&str>,
    ) -> Result<Option<ServiceAccount>, Error> {
        let is_it =
            |account: &ServiceAccount| uid.is_none_or(|uid| uid.is_empty() || account.metadata.uid == *uid);
        if let Some(account) = self.accounts.get_key(key).filter(|account| is_it(account)) {
            return Ok(Some((*account).clone()));
        }
        match client.get::<ServiceAccount>(key.namespace(), &key.name).await {
            Err(error) if error.is_not_found() => Ok(None),
            found => Ok(Some(found?).filter(is_it)),
        }
    }

    fn fill(&self, whole: &mut Value, secret: &Secret, account: &ServiceAccount) -> Result<(), Error> {
        let needs = needs(&secret.data, &self.authority);
        let meta = &secret.metadata;
        if needs.authority {
            whole["data"]["ca.crt"] = self.authority.as_str().into();
        }
        if needs.namespace {
            whole["data"]["namespace"] = STANDARD.encode(meta.namespace.as_str()).into();
        }
        if needs.token {
            let token = self.signer.token(&claims(secret, account));
            let token = token.map_err(|error| Error::Other(format!("signing a token: {error}")))?;
            whole["data"]["token"] = STANDARD.encode(token).into();
        }
        let annotations = &mut whole["metadata"]["annotations"];
        annotations[ACCOUNT_NAME] = account.metadata.name.as_str().into();
        annotations[ACCOUNT_UID] = account.metadata.uid.as_str().into();
        Ok(())
    }
}

fn claims(secret: &Secret, account: &ServiceAccount) -> Value {
    let (namespace, name) = (&account.metadata.namespace, &account.metadata.name);
    json!({
        "iss": ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret.metadata.name,
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.metadata.uid,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    })
}

/// The key of `--service-account-private-key-file`.
struct Signer {
    header: Header,
    key: EncodingKey,
}

impl Signer {
    fn new(pem: &str) -> Result<Signer, String> {
        let pair = rcgen::KeyPair::from_pem(pem).map_err(|error| error.to_string())?;
        let (algorithm, key) = if pair.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256 {
            (Algorithm::ES256, EncodingKey::from_ec_der(&pair.serialize_der()))
        } else if pair.algorithm() == &rcgen::PKCS_ECDSA_P384_SHA384 {
            (Algorithm::ES384, EncodingKey::from_ec_der(&pair.serialize_der()))
        } else {
            let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
            (Algorithm::RS256, key)
        };
        let mut header = Header::new(algorithm);
        header.typ = None;
        // How the API server knows which of its keys a token is of.
        header.kid = Some(URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info())));
        Ok(Signer { header, key })
    }

    fn token(&self, claims: &Value) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_secret_and_account() {
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "a", "uid": "u"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"namespace": "d", "name": "s", "annotations": {ACCOUNT_NAME: "a"}}, "type": TYPE,
        }))
        .unwrap();
        assert_eq!(account_of(&secret), Some(Key::new("d", "a")));
        let pair = rcgen::KeyPair::generate().unwrap();
        let token = Signer::new(&pair.serialize_pem()).unwrap().token(&claims(&secret, &account)).unwrap();
        let parts: Vec<Value> = token
            .split('.')
            .take(2)
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!(
            (parts[0]["alg"].as_str(), parts[1]["sub"].as_str()),
            (Some("ES256"), Some("system:serviceaccount:d:a"))
        );
        assert_eq!(parts[1]["kubernetes.io/serviceaccount/secret.name"], "s");
    }

    #[test]
    fn what_a_secret_lacks() {
        let data = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let lacking = needs(&data(&[("ca.crt", "b2xk")]), "bmV3");
        assert!(lacking.authority && lacking.namespace && lacking.token);
        assert!(!needs(&data(&[("ca.crt", "bmV3"), ("namespace", "ZA=="), ("token", "dA==")]), "bmV3").any());
    }
}
