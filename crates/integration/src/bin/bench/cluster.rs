//! A whole node, by `hack/cluster/up`: how long until it is Ready and until a pod runs, and what its daemons cost idle.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use client::{Client, Config, DeleteOptions, ListOptions, View, WatchEvent, WatchOptions};
use integration::{Binaries, Process};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::Bench;
use crate::load::milliseconds;

const DAEMONS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "corten-node-1-kubelet",
    "corten-node-1-kube-proxy",
];

#[derive(Deserialize)]
struct PodView {
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: String,
}

impl View for PodView {
    type Of = Pod;
}

pub async fn run(bench: &mut Bench) -> Result<()> {
    bench.end_stacks().await?;
    let folder = PathBuf::from(std::env::var("CORTEN_DIR").context("CORTEN_DIR, by hack/bench")?);
    let dns = bench.sides[0].folder.join("cluster-dns");
    for round in 0..bench.rounds {
        for (side, binaries) in bench.sides.clone().iter().enumerate() {
            let ready = up(binaries, &dns).await;
            let measured = match ready {
                Ok(ready) => {
                    bench.table.record(
                        side,
                        "cluster: start of the binaries to node Ready (s)",
                        ready.as_secs_f64(),
                        None,
                    );
                    standing(bench, side, round, &folder).await
                }
                Err(error) => Err(error),
            };
            command("down", binaries, &dns).stdout(Stdio::null()).status().await?;
            measured?;
        }
    }
    Ok(())
}

fn command(script: &str, binaries: &Binaries, dns: &Path) -> Command {
    let mut command = Command::new(format!("hack/cluster/{script}"));
    command
        .env("BIN", &binaries.folder)
        .env("ETCD", &binaries.etcd)
        .env("CLUSTER_DNS", dns)
        .env("SAMPLE", "");
    command
}

/// Brings the cluster up; the time from the first binary's start to the node's Ready.
async fn up(binaries: &Binaries, dns: &Path) -> Result<Duration> {
    let mut child = command("up", binaries, dns).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let (mut started, mut ready) = (Instant::now(), None);
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("certificates") {
            started = Instant::now();
        } else if line.starts_with("nodes are Ready") {
            ready = Some(started.elapsed());
        }
    }
    ensure!(child.wait().await?.success(), "hack/cluster/up has failed");
    ready.context("the node did not become Ready")
}

async fn standing(bench: &mut Bench, side: usize, round: usize, folder: &Path) -> Result<()> {
    let client = Client::new(Config::from_kubeconfig(folder.join("admin.conf"))?)?;
    client.get::<ServiceAccount>(Some("default"), "default").await?;
    for i in 0..bench.scaled(10) {
        let time = pod_runs(&client, &format!("pod-{i}")).await?;
        bench.table.record(side, "cluster: pod created to Running (ms)", milliseconds(time), None);
    }
    if round > 0 {
        return Ok(());
    }
    let idle = Duration::from_secs(bench.scaled(30) as u64);
    tokio::time::sleep(idle / 3).await;
    let mut before = Vec::new();
    for name in DAEMONS {
        let pid = std::fs::read_to_string(folder.join(format!("run/{name}.pid")))?;
        let process = Process(pid.trim().parse()?);
        before.push((name.trim_start_matches("corten-node-1-"), process, process.cpu()?));
    }
    tokio::time::sleep(idle).await;
    for (name, process, before) in before {
        let used = (process.cpu()? - before).as_secs_f64() / idle.as_secs_f64() * 100.0;
        bench.table.record(side, format!("cluster, idle CPU: {name} (% of a core)"), used, None);
        bench.table.record(side, format!("cluster, RSS: {name} (MiB)"), process.rss()?, None);
    }
    Ok(())
}

/// Creates a pod of the sample's image, waits until it runs, and deletes it.
async fn pod_runs(client: &Client, name: &str) -> Result<Duration> {
    let container =
        json!({"name": "main", "image": "docker.io/library/busybox:stable", "command": ["sleep", "3600"]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}});
    let listed = client
        .list::<PodView>(Some("default"), &ListOptions { limit: Some(1), ..Default::default() })
        .await?;
    let options = WatchOptions {
        field_selector: Some(format!("metadata.name={name}")),
        resource_version: Some(listed.resource_version),
        ..Default::default()
    };
    let mut watch = client.watch::<PodView>(Some("default"), &options).await?;
    let started = Instant::now();
    client.create::<Pod>(Some("default"), &pod).await?;
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), watch.next())
            .await
            .context("the pod does not run")??;
        match event.context("the watch ended")? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) if pod.status.phase == "Running" => break,
            _ => {}
        }
    }
    let time = started.elapsed();
    client.delete::<Pod>(Some("default"), name, &DeleteOptions::grace(0)).await?;
    Ok(time)
}
