//! Single requests on pods of 2.8 KB and on leases, sixteen at a time.

use anyhow::Result;
use client::Request;
use http::Method;
use serde_json::json;

use crate::load::{Load, measure, send};
use crate::{Bench, objects};

const CONNECTIONS: usize = 16;
const LEASES: usize = 100;

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
            let leases = "/apis/coordination.k8s.io/v1/namespaces/bench/leases";
            let lease = move |i: usize, second: usize| {
                let name = format!("lease-{round}-{i}");
                json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": 40,
                        "renewTime": format!("2026-01-02T03:04:{second:02}.000000Z")}})
            };
            send(&clients, LEASES, move |i| objects::post(leases, &lease(i, 0))).await?;
            let load = measure(server, &clients, count, move |i| {
                let (number, second) = (i % LEASES, 1 + i / LEASES % 59);
                let path = format!("{leases}/lease-{round}-{number}");
                Request::new(Method::PUT, path).json(&lease(number, second))
            })
            .await?;
            results.push((side, "PUT lease", Some(0.15), load));
            objects::delete_pods(&clients[0], "bench").await?;
        }
    }
    for (side, what, budget, load) in results {
        load.record(&mut bench.table, side, what, budget);
    }
    Ok(())
}
