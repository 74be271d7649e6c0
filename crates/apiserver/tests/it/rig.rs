//! A whole server over a memory store on a free port, with authorities of its own, and a kubelet that gives the answers a test sets.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::Tree;
use api::json;
use apiserver::options::Options;
use apiserver::server;
use bytes::Bytes;
use daemon::serving::{self, KeyPair, Peer, TlsConfig};
use futures::{Stream, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

pub struct Rig {
    port: u16,
    pki: Pki,
    shutdown: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), server::Error>>,
    directory: tempfile::TempDir,
}

pub enum Credentials {
    None,
    Token(String),
    Certificate(CertificateDer<'static>, Vec<u8>),
}

struct Pki {
    parameters: CertificateParams,
    key: rcgen::KeyPair,
    pem: String,
}

impl Pki {
    fn new() -> Pki {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "ca");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Pki { parameters, key, pem }
    }

    fn issue(&self, name: &str, groups: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
        let own = name.contains('.').then(|| name.to_owned());
        let names = own.into_iter().chain(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let mut parameters = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            parameters.distinguished_name.push(DnType::OrganizationName, *group);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = Issuer::new(self.parameters.clone(), &self.key);
        (parameters.signed_by(&key, &issuer).unwrap(), key)
    }

    fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(name, &[]);
        let paths = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::with(&[]).await
    }

    /// With more flags.
    pub async fn with(flags: &[&str]) -> Rig {
        daemon::install_crypto();
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::new();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("ca.crt"), &pki.pem).unwrap();
        let (certificate, key) = pki.write(directory.path(), "apiserver");
        let (client, client_key) = pki.write(directory.path(), "kubelet-client");
        let (front, front_key) = pki.write(directory.path(), "front-proxy");
        std::fs::write(at("sa.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut arguments = vec![
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=192.0.2.10".to_owned(),
            "--etcd-servers=memory".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--allow-privileged".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            flag("service-account-key-file", &at("sa.key")),
            flag("service-account-signing-key-file", &at("sa.key")),
            flag("client-ca-file", &at("ca.crt")),
            flag("tls-cert-file", &certificate),
            flag("tls-private-key-file", &key),
            flag("kubelet-certificate-authority", &at("ca.crt")),
            flag("kubelet-client-certificate", &client),
            flag("kubelet-client-key", &client_key),
            flag("proxy-client-cert-file", &front),
            flag("proxy-client-key-file", &front_key),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let options = match daemon::flags::parse_from::<Options>(arguments, &[]) {
            daemon::flags::Outcome::Run { options, .. } => options.complete().unwrap(),
            other => panic!("{other:?}"),
        };
        let listener = serving::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let store = Arc::new(store::Memory::new());
        let server = tokio::spawn(server::serve(options, store, listener, shutdown.clone()));
        Rig { port, pki, shutdown, server, directory }
    }

    pub async fn ready(&self) {
        let admin = self.admin();
        let mut last = String::new();
        for _ in 0..500 {
            let (code, text) = self.text(&admin, "/readyz?verbose").await;
            if code == StatusCode::OK {
                return;
            }
            last = text;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not ready: {last}");
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(15), self.server).await.unwrap().unwrap().unwrap();
        drop(self.directory);
    }

    pub fn certificate(&self, name: &str, groups: &[&str]) -> Credentials {
        let (certificate, key) = self.pki.issue(name, groups);
        Credentials::Certificate(certificate.der().clone(), key.serialize_der())
    }

    /// A token of these claims, signed as this server's own are.
    pub fn token(&self, claims: &Tree) -> String {
        let key = std::fs::read(self.directory.path().join("sa.key")).unwrap();
        let key = jsonwebtoken::EncodingKey::from_ec_pem(&key).unwrap();
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }

    pub fn admin(&self) -> Credentials {
        self.certificate("admin", &["system:masters"])
    }

    /// A certificate of an unknown authority.
    pub fn strangers_certificate(&self) -> Credentials {
        Rig::certificate_of_nobody()
    }

    /// Somebody who may do everything, within the limits that all have.
    pub async fn ruler(&self, name: &str) -> Credentials {
        let binding = json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "name": name}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
        let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        assert_eq!(self.post(&self.admin(), bindings, binding).await.0, StatusCode::CREATED);
        let user = self.certificate(name, &[]);
        while self.get(&user, "/api/v1/namespaces").await.0 != StatusCode::OK {
            tokio::task::yield_now().await;
        }
        user
    }

    pub fn certificate_of_nobody() -> Credentials {
        let (certificate, key) = Pki::new().issue("admin", &["system:masters"]);
        Credentials::Certificate(certificate.der().clone(), key.serialize_der())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn authority(&self) -> CertificateDer<'static> {
        self.pki.parameters.self_signed(&self.pki.key).unwrap().der().clone()
    }

