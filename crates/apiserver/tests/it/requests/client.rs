//! Sends a request of the table, as whom it says, and gives the answer in its normal form.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::normal;
use crate::rig::{Credentials, Rig};

/// How long an effect may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request of the table.
#[derive(Clone, Deserialize, Serialize)]
pub struct Request {
    pub name: String,
    method: String,
    path: String,
    #[serde(default, rename = "as", skip_serializing_if = "As::is_admin")]
    user: As,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    headers: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// A large body: its start, what is repeated, how often, its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fill: Option<(String, String, usize, String)>,
    /// Sent again until the answer has this code: what was made before it takes its time to have an effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u16>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum As {
    #[default]
    Admin,
    /// May read config maps in the namespace `t`.
    Limited,
    /// Without credentials.
    Nobody,
    /// With a certificate of an unknown authority.
    Stranger,
}

impl As {
    fn is_admin(&self) -> bool {
        *self == As::Admin
    }
}

impl Request {
    pub fn reads(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }

    fn bytes(&self) -> Bytes {
        if let Some((start, unit, times, end)) = &self.fill {
            return format!("{start}{}{end}", unit.repeat(*times)).into();
        }
        if let Some(encoded) = &self.base64 {
            return base64::engine::general_purpose::STANDARD.decode(encoded).unwrap().into();
        }
        self.body.clone().unwrap_or_default().into()
    }
}

/// Where requests go, and who sends them.
pub struct Client {
    address: String,
    authority: CertificateDer<'static>,
    admin: Credentials,
    limited: Credentials,
    stranger: Credentials,
}

impl Client {
    pub fn of_rig(rig: &Rig) -> Client {
        Client {
            address: format!("127.0.0.1:{}", rig.port()),
            authority: rig.authority(),
            admin: rig.admin(),
            limited: rig.certificate("limited", &[]),
            stranger: rig.strangers_certificate(),
        }
    }

    pub fn of_files(address: &str, directory: &Path) -> Client {
        daemon::install_crypto();
        let credentials = |name: &str| {
            let path = |end: &str| directory.join(format!("{name}.{end}"));
            let key = PrivateKeyDer::from_pem_file(path("key")).unwrap();
            Credentials::Certificate(
                CertificateDer::from_pem_file(path("crt")).unwrap(),
                key.secret_der().to_vec(),
            )
        };
        Client {
            address: address.to_owned(),
            authority: CertificateDer::from_pem_file(directory.join("ca.crt")).unwrap(),
            admin: credentials("admin"),
            limited: credentials("limited"),
            stranger: Rig::certificate_of_nobody(),
        }
    }

    pub async fn answer(&self, request: &Request) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.send(request).await;
            let settled = request.until.is_none_or(|code| answer["code"] == code);
            if settled || began.elapsed() > PATIENCE {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn send(&self, request: &Request) -> Value {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let credentials = match request.user {
            As::Admin => Some(&self.admin),
            As::Limited => Some(&self.limited),
            As::Stranger => Some(&self.stranger),
            As::Nobody => None,
        };
        let config = match credentials {
            Some(Credentials::Certificate(certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.clone()).unwrap();
                builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
            }
            _ => builder.with_no_client_auth(),
        };
        let stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut out = http::Request::builder()
            .method(request.method.as_str())
            .uri(request.path.as_str())
            .header("host", &self.address);
        for (name, value) in &request.headers {
            out = out.header(name, value.as_str().unwrap());
        }
        let response = match sender.send_request(out.body(Full::new(request.bytes())).unwrap()).await {
            Ok(response) => response,
            Err(error) => return json!({"error": error.to_string()}),
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        normal::answer(&parts, &body)
    }
}
