//! Whether the other parts of the control plane are well, for `componentstatuses`: the scheduler and the controller manager
//! on this machine's loopback address, and each etcd server.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use store::Store as _;
use tokio::net::TcpStream;

use crate::options::Options;
use crate::proxy;

const SCHEDULER: u16 = 10259;
const CONTROLLER_MANAGER: u16 = 10257;
const TIMEOUT: Duration = Duration::from_secs(20);
const ETCD_TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST: usize = 10 << 10;

/// A part that can be asked.
#[derive(Clone, Debug)]
pub struct Component {
    pub name: String,
    check: Check,
}

#[derive(Clone, Debug)]
enum Check {
    /// `/healthz` on a port of the loopback address.
    Healthz(u16),
    Etcd(store::etcd::Options),
}

impl Component {
    pub fn all(options: &Options) -> Vec<Component> {
        let healthz = |name: &str, port| Component { name: name.to_owned(), check: Check::Healthz(port) };
        let mut all =
            vec![healthz("scheduler", SCHEDULER), healthz("controller-manager", CONTROLLER_MANAGER)];
        all.extend(options.etcd_servers.iter().enumerate().map(|(number, server)| Component {
            name: format!("etcd-{number}"),
            check: Check::Etcd(store::etcd::Options {
                servers: vec![server.clone()],
                ca_file: options.etcd_cafile.clone(),
                cert_file: options.etcd_certfile.clone(),
                key_file: options.etcd_keyfile.clone(),
                patience: ETCD_TIMEOUT / 2,
            }),
        }));
        all
    }

    /// What a healthy part says, or what is wrong.
    pub async fn health(&self) -> Result<String, String> {
        match &self.check {
            Check::Healthz(port) => {
                let url = format!("https://127.0.0.1:{port}/healthz");
                match tokio::time::timeout(TIMEOUT, healthz(*port)).await {
                    Ok(Ok((status, body))) if status.is_success() || status.is_redirection() => Ok(body),
                    Ok(Ok((status, _))) => {
                        Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
                    }
                    Ok(Err(error)) => Err(format!("Get \"{url}\": {error}")),
                    Err(_) => Err(format!(
                        "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                    )),
                }
            }
            Check::Etcd(options) => {
                let asked = async { store::Etcd::connect(options).await?.revision().await };
                match tokio::time::timeout(ETCD_TIMEOUT, asked).await {
                    Ok(Ok(_)) => Ok("ok".to_owned()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("context deadline exceeded".to_owned()),
                }
            }
        }
    }
}

async fn healthz(port: u16) -> Result<(StatusCode, String), String> {
    let address = format!("127.0.0.1:{port}");
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .map_err(|error| format!("dial tcp {address}: connect: {}", proxy::dial_error(&error)))?;
    let connector = tokio_rustls::TlsConnector::from(proxy::trusting_anyone()?);
    let name = rustls_pki_types::ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let stream = connector.connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::get("/healthz")
        .header(http::header::HOST, &address)
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async move {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    // a connection that fails shows in the exchange, too
    let (_, answer) = tokio::join!(connection, exchange);
    answer
}
