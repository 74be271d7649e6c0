//! Single requests on pods of 2.8 KB and on leases, sixteen at a time.

use std::time::Instant;

use anyhow::Result;
use client::{Client, Request};
use http::Method;
use integration::Process;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::load::{Load, measure};
use crate::{Bench, objects};

const CONNECTIONS: usize = 16;

pub async fn run(bench: &mut Bench) -> Result<()> {
    let (count, rounds) = (bench.scaled(2000), bench.rounds);
    let mut results: Vec<(usize, &str, Option<f64>, Load)> = Vec::new();
    for (side, stack) in bench.stacks().await?.into_iter().enumerate() {
        // The first requests of a process are not like the others.
        let clients = stack.clients(CONNECTIONS)?;
        let path = objects::pods_path("bench");
        measure(stack.apiserver.process, &clients, count / 4, move |i| {
            objects::post(&path, &objects::pod(&format!("first-{side}-{i}"), i, None))
        })
        .await?;
        objects::delete_pods(&clients[0], "bench").await?;
    }
    for round in 0..rounds {
        for (side, stack) in bench.stacks().await?.into_iter().enumerate() {
            let clients = stack.clients(CONNECTIONS)?;
            let server = stack.apiserver.process;
            let path = objects::pods_path("bench");
            let item = move |i: usize| format!("{}/pod-{round}-{}", objects::pods_path("bench"), i % count);
            let pod = move |i: usize| objects::pod(&format!("pod-{round}-{i}"), i / 10, Some(0));

            let load = measure(server, &clients, count, move |i| objects::post(&path, &pod(i))).await?;
            results.push((side, "POST pod", Some(0.25), load));
            let load = measure(server, &clients, 4 * count, move |i| Ok(Request::get(item(i)))).await?;
            results.push((side, "GET pod", Some(0.05), load));
            let load = measure(server, &clients, count, move |i| {
                let mut pod = pod(i);
                pod["status"] = objects::status(1);
                Request::new(Method::PUT, item(i) + "/status").json(&pod)
            })
            .await?;
            results.push((side, "PUT pod status", Some(0.4), load));
            let load = measure(server, &clients, count, move |i| {
                let request = Request::new(Method::PATCH, item(i) + "/status")
                    .json(&json!({"status": objects::status(2)}))?;
                Ok(request.content_type("application/strategic-merge-patch+json"))
            })
            .await?;
            results.push((side, "PATCH pod status", Some(0.4), load));
            let load = measure(server, &clients, count, move |i| {
                let mut pod = pod(i);
                pod["metadata"]["labels"]["applied"] = "yes".into();
                let request =
                    Request::new(Method::PATCH, item(i) + "?fieldManager=bench&force=true").json(&pod)?;
                Ok(request.content_type("application/apply-patch+yaml"))
            })
            .await?;
            results.push((side, "apply of a pod", Some(0.8), load));
            let load = heartbeats(server, &clients, round, count).await?;
            results.push((side, "PUT lease", Some(0.15), load));
            objects::delete_pods(&clients[0], "bench").await?;
        }
    }
    for (side, what, budget, load) in results {
        load.record(&mut bench.table, side, what, budget);
    }
    Ok(())
}

/// Each client renews a lease of its own, as a kubelet does.
async fn heartbeats(server: Process, clients: &[Client], round: usize, count: usize) -> Result<Load> {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/bench/leases";
    let mut leases = Vec::new();
    for (i, client) in clients.iter().enumerate() {
        let name = format!("lease-{round}-{i}");
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}});
        leases.push(client.call::<Value>(objects::post(LEASES, &lease)?).await?);
    }
    let (before, started) = (server.cpu()?, Instant::now());
    let each = count / clients.len();
    let renewing = clients.iter().cloned().zip(leases).map(|(client, mut lease)| async move {
        let path = format!("{LEASES}/{}", lease["metadata"]["name"].as_str().unwrap_or_default());
        let mut latencies = Vec::new();
        for beat in 0..each {
            lease["spec"]["renewTime"] = format!("2026-01-02T03:04:05.{beat:06}Z").into();
            let request = Request::new(Method::PUT, path.clone()).json(&lease)?;
            let started = Instant::now();
            lease = client.call(request).await?;
            latencies.push(started.elapsed());
        }
        anyhow::Ok(latencies)
    });
    let done: Vec<_> = renewing.collect::<JoinSet<_>>().join_all().await;
    let (elapsed, cpu) = (started.elapsed(), server.cpu()? - before);
    let mut latencies = Vec::new();
    for of_one in done {
        latencies.extend(of_one?);
    }
    Ok(Load::new(elapsed, cpu, latencies))
}
