//! Who sent a request and whether they may: the kubelet's port is the subresources of its node.

use std::sync::Arc;

use async_trait::async_trait;
use client::delegated::{Attributes, Authenticator, Authorizer, User};
use http::{HeaderMap, Method, StatusCode};
use rustls::pki_types::CertificateDer;

/// The rules of the port. No authenticator: everybody is anonymous; no authorizer: everything is allowed.
pub struct Access {
    pub node_name: String,
    pub authenticator: Option<Arc<dyn Authenticator>>,
    pub authorizer: Option<Arc<dyn Authorizer>>,
}

type Refusal = (StatusCode, String);

impl Access {
    pub async fn check(
        &self,
        peer: &[CertificateDer<'_>],
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<(), Refusal> {
        let user = match &self.authenticator {
            Some(authenticator) => match authenticator.authenticate(peer, headers).await {
                Ok(Some(user)) => user,
                Ok(None) => return Err((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned())),
                Err(error) => {
                    tracing::warn!(%error, "Unable to authenticate the request");
                    return Err((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
                }
            },
            None => User::anonymous(),
        };
        let Some(authorizer) = &self.authorizer else { return Ok(()) };
        let verb = verb(method);
        let subresources = subresources(path);
        for subresource in &subresources {
            let attributes = Attributes::Resource {
                verb: verb.to_owned(),
                group: String::new(),
                resource: "nodes".to_owned(),
                subresource: (*subresource).to_owned(),
                namespace: String::new(),
                name: self.node_name.clone(),
            };
            match authorizer.authorize(&user, &attributes).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => {}
                Err(error) => {
                    tracing::warn!(user = user.name, %error, "Authorization error");
                    let text = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                        user.name
                    );
                    return Err((StatusCode::INTERNAL_SERVER_ERROR, text));
                }
            }
        }
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err((StatusCode::FORBIDDEN, text))
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::GET => "get",
        // without a verb only users with all rights are authorized
        _ => "",
    }
}

/// The subresources any of which suffices, the narrowest first.
fn subresources(path: &str) -> Vec<&'static str> {
    let is = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    match () {
        () if is("/stats") => vec!["stats"],
        () if is("/metrics") => vec!["metrics"],
        () if is("/logs") => vec!["log"],
        () if is("/checkpoint") => vec!["checkpoint"],
        () if is("/statusz") => vec!["statusz"],
        () if is("/flagz") => vec!["configz"],
        () if is("/configz") => vec!["configz", "proxy"],
        () if is("/healthz") => vec!["healthz", "proxy"],
        () if ["/pods", "/runningpods"].into_iter().any(is) => vec!["pods", "proxy"],
        () => vec!["proxy"],
    }
}

/// Allows nothing: there is nobody to ask.
pub struct Nobody;

#[async_trait]
impl Authorizer for Nobody {
    async fn authorize(&self, _: &User, _: &Attributes) -> client::Result<Result<(), String>> {
        Ok(Err("no API server to ask".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Allows one subresource and remembers what was asked.
    struct Only(&'static str, Mutex<Vec<String>>);

    #[async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, _: &User, attributes: &Attributes) -> client::Result<Result<(), String>> {
            let Attributes::Resource { verb, subresource, name, .. } = attributes else {
                panic!("{attributes:?}")
            };
            self.1.lock().push(format!("{verb} {name}/{subresource}"));
            Ok(if subresource == self.0 { Ok(()) } else { Err(String::new()) })
        }
    }

    #[tokio::test]
    async fn paths_are_subresources_of_the_node() {
        let table = [
            (Method::GET, "/healthz", "proxy", Ok(()), "get n/healthz,get n/proxy"),
            (Method::GET, "/pods", "pods", Ok(()), "get n/pods"),
            (Method::GET, "/stats/summary", "stats", Ok(()), "get n/stats"),
            (Method::GET, "/metrics/resource", "metrics", Ok(()), "get n/metrics"),
            (Method::GET, "/logs/", "log", Ok(()), "get n/log"),
            (Method::GET, "/flagz", "proxy", Err(()), "get n/configz"),
            (Method::HEAD, "/pods", "pods", Ok(()), " n/pods"),
            (Method::GET, "/logsome", "log", Err(()), "get n/proxy"),
            (Method::POST, "/exec/ns/pod/c", "proxy", Ok(()), "create n/proxy"),
            (Method::GET, "/containerLogs/ns/pod/c", "log", Err(()), "get n/proxy"),
        ];
        for (method, path, allowed, want, asked) in table {
            let only = Arc::new(Only(allowed, Mutex::default()));
            let access =
                Access { node_name: "n".into(), authenticator: None, authorizer: Some(only.clone()) };
            let result = access.check(&[], &HeaderMap::new(), &method, path).await;
            assert_eq!(result.map_err(|_| ()), want, "{path}");
            assert_eq!(only.1.lock().join(","), asked, "{path}");
        }
        let access =
            Access { node_name: "n".into(), authenticator: None, authorizer: Some(Arc::new(Nobody)) };
        let (status, text) =
            access.check(&[], &HeaderMap::new(), &Method::GET, "/configz").await.unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(
            text,
            "Forbidden (user=system:anonymous, verb=get, resource=nodes, subresource(s)=[configz proxy])\n"
        );
    }
}
