//! nftables rules of a thousand services: kube-proxy under test, our API server under both, in a network of their own.

use std::time::Duration;

use anyhow::{Result, ensure};
use client::Patch;
use integration::stack::until;
use integration::{Kind, Stack};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::load::{self, milliseconds};
use crate::{Bench, objects};

const CHANGES: usize = 15;
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(bench: &mut Bench) -> Result<()> {
    let devices = std::fs::read_to_string("/proc/self/net/dev")?;
    ensure!(
        devices.lines().skip(2).all(|line| line.trim().starts_with("lo:")),
        "the network is not the benches' own: use hack/bench"
    );
    bench.end_stacks().await?;
    let services = bench.scaled(1000);
    let stack = Stack::start(&bench.sides[0]).await?;
    let clients = stack.clients(8)?;
    let client = &clients[0];
    objects::namespace(client, "bench").await?;
    let address = json!([{"type": "InternalIP", "address": "127.0.0.1"}]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench-node"}, "status": {"addresses": address}});
    client.bytes(objects::post("/api/v1/nodes", &node)?).await?;
    load::send(&clients, services, |i| objects::post("/api/v1/namespaces/bench/services", &service(i)))
        .await?;
    load::send(&clients, services, |i| {
        objects::post("/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices", &slice(i))
    })
    .await?;
    for round in 0..bench.rounds {
        for (side, binaries) in bench.sides.clone().iter().enumerate() {
            let proxy = stack.daemon(binaries, Kind::Proxy).await?;
            until("all services are programmed", PATIENCE, async || Ok(programmed().await? >= services))
                .await?;
            let time = proxy.started.elapsed().as_secs_f64();
            bench.table.record(side, "kube-proxy, 1k services: exec to all rules (s)", time, None);
            let cpu = proxy.process.cpu()?;
            bench.table.record(
                side,
                "kube-proxy, 1k services: CPU of that, with nft (s)",
                cpu.as_secs_f64(),
                None,
            );
            // Upstream's gathers changes for a second, and looks through its rules after its start.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let before = proxy.process.cpu()?;
            for i in 0..CHANGES {
                let endpoints = json!({"endpoints": [endpoint(i, round + 100 + side), endpoint(i, 2)]});
                client
                    .patch::<EndpointSlice>(
                        Some("bench"),
                        &format!("service-{i}"),
                        None,
                        Patch::Merge(endpoints),
                    )
                    .await?;
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            let cpu = milliseconds(proxy.process.cpu()? - before) / CHANGES as f64;
            bench.table.record(side, "kube-proxy, 1k services: CPU of one endpoint's change (ms)", cpu, 3.0);
            bench.table.record(side, "kube-proxy, 1k services: RSS (MiB)", proxy.process.rss()?, None);
            proxy.stop().await?;
            for family in ["ip", "ip6"] {
                Command::new("nft").args(["delete", "table", family, "kube-proxy"]).status().await?;
            }
        }
    }
    stack.apiserver.stop().await
}

/// How many addresses of services have rules.
async fn programmed() -> Result<usize> {
    let output =
        Command::new("nft").args(["list", "map", "ip", "kube-proxy", "service-ips"]).output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).matches(" . tcp . 8080 ").count())
}

fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("service-{number}")},
        "spec": {"selector": {"app": format!("app-{number}")}, "ports": [{"name": "http", "port": 8080}]},
    })
}

fn slice(number: usize) -> Value {
    let service = format!("service-{number}");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [endpoint(number, 1), endpoint(number, 2)],
    })
}

fn endpoint(number: usize, host: usize) -> Value {
    let address = format!("10.244.{}.{}", number / 4, number % 4 * 50 + host % 50 + 1);
    json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "bench-node"})
}
