//! nftables rules of one and ten thousand Services: kube-proxy under test, our API server under both, in a network of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use client::{Client, Patch};
use integration::stack::until;
use integration::{Binaries, Kind, Stack};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::load::{self, milliseconds};
use crate::{Bench, objects};

/// Endpoints that change, one after another.
const CHANGES: usize = 30;
const PATIENCE: Duration = Duration::from_secs(180);
/// Endpoints that answer, of the Services that change.
const ANSWERING: [&str; 2] = ["10.244.250.1", "10.244.250.2"];
const PORT: u16 = 8080;

pub async fn run(bench: &mut Bench) -> Result<()> {
    let devices = std::fs::read_to_string("/proc/self/net/dev")?;
    ensure!(
        devices.lines().skip(2).all(|line| line.trim().starts_with("lo:")),
        "the network is not the benches' own: use hack/bench"
    );
    bench.end_stacks().await?;
    let addresses = ANSWERING.map(|address| format!("addr replace {address}/32 dev lo"));
    for command in addresses.iter().map(String::as_str).chain(["route replace 10.96.0.0/16 dev lo"]) {
        let status = Command::new("ip").args(command.split(' ')).status().await?;
        ensure!(status.success(), "ip {command}");
    }
    let server = tokio::spawn(serve(TcpListener::bind(("0.0.0.0", PORT)).await?));
    let measured = measure(bench).await;
    server.abort();
    measured
}

async fn measure(bench: &mut Bench) -> Result<()> {
    let stack = Stack::start(&bench.sides[0]).await?;
    let clients = stack.clients(8)?;
    objects::namespace(&clients[0], "bench").await?;
    let address = json!([{"type": "InternalIP", "address": "127.0.0.1"}]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench-node"}, "status": {"addresses": address}});
    clients[0].bytes(objects::post("/api/v1/nodes", &node)?).await?;
    let mut existing = 0;
    for (thousands, count) in [("1k", bench.scaled(1000)), ("10k", bench.scaled(10_000))] {
        let (first, more) = (existing, count - existing);
        load::send(&clients, more, move |i| {
            objects::post("/api/v1/namespaces/bench/services", &service(first + i))
        })
        .await?;
        load::send(&clients, more, move |i| {
            let slice = slice(first + i);
            objects::post("/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices", &slice)
        })
        .await?;
        existing = count;
        for _ in 0..bench.rounds {
            for (side, binaries) in bench.sides.clone().iter().enumerate() {
                let figures = of_proxy(&stack, &clients[0], binaries, count).await?;
                for (name, value, budget) in figures {
                    // The budget is that of ten thousand.
                    let budget = if thousands == "10k" { budget } else { None };
                    bench.table.record(
                        side,
                        format!("kube-proxy, {thousands} services: {name}"),
                        value,
                        budget,
                    );
                }
            }
        }
    }
    stack.apiserver.stop().await
}

type Figures = Vec<(&'static str, f64, Option<f64>)>;

async fn of_proxy(stack: &Stack, client: &Client, binaries: &Binaries, services: usize) -> Result<Figures> {
    let last = cluster_ip(client, services - 1).await?;
    let proxy = stack.daemon(binaries, Kind::Proxy).await?;
    // It stands in the map of verdicts of both, and comes with all others.
    let element = format!("{{ {last} . tcp . {PORT} }}");
    let get = ["get", "element", "ip", "kube-proxy", "service-ips", &element];
    until("all services are programmed", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Command::new("nft").args(get).output().await?.status.success())
    })
    .await?;
    let start = proxy.started.elapsed().as_secs_f64();
    let start_cpu = proxy.process.cpu()?.as_secs_f64();
    let listing =
        Command::new("nft").args(["list", "map", "ip", "kube-proxy", "service-ips"]).output().await?;
    let found = String::from_utf8_lossy(&listing.stdout).matches(&format!(" . tcp . {PORT} ")).count();
    ensure!(found >= services, "only {found} services are programmed");

    // Upstream's gathers changes for a second, and looks through its rules after its start.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut frontends = Vec::new();
    for number in 0..CHANGES.min(services) {
        frontends.push(SocketAddr::new(cluster_ip(client, number).await?, PORT));
        change(client, number, ANSWERING[0]).await?;
    }
    for frontend in &frontends {
        wait_for(*frontend, ANSWERING[0]).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = proxy.process.cpu()?;
    let mut times = Vec::new();
    for (number, frontend) in frontends.iter().enumerate() {
        let started = Instant::now();
        change(client, number, ANSWERING[1]).await?;
        wait_for(*frontend, ANSWERING[1]).await?;
        times.push(milliseconds(started.elapsed()));
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let cpu = milliseconds(proxy.process.cpu()? - before) / times.len() as f64;
    let rss = proxy.process.rss()?;
    proxy.stop().await?;
    for family in ["ip", "ip6"] {
        Command::new("nft").args(["delete", "table", family, "kube-proxy"]).status().await?;
    }
    times.sort_by(f64::total_cmp);
    let slowest = times.last().copied().context("no change")?;
    Ok(vec![
        ("exec to all rules (s)", start, Some(1.0)),
        ("CPU of that, with nft (s)", start_cpu, None),
        ("an endpoint's change to traffic, p50 (ms)", times[times.len() / 2], None),
        ("the same, slowest of 30 (ms)", slowest, Some(20.0)),
        ("CPU of one endpoint's change (ms)", cpu, Some(3.0)),
        ("RSS (MiB)", rss, None),
    ])
}

/// Sends both endpoints of a Service to an address.
async fn change(client: &Client, number: usize, address: &str) -> Result<()> {
    let endpoints = json!({"endpoints": [endpoint(address)]});
    client
        .patch::<EndpointSlice>(Some("bench"), &format!("service-{number}"), None, Patch::Merge(endpoints))
        .await?;
    Ok(())
}

/// Waits until new connections to a Service are answered by an endpoint.
async fn wait_for(frontend: SocketAddr, endpoint: &str) -> Result<()> {
    until("the endpoint answers", PATIENCE, async || {
        let attempt = tokio::time::timeout(Duration::from_millis(200), async {
            let mut answer = String::new();
            TcpStream::connect(frontend).await?.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        });
        Ok(matches!(attempt.await, Ok(Ok(answer)) if answer == endpoint))
    })
    .await?;
    Ok(())
}

/// Says by which address it was reached.
async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (mut connection, _) = listener.accept().await?;
        let address = connection.local_addr()?.ip().to_string();
        let _ = connection.write_all(address.as_bytes()).await; // whoever asked may have given up
    }
}

async fn cluster_ip(client: &Client, number: usize) -> Result<IpAddr> {
    let service = client.get::<Service>(Some("bench"), &format!("service-{number}")).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).context("a cluster IP")?;
    Ok(address.parse()?)
}

fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("service-{number}")},
        "spec": {"selector": {"app": format!("app-{number}")}, "ports": [{"name": "http", "port": PORT}]},
    })
}

fn slice(number: usize) -> Value {
    let service = format!("service-{number}");
    let address = |host: usize| {
        format!("10.{}.{}.{}", 128 + number / 25600, number / 100 % 256, number % 100 * 2 + host)
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": [endpoint(&address(1)), endpoint(&address(2))],
    })
}

fn endpoint(address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "bench-node"})
}
