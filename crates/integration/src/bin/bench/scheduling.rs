//! Pods bound to a thousand nodes: the scheduler under test, our API server under both.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use client::{Client, ListOptions, View, Watch, WatchEvent, WatchOptions};
use integration::{Kind, Stack};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use crate::{Bench, load, objects};

const PATIENCE: Duration = Duration::from_secs(120);

/// A pod of which nothing is read.
#[derive(Deserialize)]
struct PodView {}

impl View for PodView {
    type Of = Pod;
}

/// Counts the pods that come to match a selector, from now on.
pub struct Counter(Watch<PodView>);

impl Counter {
    pub async fn start(client: &Client, namespace: &str, fields: Option<&str>) -> Result<Counter> {
        let listed = client
            .list::<PodView>(Some(namespace), &ListOptions { limit: Some(1), ..Default::default() })
            .await?;
        let options = WatchOptions {
            field_selector: fields.map(str::to_owned),
            resource_version: Some(listed.resource_version),
            ..Default::default()
        };
        Ok(Counter(client.watch(Some(namespace), &options).await?))
    }

    /// Waits for so many pods; when the first and the last of them came.
    pub async fn wait(&mut self, count: usize) -> Result<(Instant, Instant)> {
        let mut first = None;
        let mut seen = 0;
        while seen < count {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            let event = next.with_context(|| format!("{seen} of {count} pods after {PATIENCE:?}"))??;
            if let WatchEvent::Added(_) = event.context("the watch ended")? {
                first.get_or_insert_with(Instant::now);
                seen += 1;
            }
        }
        let last = Instant::now();
        Ok((first.unwrap_or(last), last))
    }
}

pub async fn run(bench: &mut Bench) -> Result<()> {
    bench.end_stacks().await?;
    let (nodes, pods) = (bench.scaled(1000), bench.scaled(2000));
    let stack = Stack::start(&bench.sides[0]).await?;
    let clients = stack.clients(16)?;
    objects::namespace(&clients[0], "bench").await?;
    objects::nodes(&clients, nodes).await?;
    let path = objects::pods_path("bench");
    for round in 0..bench.rounds {
        for (side, binaries) in bench.sides.clone().iter().enumerate() {
            let create = |name: String| {
                let path = path.clone();
                load::send(&clients, pods, move |i| {
                    objects::post(&path, &objects::pod(&format!("{name}-{i}"), i / 10, None))
                })
            };
            // Pods that wait for the scheduler.
            create(format!("waiting-{round}-{side}")).await?;
            let mut bound = Counter::start(&clients[0], "bench", Some("spec.nodeName!=")).await?;
            let scheduler = stack.daemon(binaries, Kind::Scheduler).await?;
            let (first, last) = bound.wait(pods).await?;
            let rate = pods as f64 / (last - first).as_secs_f64();
            bench.table.record(side, "pods waiting, 1k nodes: bound a second", rate, None);
            // Pods that come while it runs.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (before, started) = (scheduler.process.cpu()?, Instant::now());
            let (created, bound) = tokio::join!(create(format!("coming-{round}-{side}")), bound.wait(pods));
            created?;
            let (_, last) = bound?;
            let cpu = load::milliseconds(scheduler.process.cpu()? - before) / pods as f64;
            let rate = pods as f64 / (last - started).as_secs_f64();
            bench.table.record(side, "pods coming, 1k nodes: created and bound a second", rate, None);
            bench.table.record(side, "scheduler, CPU of a pod (ms)", cpu, 0.25);
            bench.table.record(side, "scheduler, RSS after 4,000 pods (MiB)", scheduler.process.rss()?, None);
            scheduler.stop().await?;
            objects::delete_pods(&clients[0], "bench").await?;
        }
    }
    stack.apiserver.stop().await
}
