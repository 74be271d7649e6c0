//! Exec, attach and port-forward: the runtime gives an address where it streams, and the client is joined to it.

use std::sync::Arc;

use cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use streaming::channels::Protocol;
use streaming::pipe;
use streaming::translate::{Streams, translate};
use streaming::upgrade::{self, Answer, STREAM_PROTOCOL, TUNNEL_PREFIX, Wanted};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Body, Host, body, parameter, query, respond, text};
use crate::runtime::State;

/// Namespace, pod, its uid where the path names it, container.
pub type Target<'a> = (&'a str, &'a str, Option<&'a str>, &'a str);

type Refusal = Box<Response<Body>>;

fn refuse(status: StatusCode, message: impl Into<String>) -> Refusal {
    Box::new(text(status, message))
}

pub async fn exec(host: &Arc<Host>, target: Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let result = async {
        let query = query(request.uri().query().unwrap_or_default());
        let streams = streams(&query)?;
        let container_id = container(host, target)?;
        let cmd =
            query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect();
        let asked = ExecRequest {
            container_id,
            cmd,
            tty: streams.terminal,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let url = host.runtime.exec(asked).await.map_err(|error| failed(&error))?;
        remote_command(host, &url, streams, request).await
    };
    result.await.unwrap_or_else(|refusal| *refusal)
}

pub async fn attach(host: &Arc<Host>, target: Target<'_>, request: Request<Incoming>) -> Response<Body> {
    let result = async {
        let mut streams = streams(&query(request.uri().query().unwrap_or_default()))?;
        let container_id = container(host, target)?;
        // Whether there is a terminal was settled when the container was made.
        let terminal = terminal(host, target);
        if terminal {
            streams = Streams { stderr: false, terminal, ..streams };
        }
        let asked = AttachRequest {
            container_id,
            tty: terminal,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let url = host.runtime.attach(asked).await.map_err(|error| failed(&error))?;
        remote_command(host, &url, streams, request).await
    };
    result.await.unwrap_or_else(|refusal| *refusal)
}

pub async fn port_forward(
    host: &Arc<Host>,
    (namespace, name, uid): (&str, &str, Option<&str>),
    request: Request<Incoming>,
) -> Response<Body> {
    let result = async {
        pod(host, namespace, name, uid)?;
        let sandbox = host.pods.sandbox_id(namespace, name).ok_or_else(|| {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to find sandbox for pod {name:?}"))
        })?;
        let query = query(request.uri().query().unwrap_or_default());
        let ports = query.iter().filter(|(name, _)| name == "port" || name == "ports");
        let port = ports.flat_map(|(_, value)| value.split(',').map(str::parse)).collect::<Result<_, _>>();
        let port =
            port.map_err(|_| refuse(StatusCode::BAD_REQUEST, "query parameter \"port\" is not a number"))?;
        let asked = PortForwardRequest { pod_sandbox_id: sandbox, port };
        let url = host.runtime.port_forward(asked).await.map_err(|error| failed(&error))?;
        let offered = upgrade::offers(request.headers(), header::SEC_WEBSOCKET_PROTOCOL);
        let tunnelled =
            offered.iter().find(|name| name.starts_with(TUNNEL_PREFIX)).map(|name| (*name).to_owned());
        match tunnelled {
            Some(name) if upgrade::wanted(request.headers()) == Wanted::WebSocket => {
                tunnel(host, &url, &name, request).await
            }
            _ => pass(host, &url, request).await,
        }
    };
    result.await.unwrap_or_else(|refusal| *refusal)
}

/// `/run`: a command to its end, its output as the answer.
pub async fn run(host: &Arc<Host>, target: Target<'_>, query_text: &str) -> Response<Body> {
    let result = async {
        let query = query(query_text);
        let command: Vec<String> =
            parameter(&query, "cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let id = container(host, target)?;
        let done = host.runtime.exec_sync(&id, command, std::time::Duration::ZERO).await;
        let done = done.map_err(|error| failed(&error))?;
        if done.exit_code != 0 {
            let message = format!("command terminated with exit code {}", done.exit_code);
            return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
        let output = [&done.stdout[..], &done.stderr[..]].concat();
        Ok(respond(StatusCode::OK, "text/plain; charset=utf-8", output))
    };
    result.await.unwrap_or_else(|refusal: Refusal| *refusal)
}

fn streams(query: &[(String, String)]) -> Result<Streams, Refusal> {
    let flag =
        |names: [&str; 2]| names.iter().any(|name| matches!(parameter(query, name), Some("1" | "true")));
    let terminal = flag(["tty", "tty"]);
    let streams = Streams {
        stdin: flag(["input", "stdin"]),
        stdout: flag(["output", "stdout"]),
        // A terminal brings both through stdout.
        stderr: flag(["error", "stderr"]) && !terminal,
        terminal,
    };
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(refuse(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

fn pod(host: &Host, namespace: &str, name: &str, uid: Option<&str>) -> Result<(), Refusal> {
    let pod = host.pods.get(namespace, name);
    match pod.filter(|pod| uid.is_none_or(|uid| uid == crate::pods::uid(pod))) {
        Some(_) => Ok(()),
        None => Err(refuse(StatusCode::NOT_FOUND, "pod does not exist")),
    }
}

fn container(host: &Host, (namespace, name, uid, container): Target<'_>) -> Result<String, Refusal> {
    pod(host, namespace, name, uid)?;
    let found = host.pods.container(namespace, name, container);
    found.filter(|found| found.state == State::Running).map(|found| found.id).ok_or_else(|| {
        refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("container not found ({container:?})"))
    })
}

fn terminal(host: &Host, (namespace, name, _, container): Target<'_>) -> bool {
    host.pods.get(namespace, name).is_some_and(|pod| {
        pod.spec.as_ref().is_some_and(|spec| {
            let init = spec.init_containers.iter().flatten();
            let plain = spec.containers.iter().chain(init).map(|it| (&it.name, it.tty));
            let ephemeral = spec.ephemeral_containers.iter().flatten().map(|it| (&it.name, it.tty));
            plain.chain(ephemeral).any(|(name, tty)| name == container && tty == Some(true))
        })
    })
}

fn failed(error: &cri::Error) -> Refusal {
    let status = if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
    refuse(status, error.to_string())
}

/// A WebSocket client is translated, any other passed on as it is.
async fn remote_command(
    host: &Arc<Host>,
    url: &str,
    streams: Streams,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if upgrade::wanted(request.headers()) != Wanted::WebSocket {
        return pass(host, url, request).await;
    }
    let offered = upgrade::offers(request.headers(), header::SEC_WEBSOCKET_PROTOCOL);
    let Some((protocol, name)) = Protocol::negotiate(&offered) else {
        let message = format!("unable to upgrade: unable to negotiate protocol: client supports {offered:?}");
        return Err(refuse(StatusCode::FORBIDDEN, message));
    };
    let name = name.map(str::to_owned);
    let headers = upgrade::spdy_headers(&["v4.channel.k8s.io"]);
    let (runtime, driver) = match dial(Method::POST, url, headers).await? {
        Answer::Upgraded(_, runtime, driver) => (runtime, driver),
        Answer::Refused(response, driver) => return Ok(relay(response, driver)),
    };
    accept(host, name.as_deref(), request, move |websocket| async move {
        let _driver = driver;
        if let Err(error) = translate(websocket, protocol, runtime, streams).await {
            tracing::debug!(%error, "Remote command session");
        }
    })
}

/// Joins an upgraded client to the runtime byte for byte.
async fn pass(
    host: &Arc<Host>,
    url: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if upgrade::wanted(request.headers()) == Wanted::Nothing {
        let message = "unable to upgrade: missing upgrade headers in request";
        return Err(refuse(StatusCode::BAD_REQUEST, message));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let wanted =
            matches!(*name, header::CONNECTION | header::UPGRADE | header::USER_AGENT | header::ORIGIN)
                || name.as_str().starts_with("sec-websocket-")
                || name.as_str() == STREAM_PROTOCOL;
        if wanted {
            headers.append(name, value.clone());
        }
    }
    let (answered, runtime, driver) = match dial(request.method().clone(), url, headers).await? {
        Answer::Upgraded(headers, runtime, driver) => (headers, runtime, driver),
        Answer::Refused(response, driver) => return Ok(relay(response, driver)),
    };
    let client = hyper::upgrade::on(&mut request);
    host.sessions.spawn(until(host, async move {
        let _driver = driver;
        match client.await {
            Ok(client) => {
                if let Err(error) = pipe::join(TokioIo::new(client), runtime).await {
                    tracing::debug!(%error, "Streaming session");
                }
            }
            Err(error) => tracing::debug!(%error, "The client did not upgrade"),
        }
    }));
    let mut response = Response::new(body(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answered;
    Ok(response)
}

/// Unwraps SPDY from a WebSocket's messages.
async fn tunnel(
    host: &Arc<Host>,
    url: &str,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let mut headers = upgrade::spdy_headers(&[]);
    if let Ok(protocol) = HeaderValue::from_str(name.trim_start_matches(TUNNEL_PREFIX)) {
        headers.insert(STREAM_PROTOCOL, protocol);
    }
    let (runtime, driver) = match dial(Method::POST, url, headers).await? {
        Answer::Upgraded(_, runtime, driver) => (runtime, driver),
        Answer::Refused(response, driver) => return Ok(relay(response, driver)),
    };
    accept(host, Some(name), request, move |websocket| async move {
        let _driver = driver;
        if let Err(error) = pipe::tunnel(websocket, runtime).await {
            tracing::debug!(%error, "Tunnelled session");
        }
    })
}

type Client = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Answers the handshake and runs the session when the client has switched.
fn accept<F>(
    host: &Arc<Host>,
    protocol: Option<&str>,
    mut request: Request<Incoming>,
    session: impl FnOnce(Client) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    let response = upgrade::accept_websocket(request.headers(), protocol, body(""))
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "unable to upgrade: not a WebSocket handshake"))?;
    let client = hyper::upgrade::on(&mut request);
    host.sessions.spawn(until(host, async move {
        match client.await {
            Ok(client) => {
                session(WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await)
                    .await;
            }
            Err(error) => tracing::debug!(%error, "The client did not upgrade"),
        }
    }));
    Ok(response)
}

/// The session, until it ends or the kubelet does.
fn until<F>(host: &Host, session: F) -> impl Future<Output = ()> + Send + use<F>
where
    F: Future<Output = ()> + Send,
{
    let shutdown = host.shutdown.clone();
    async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = session => {}
        }
    }
}

async fn dial(method: Method, url: &str, headers: HeaderMap) -> Result<Answer, Refusal> {
    let uri = url.parse::<Uri>().map_err(|error| {
        refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the runtime's streaming address {url:?}: {error}"))
    })?;
    let answer = upgrade::dial(method, &uri, headers).await;
    answer
        .map_err(|error| refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("error dialing backend: {error}")))
}

/// The runtime's own answer, where it did not upgrade.
fn relay(response: Response<Incoming>, driver: tokio_util::task::AbortOnDropHandle<()>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    let body = body.map_err(std::io::Error::other).map_frame(move |frame| {
        // The connection lives as long as its body.
        let _ = &driver;
        frame
    });
    Response::from_parts(parts, body.boxed_unsync())
}
