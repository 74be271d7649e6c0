//! Service account tokens bound to a pod, kept until four fifths of their lifetime have passed.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use parking_lot::Mutex;

use crate::objects::{Error, Objects};
use crate::pods::{name, namespace, uid};

const DEFAULT_SECONDS: i64 = 3600;
/// However long a token lives, it is renewed after a day.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

/// Pod, audience and lifetime.
type Key = (String, String, i64);

#[derive(Default)]
pub struct Tokens {
    tokens: Mutex<HashMap<Key, Token>>,
}

#[derive(Clone)]
struct Token {
    text: String,
    expires: Timestamp,
    renew: Timestamp,
}

impl Tokens {
    pub async fn get(
        &self,
        objects: &dyn Objects,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<String, Error> {
        let seconds = source.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        let audience = source.audience.clone().unwrap_or_default();
        let key = (uid(pod).to_owned(), audience.clone(), seconds);
        let now = Timestamp::now();
        let kept = self.tokens.lock().get(&key).cloned();
        if let Some(token) = kept.as_ref().filter(|token| now < token.renew) {
            return Ok(token.text.clone());
        }
        match request(objects, pod, audience, seconds, now).await {
            Ok(token) => {
                self.tokens.lock().insert(key, token.clone());
                Ok(token.text)
            }
            Err(error) => match kept.filter(|token| now < token.expires) {
                // The old one is good for a while; the next round tries again.
                Some(token) => {
                    tracing::warn!(pod = name(pod), %error, "Cannot renew the service account token");
                    Ok(token.text)
                }
                None => Err(error),
            },
        }
    }

    pub fn forget(&self, uid: &str) {
        self.tokens.lock().retain(|(of, _, _), _| of != uid);
    }
}

async fn request(
    objects: &dyn Objects,
    pod: &Pod,
    audience: String,
    seconds: i64,
    now: Timestamp,
) -> Result<Token, Error> {
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let spec = TokenRequestSpec {
        audiences: (!audience.is_empty()).then(|| vec![audience]),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name(pod).into()),
            uid: Some(uid(pod).into()),
        }),
        expiration_seconds: Some(seconds),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = objects.service_account_token(namespace(pod), account, request).await?;
    let status = answer.status.unwrap_or_default();
    let text = status.token.ok_or_else(|| Error::Other("the server sent no token".into()))?;
    let lasts = || now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    let expires = status.expiration_timestamp.map_or_else(lasts, |time| time.0);
    let lifetime = expires.duration_since(now);
    let renew = now.checked_add((lifetime / 5 * 4).min(MAX_AGE)).unwrap_or(expires);
    Ok(Token { text, expires, renew })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Fake;
    use serde_json::json;

    #[tokio::test]
    async fn tokens_are_kept_and_renewed() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "serviceAccountName": "robot"}}))
        .unwrap();
        let tokens = Tokens::default();
        let (objects, source) = (Fake::default(), ServiceAccountTokenProjection::default());
        let text = tokens.get(&objects, &pod, &source).await.unwrap();
        assert_eq!(text, "token-of-ns-robot");
        let key = ("u".to_owned(), String::new(), 3600);
        let kept = tokens.tokens.lock()[&key].clone();
        let left = kept.renew.duration_since(Timestamp::now()).as_secs();
        assert!((2870..=2880).contains(&left), "{left}");
        tokens.tokens.lock().get_mut(&key).unwrap().text = "kept".into();
        assert_eq!(tokens.get(&objects, &pod, &source).await.unwrap(), "kept");
        tokens.tokens.lock().get_mut(&key).unwrap().renew = Timestamp::now();
        assert_eq!(tokens.get(&objects, &pod, &source).await.unwrap(), "token-of-ns-robot");
        tokens.forget("u");
        assert!(tokens.tokens.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lifetime_beyond_all_time() {
        let (tokens, objects) = (Tokens::default(), Fake::default());
        for seconds in [i64::MAX, i64::MIN] {
            let source = ServiceAccountTokenProjection {
                expiration_seconds: Some(seconds),
                ..ServiceAccountTokenProjection::default()
            };
            tokens.get(&objects, &Pod::default(), &source).await.unwrap();
        }
    }
}