    pub fn authority_pem(&self) -> &str {
        &self.pki.pem
    }

    /// A server's certificate and key, for a name.
    pub fn write_certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        self.pki.write(self.directory.path(), name)
    }

    async fn connect(
        &self,
        credentials: &Credentials,
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = self.pki.parameters.self_signed(&self.pki.key).unwrap();
        roots.add(ca.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = match credentials {
            Credentials::Certificate(certificate, key) => {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
            }
            _ => builder.with_no_client_auth(),
        };
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    async fn exchange(
        &self,
        credentials: &Credentials,
        method: Method,
        path: &str,
        headers: &[(&str, &[u8])],
        body: Option<Tree>,
    ) -> Response<Incoming> {
        let stream = self.connect(credentials).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if let Credentials::Token(token) = credentials {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
    }

    pub async fn text(&self, credentials: &Credentials, path: &str) -> (StatusCode, String) {
        let response = self.exchange(credentials, Method::GET, path, &[], None).await;
        let code = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn send(
        &self,
        credentials: &Credentials,
        method: Method,
        path: &str,
        body: Option<Tree>,
    ) -> (StatusCode, Tree) {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let headers: &[(&str, &[u8])] = match body {
            Some(_) => &[("content-type", kind.as_bytes())],
            None => &[],
        };
        whole(self.exchange(credentials, method, path, headers, body).await).await
    }

    /// A request with these headers.
    pub async fn with_headers(
        &self,
        credentials: &Credentials,
        method: Method,
        path: &str,
        headers: &[(&str, &[u8])],
        body: Option<Tree>,
    ) -> (StatusCode, Tree) {
        whole(self.exchange(credentials, method, path, headers, body).await).await
    }

    /// A GET with these headers.
    pub async fn get_with(
        &self,
        credentials: &Credentials,
        path: &str,
        headers: &[(&str, &[u8])],
    ) -> (StatusCode, Tree) {
        whole(self.exchange(credentials, Method::GET, path, headers, None).await).await
    }

    pub async fn get(&self, credentials: &Credentials, path: &str) -> (StatusCode, Tree) {
        self.send(credentials, Method::GET, path, None).await
    }

    pub async fn post(&self, credentials: &Credentials, path: &str, body: Tree) -> (StatusCode, Tree) {
        self.send(credentials, Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, credentials: &Credentials, path: &str, body: Tree) -> (StatusCode, Tree) {
        self.send(credentials, Method::PATCH, path, Some(body)).await
    }

    /// Begins to send an object, and stops.
    pub async fn trickle(
        &self,
        credentials: &Credentials,
        path: &str,
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let mut stream = self.connect(credentials).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// The parts of an answer as they come, until it ends or breaks off.
    pub async fn stream(
        &self,
        credentials: &Credentials,
        path: &str,
    ) -> impl Stream<Item = String> + Unpin + use<> {
        let response = self.exchange(credentials, Method::GET, path, &[], None).await;
        assert_eq!(response.status(), StatusCode::OK);
        let parts =
            response.into_body().into_data_stream().take_while(|part| std::future::ready(part.is_ok()));
        Box::pin(parts.map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap()))
    }

    pub async fn headers(&self, credentials: &Credentials, path: &str) -> http::HeaderMap {
        self.exchange(credentials, Method::GET, path, &[], None).await.headers().clone()
    }

    /// Upgrades and sends `text`; what comes back until the other side closes.
    pub async fn tunnel(&self, credentials: &Credentials, path: &str, text: &[u8]) -> String {
        let mut stream = self.connect(credentials).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(text).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

async fn whole(response: Response<Incoming>) -> (StatusCode, Tree) {
    let code = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or(json!(null)))
}

/// A kubelet that names each request it gets and the client that sent it. Answers its port.
pub async fn kubelet(rig: &Rig) -> u16 {
    let (certificate, key) = rig.pki.write(rig.directory.path(), "kubelet");
    let tls = TlsConfig::from_files(KeyPair { certificate, key }).unwrap();
    let listener = serving::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(request)) });
    tokio::spawn(serving::serve(
        listener,
        Some(tls),
        service,
        serving::Options::default(),
        rig.shutdown.clone(),
    ));
    port
}

fn answer(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let asked = format!("{} {}", request.method(), request.uri());
    if request.uri().query().is_some_and(|query| query.contains("previous")) {
        let mut refusal = Response::new(Full::from("no previous container"));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return refusal;
    }
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.unwrap();
            stream.write_all(format!("{asked}\n").as_bytes()).await.unwrap();
            stream.write_all(&ping).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        return Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .body(Full::default())
            .unwrap();
    }
    let client = request.extensions().get::<Peer>().unwrap().certificates()[0].clone();
    let name = serving::authority::subject(&client).unwrap().common_name;
    Response::new(Full::from(format!("{asked} by {name}")))
}
