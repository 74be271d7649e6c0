//! Permission by `SubjectAccessReview`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::User;
use crate::{Client, Result};

/// What a user wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// A path of the port itself: `get /metrics`. The verb is the method in lower case.
    Path { verb: String, path: String },
    /// A resource, as the kubelet maps its paths: `get nodes/node-1/proxy`.
    Resource {
        verb: String,
        group: String,
        resource: String,
        subresource: String,
        namespace: String,
        name: String,
    },
}

impl Attributes {
    pub fn path(method: &http::Method, path: &str) -> Attributes {
        Attributes::Path { verb: method.as_str().to_lowercase(), path: path.into() }
    }
}

/// Decides whether a user may do something.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// `Ok(Err(reason))` is a refusal: answer 403. An error means that the API server could not be asked.
    async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<Answer>;
}

#[derive(Clone, Debug)]
pub struct AuthorizationOptions {
    /// `--authorization-always-allow-paths`; a trailing `*` matches any rest.
    pub always_allow_paths: Vec<String>,
    /// Users of these groups may do everything.
    pub always_allow_groups: Vec<String>,
    /// `--authorization-webhook-cache-authorized-ttl`
    pub cache_allowed: Duration,
    /// `--authorization-webhook-cache-unauthorized-ttl`
    pub cache_denied: Duration,
}

impl Default for AuthorizationOptions {
    fn default() -> Self {
        AuthorizationOptions {
            always_allow_paths: ["/healthz", "/readyz", "/livez"].map(str::to_string).to_vec(),
            always_allow_groups: vec!["system:masters".into()],
            cache_allowed: Duration::from_secs(10),
            cache_denied: Duration::from_secs(10),
        }
    }
}

/// Allowed, or the reason why not.
pub type Answer = Result<(), String>;

/// Delegated authorization.
pub struct Authorization {
    client: Client,
    options: AuthorizationOptions,
    answers: Mutex<FxHashMap<(User, Attributes), (Answer, Instant)>>,
}

const ANSWERS: usize = 8192;

impl Authorization {
    pub fn new(client: Client, options: AuthorizationOptions) -> Authorization {
        Authorization { client, options, answers: Mutex::default() }
    }

    /// Whether a path needs no permission, and so no authentication either.
    pub fn always_allowed(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        self.options.always_allow_paths.iter().any(|allowed| {
            let allowed = allowed.trim_start_matches('/');
            match allowed.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == allowed,
            }
        })
    }

    fn kept(&self, answer: &Answer) -> Duration {
        if answer.is_ok() { self.options.cache_allowed } else { self.options.cache_denied }
    }
}

#[async_trait]
impl Authorizer for Authorization {
    async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<Answer> {
        if let Attributes::Path { path, .. } = attributes
            && self.always_allowed(path)
        {
            return Ok(Ok(()));
        }
        if user.groups.iter().any(|group| self.options.always_allow_groups.contains(group)) {
            return Ok(Ok(()));
        }
        let key = (user.clone(), attributes.clone());
        if let Some((answer, at)) = self.answers.lock().get(&key)
            && at.elapsed() < self.kept(answer)
        {
            return Ok(answer.clone());
        }
        let review = SubjectAccessReview { spec: spec(user, attributes), ..Default::default() };
        let review: SubjectAccessReview = self.client.create::<SubjectAccessReview>(None, &review).await?;
        let status = review.status.unwrap_or_default();
        let answer = if status.allowed { Ok(()) } else { Err(status.reason.unwrap_or_default()) };
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS {
            answers.retain(|_, (answer, at)| at.elapsed() < self.kept(answer));
        }
        if answers.len() < ANSWERS {
            answers.insert(key, (answer.clone(), Instant::now()));
        }
        Ok(answer)
    }
}

fn spec(user: &User, attributes: &Attributes) -> SubjectAccessReviewSpec {
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: some(&user.uid),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
        ..Default::default()
    };
    match attributes {
        Attributes::Path { verb, path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes { verb: some(verb), path: some(path) });
        }
        Attributes::Resource { verb, group, resource, subresource, namespace, name } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: some(verb),
                group: some(group),
                resource: some(resource),
                subresource: some(subresource),
                namespace: some(namespace),
                name: some(name),
                version: Some("v1".into()),
                ..Default::default()
            });
        }
    }
    spec
}
