//! Sends requests as whom it is asked to, over connections that are used again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::expect::Subject;
use crate::rig::{Credentials, Rig};

pub struct Sender {
    address: String,
    config: Arc<rustls::ClientConfig>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

pub struct Answer {
    code: StatusCode,
    message: String,
}

impl Answer {
    pub fn refused(&self) -> String {
        format!("{} {}", self.code.as_u16(), self.message)
    }

    /// Only these words say that nothing is there.
    pub fn outcome(&self) -> String {
        let nothing = ["the server could not find the requested resource", "404 page not found"];
        match self.code {
            StatusCode::NOT_FOUND if nothing.contains(&self.message.trim()) => "404",
            StatusCode::METHOD_NOT_ALLOWED => "405",
            StatusCode::FORBIDDEN => "403",
            _ => "served",
        }
        .to_owned()
    }
}

impl Sender {
    fn new(
        address: String,
        authority: CertificateDer<'static>,
        admin: (CertificateDer<'static>, Vec<u8>),
    ) -> Sender {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).unwrap();
        let key = PrivateKeyDer::try_from(admin.1).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = Arc::new(config.with_client_auth_cert(vec![admin.0], key).unwrap());
        Sender { address, config, idle: Mutex::default() }
    }

    pub fn of_rig(rig: &Rig) -> Sender {
        let Credentials::Certificate(certificate, key) = rig.admin() else { panic!("no certificate") };
        Sender::new(format!("127.0.0.1:{}", rig.port()), rig.authority(), (certificate, key))
    }

    pub fn of_files(address: &str, directory: &Path) -> Sender {
        daemon::install_crypto();
        let key = PrivateKeyDer::from_pem_file(directory.join("admin.key")).unwrap();
        let admin =
            (CertificateDer::from_pem_file(directory.join("admin.crt")).unwrap(), key.secret_der().to_vec());
        Sender::new(
            address.to_owned(),
            CertificateDer::from_pem_file(directory.join("ca.crt")).unwrap(),
            admin,
        )
    }

    async fn connection(&self) -> SendRequest<Full<Bytes>> {
        loop {
            let Some(mut idle) = self.idle.lock().pop() else { break };
            if idle.ready().await.is_ok() {
                return idle;
            }
        }
        let stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(self.config.clone());
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
        let mut connection = self.connection().await;
        let asked = format!("{} {}", request.method(), request.uri());
        let response = connection.send_request(request).await.unwrap();
        let code = response.status();
        let body = tokio::time::timeout(Duration::from_secs(20), response.into_body().collect()).await;
        let body = body
            .unwrap_or_else(|_| panic!("{asked}: an answer without end"))
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        self.idle.lock().push(connection);
        (code, body)
    }

    /// As a user of these groups. No body, so that nothing is written.
    pub async fn send(&self, method: &Method, uri: &str, user: &str, groups: &[&str]) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header("host", &self.address);
        request = request.header("impersonate-user", user);
        for group in groups {
            request = request.header("impersonate-group", *group);
        }
        let (code, body) = self.exchange(request.body(Full::default()).unwrap()).await;
        let message = match serde_json::from_slice::<Value>(&body) {
            Ok(status) => status["message"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        Answer { code, message }
    }

    async fn json(&self, method: Method, uri: &str, body: Value) -> Value {
        let request = Request::builder().method(&method).uri(uri).header("host", &self.address);
        let request = request.header("content-type", "application/json");
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let (code, body) = self.exchange(request.body(Full::from(body)).unwrap()).await;
        assert!(code.is_success() || code == StatusCode::CONFLICT, "{method} {uri}: {code} {body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    /// Everything that the server says it serves.
    pub async fn discover(&self) -> Vec<Subject> {
        let groups = self.json(Method::GET, "/apis", Value::Null).await;
        let mut lists = vec![("".to_owned(), "/api/v1".to_owned())];
        for group in groups["groups"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                let version = version["groupVersion"].as_str().unwrap();
                lists.push((group["name"].as_str().unwrap().to_owned(), format!("/apis/{version}")));
            }
        }
        let mut subjects: Vec<Subject> = Vec::new();
        for (group, base) in lists {
            let list = self.json(Method::GET, &base, Value::Null).await;
            let resources = list["resources"].as_array().unwrap();
            for resource in resources {
                let verbs: Vec<String> = serde_json::from_value(resource["verbs"].clone()).unwrap();
                let name = resource["name"].as_str().unwrap().to_owned();
                if name.contains('/') {
                    continue;
                }
                let below = |own: &&Value| own["name"].as_str().unwrap().starts_with(&format!("{name}/"));
                let subresources = resources.iter().filter(below).map(|own| {
                    let verbs: Vec<String> = serde_json::from_value(own["verbs"].clone()).unwrap();
                    let name = own["name"].as_str().unwrap().split_once('/').unwrap().1.to_owned();
                    (name, verbs)
                });
                subjects.push(Subject {
                    base: base.clone(),
                    group: group.clone(),
                    namespaced: resource["namespaced"].as_bool().unwrap(),
                    subresources: subresources.collect(),
                    name,
                    verbs,
                });
            }
        }
        subjects
    }

    /// Lets the group `only:VERB` do that with everything, and waits until it may.
    pub async fn grant(&self, verb: &str) {
        let base = "/apis/rbac.authorization.k8s.io/v1";
        let name = if verb == "*" { "only:all".to_owned() } else { format!("only:{verb}") };
        let rules = json!([{"verbs": [verb], "apiGroups": ["*"], "resources": ["*"]}]);
        let role = json!({"metadata": {"name": name}, "rules": rules});
        self.json(Method::POST, &format!("{base}/clusterroles"), role).await;
        let subjects = json!([{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": format!("only:{verb}")}]);
        let of = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let binding = json!({"metadata": {"name": name}, "roleRef": of, "subjects": subjects});
        self.json(Method::POST, &format!("{base}/clusterrolebindings"), binding).await;
        let spec = json!({"user": "holder", "groups": [format!("only:{verb}")],
            "resourceAttributes": {"verb": verb, "resource": "pods"}});
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        for _ in 0..500 {
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            if self.json(Method::POST, path, review.clone()).await["status"]["allowed"] == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{verb} is not granted");
    }
}
