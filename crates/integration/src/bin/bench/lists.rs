//! Lists of all and of few of many pods.

use anyhow::Result;
use client::Request;

use crate::Bench;
use crate::load::{measure, milliseconds};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

struct List {
    name: &'static str,
    path: &'static str,
    accept: &'static str,
    /// How often in a round.
    times: usize,
    budget: Option<f64>,
}

/// A selector asks for the pods of another label or node each time: `{}` is the number of the request.
const LISTS: [List; 6] = [
    List {
        name: "LIST 1,000 pods, JSON",
        path: "/api/v1/namespaces/small/pods",
        accept: JSON,
        times: 40,
        budget: None,
    },
    List {
        name: "LIST 1,000 pods, protobuf",
        path: "/api/v1/namespaces/small/pods",
        accept: PROTOBUF,
        times: 40,
        budget: None,
    },
    List {
        name: "LIST 10,000 pods, JSON",
        path: "/api/v1/namespaces/bench/pods",
        accept: JSON,
        times: 10,
        budget: Some(65.0),
    },
    List {
        name: "LIST 10,000 pods, protobuf",
        path: "/api/v1/namespaces/bench/pods",
        accept: PROTOBUF,
        times: 10,
        budget: Some(45.0),
    },
    List {
        name: "LIST 10 of 10,000 by label",
        path: "/api/v1/namespaces/bench/pods?labelSelector=app%3Dapp-{}",
        accept: JSON,
        times: 200,
        budget: Some(0.5),
    },
    List {
        name: "LIST 10 of 10,000 by spec.nodeName",
        path: "/api/v1/namespaces/bench/pods?fieldSelector=spec.nodeName%3Dnode-{}",
        accept: JSON,
        times: 500,
        budget: Some(0.08),
    },
];

pub async fn run(bench: &mut Bench) -> Result<()> {
    let (rounds, nodes) = (bench.rounds, bench.scaled(1000));
    bench.filled().await?;
    let mut values: Vec<(usize, String, f64, Option<f64>)> = Vec::new();
    for _ in 0..rounds {
        for list in &LISTS {
            let times = bench.scaled(list.times);
            for (side, stack) in bench.filled().await?.into_iter().enumerate() {
                let (client, server) = (stack.client()?, stack.apiserver.process);
                let request = move |i: usize| {
                    Request::get(list.path.replace("{}", &(i % nodes).to_string())).accept(list.accept)
                };
                let size = client.bytes(request(0)).await?.len();
                let before = server.rss()?;
                server.reset_peak()?;
                let load =
                    measure(server, std::slice::from_ref(&client), times, move |i| Ok(request(i))).await?;
                let growth = server.peak()? - before;
                let mut value = |what: &str, value, budget| {
                    values.push((side, format!("{}, {what}", list.name), value, budget))
                };
                value("latency p50 (ms)", milliseconds(load.percentile(50)), None);
                value("CPU (ms)", load.cpu_each(), list.budget);
                if list.name.contains(",000 pods") {
                    value("size (MB)", size as f64 / 1e6, None);
                    value("memory at its peak (MiB more)", growth, Some(8.0));
                }
            }
        }
    }
    for (side, measure, value, budget) in values {
        bench.table.record(side, measure, value, budget);
    }
    Ok(())
}
