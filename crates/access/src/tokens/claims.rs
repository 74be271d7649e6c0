//! What a service account token says.

use serde::{Deserialize, Deserializer, Serialize};

/// The JWT's payload, in the order of upstream's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(
        rename = "aud",
        default,
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub audience: Vec<String>,
    /// Seconds since the epoch, as all times here.
    #[serde(rename = "exp", default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<i64>,
    #[serde(rename = "iat", default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<i64>,
    #[serde(rename = "iss", default)]
    pub issuer: String,
    #[serde(rename = "jti", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "kubernetes.io", default, skip_serializing_if = "Option::is_none")]
    pub private: Option<Private>,
    #[serde(rename = "nbf", default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    #[serde(rename = "sub", default)]
    pub subject: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Private {
    /// A token of a webhook's configuration is for admission alone, and none of these is issued here.
    #[serde(rename = "mutatingwebhookconfiguration", default, skip_serializing_if = "Option::is_none")]
    pub mutating_webhook: Option<Bound>,
    #[serde(default)]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Bound>,
    #[serde(rename = "serviceaccount", default)]
    pub service_account: Bound,
    #[serde(rename = "validatingwebhookconfiguration", default, skip_serializing_if = "Option::is_none")]
    pub validating_webhook: Option<Bound>,
    #[serde(rename = "warnafter", default, skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<i64>,
}

/// An object by name and identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    pub name: String,
    pub uid: String,
}

/// Claims of the tokens that older clusters kept in secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Legacy {
    #[serde(rename = "sub", default)]
    pub subject: String,
    #[serde(rename = "aud", default, deserialize_with = "one_or_many")]
    pub audience: Vec<String>,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    pub name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    pub uid: String,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}
