//! One probe, run once.

use super::{grpc, http};
use crate::pods::is_host_network;
use crate::run::Kubelet;
use crate::runtime::Container as Instance;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Warning(String),
    Failure(String),
    /// The probe could not be made; says nothing of the container.
    Error(String),
}

pub async fn run(
    kubelet: &Arc<Kubelet>,
    pod: &Pod,
    container: &Container,
    instance: &Instance,
    probe: &Probe,
    timeout: Duration,
) -> Outcome {
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return self::exec(kubelet, instance, command, timeout).await;
    }
    let ip = pod_ip(kubelet, pod);
    if let Some(get) = &probe.http_get {
        return match http_request(get, container, &ip, "kube-probe") {
            Ok(request) => http::probe(&request, timeout).await,
            Err(text) => Outcome::Error(text),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or(ip);
        return match port(&tcp.port, container) {
            Ok(port) => self::tcp(&host, port, timeout).await,
            Err(text) => Outcome::Error(text),
        };
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.clone().unwrap_or_default();
        let port = u16::try_from(action.port).unwrap_or_default();
        return grpc::probe(&ip, port, &service, timeout).await;
    }
    Outcome::Error(format!("missing probe handler for {}:{}", crate::pods::title(pod), container.name))
}

/// Address on which a pod's containers listen.
pub fn pod_ip(kubelet: &Kubelet, pod: &Pod) -> String {
    let own = kubelet.pods.runtime_pod(crate::pods::uid(pod));
    let own = own.and_then(|found| found.ips().first().cloned());
    let host = kubelet.addresses.get().first().map(ToString::to_string);
    let ip = if is_host_network(pod) { host } else { own };
    ip.unwrap_or_default()
}

async fn exec(kubelet: &Kubelet, instance: &Instance, command: Vec<String>, timeout: Duration) -> Outcome {
    const LIMIT: usize = 10 * 1024;
    let text = command.join(" ");
    let answer = kubelet.runtime.exec_sync(&instance.id, command, timeout);
    match answer.await {
        Ok(answer) => {
            let output = [answer.stdout, answer.stderr].concat();
            let output = String::from_utf8_lossy(&output[..output.len().min(LIMIT)]).into_owned();
            if answer.exit_code == 0 { Outcome::Success } else { Outcome::Failure(output) }
        }
        Err(error) if error.is_deadline_exceeded() => {
            let limit = daemon::flags::Duration(timeout).to_string();
            Outcome::Failure(format!("command timed out: {text:?} timed out after {limit}"))
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> Outcome {
    match http::connect(host, port, timeout).await {
        Ok(stream) => {
            drop::<TcpStream>(stream);
            Outcome::Success
        }
        Err(text) => Outcome::Failure(text),
    }
}

pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|it| it.name.as_deref() == Some(name));
            named.map(|it| it.container_port).ok_or_else(|| format!("port {name:?} not found"))?
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

/// The request an action describes; `agent` is `kube-probe` or `kube-lifecycle`.
pub fn http_request(
    get: &HTTPGetAction,
    container: &Container,
    ip: &str,
    agent: &str,
) -> Result<http::Request, String> {
    let host = get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| ip.to_owned());
    let path = get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let mut headers: Vec<(String, String)> =
        get.http_headers.iter().flatten().map(|it| (it.name.clone(), it.value.clone())).collect();
    let has = |headers: &[(String, String)], name: &str| {
        headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    if !has(&headers, "user-agent") {
        let version = format!("{}.{}", daemon::version::MAJOR, daemon::version::MINOR);
        headers.push(("User-Agent".into(), format!("{agent}/{version}")));
    }
    if !has(&headers, "accept") {
        headers.push(("Accept".into(), "*/*".into()));
    }
    headers.retain(|(_, value)| !value.is_empty());
    Ok(http::Request {
        tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host,
        port: port(&get.port, container)?,
        path,
        headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 80}]}),
        )
        .unwrap();
        let named = |name: &str| port(&IntOrString::String(name.into()), &container);
        assert_eq!(named("web"), Ok(80));
        assert_eq!(named("nope"), Err("port \"nope\" not found".into()));
        assert_eq!(port(&IntOrString::Int(70_000), &container), Err("invalid port number: 70000".into()));
    }
}
