//! `bootstrap-signer-controller` and `token-cleaner-controller`: tokens by which nodes join. The first signs the public
//! `cluster-info` with each of them, so that who has a token can trust it; the second deletes those that ran out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use client::{Client, DeleteOptions, Informer, Key, ResourceRef, Scope, Selectors};
use controllers::views::{ConfigMap, Partial, Secret};
use controllers::{Builder, Context, Error, Next, Reconcile};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::Options;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const TOKENS: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

fn tokens(builder: &mut Builder) -> Informer<Secret> {
    let selectors = Selectors::fields(format!("type={TYPE}"));
    builder.reads_some(Scope::Namespace(TOKENS.to_owned()), selectors)
}

/// A value of a secret, as text.
fn text(secret: &Secret, name: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret.data.get(name)?).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// Seconds that a token has left; None where it has no end. One whose end cannot be read has ended.
fn left(secret: &Secret, now: Timestamp) -> Option<i64> {
    let end = text(secret, "expiration")?;
    Some(end.parse::<Timestamp>().map_or(0, |end| end.as_second() - now.as_second()))
}

struct Cleaner {
    secrets: Informer<Secret>,
}

pub async fn run_cleaner(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let mut builder = context.builder("token_cleaner", "token-cleaner", "token-cleaner").await?;
    let secrets = tokens(&mut builder);
    secrets.enqueue_to(builder.queue.clone());
    builder.run(1, Cleaner { secrets }).await
}

impl Reconcile for Cleaner {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let secret = self.secrets.get_key(key).filter(|secret| secret.type_ == TYPE);
        let Some(secret) = secret else { return Ok(Next::Done) };
        let Some(left) = left(&secret, Timestamp::now()) else { return Ok(Next::Done) };
        if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        let options = DeleteOptions::default().uid(secret.metadata.uid.clone());
        match client.delete::<Secret>(key.namespace(), &key.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(Next::Done),
        }
    }
}

struct Signer {
    secrets: Informer<Secret>,
    maps: Informer<ConfigMap>,
}

pub async fn run_signer(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "bootstrap-signer";
    let mut builder = context.builder("bootstrap_signer_queue", account, account).await?;
    let secrets = tokens(&mut builder);
    let selectors = Selectors::fields(format!("metadata.name={INFO}"));
    let maps: Informer<ConfigMap> = builder.reads_some(Scope::Namespace(PUBLIC.to_owned()), selectors);
    let queue = builder.queue.clone();
    secrets.on_event(move |_| queue.add(Key::new(PUBLIC, INFO)));
    maps.enqueue_to(builder.queue.clone());
    builder.run(1, Signer { secrets, maps }).await
}

impl Reconcile for Signer {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(map) = self.maps.get_key(key) else { return Ok(Next::Done) };
        let Some(content) = map.data.get(KUBECONFIG) else { return Ok(Next::Done) };
        let secrets = self.secrets.list();
        let wanted = signatures(content, &secrets, Timestamp::now())
            .map_err(|error| Error::Other(format!("signing {INFO}: {error}")))?;
        let mut data = map.data.clone();
        data.retain(|name, _| !name.starts_with(SIGNATURE));
        data.extend(wanted);
        if data != map.data {
            let resource = ResourceRef::of::<ConfigMap>();
            let api = client.at(&resource);
            let mut whole: Value = api.get(key.namespace(), &key.name).await?;
            whole["metadata"]["resourceVersion"] = map.metadata.resource_version.as_str().into();
            whole["data"] = json!(data);
            api.update::<Partial>(key.namespace(), &key.name, None, &whole).await?;
        }
        // A token that runs out signs no more.
        let ends = secrets.iter().filter_map(|secret| left(secret, Timestamp::now()));
        let next = ends.filter_map(|left| u64::try_from(left).ok()).filter(|left| *left > 0).min();
        Ok(Next::after(next.map(|left| Duration::from_secs(left + 1))))
    }
}

/// A signature by each token that may sign, under its name in the map.
fn signatures(
    content: &str,
    secrets: &[Arc<Secret>],
    now: Timestamp,
) -> Result<BTreeMap<String, String>, jsonwebtoken::errors::Error> {
    let mut signatures = BTreeMap::new();
    for secret in secrets {
        let signs = text(secret, "usage-bootstrap-signing").as_deref() == Some("true");
        if !signs || left(secret, now).is_some_and(|left| left <= 0) {
            continue;
        }
        let (Some(id), Some(token)) = (text(secret, "token-id"), text(secret, "token-secret")) else {
            continue;
        };
        if secret.metadata.name != format!("bootstrap-token-{id}") {
            continue;
        }
        signatures.insert(format!("{SIGNATURE}{id}"), signature(content, &id, &token)?);
    }
    Ok(signatures)
}

/// A JSON web signature without its content, which stands beside it: by the secret half of the token.
fn signature(content: &str, id: &str, secret: &str) -> Result<String, jsonwebtoken::errors::Error> {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":{}}}", Value::from(id)));
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)?;
    Ok(format!("{header}..{signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, pairs: &[(&str, &str)]) -> Arc<Secret> {
        let data: serde_json::Map<String, Value> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), STANDARD.encode(value).into())).collect();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name}, "type": TYPE, "data": data})).unwrap(),
        )
    }

    /// As upstream's manager signed it.
    #[test]
    fn signatures_are_detached() {
        let pairs = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
        ];
        let secrets = [secret("bootstrap-token-abcdef", &pairs)];
        let detached = signatures("hello", &secrets, Timestamp::now()).unwrap();
        let expect = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..MxsnbCjBaYzcbNIFa06F-wuF9LX26rhMlrL4zA1511s";
        assert_eq!(detached["jws-kubeconfig-abcdef"], expect);
    }

    #[test]
    fn only_tokens_that_may_sign_do() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let usable = [("token-id", "abcdef"), ("token-secret", "x"), ("usage-bootstrap-signing", "true")];
        let with = |more: &[(&'static str, &'static str)]| [&usable[..], more].concat();
        let check = |name: &str, pairs: &[(&str, &str)], expect: usize| {
            assert_eq!(signatures("c", &[secret(name, pairs)], now).unwrap().len(), expect, "{pairs:?}");
        };
        check("bootstrap-token-abcdef", &usable, 1);
        check("bootstrap-token-other", &usable, 0);
        check("bootstrap-token-abcdef", &usable[..2], 0);
        check("bootstrap-token-abcdef", &with(&[("expiration", "2026-01-02T00:00:00Z")]), 1);
        check("bootstrap-token-abcdef", &with(&[("expiration", "2025-01-02T00:00:00Z")]), 0);
        check("bootstrap-token-abcdef", &with(&[("expiration", "soon")]), 0);
    }
}
