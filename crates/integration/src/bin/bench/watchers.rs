//! A thousand watchers of the same pods, each on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use client::{Client, Request};
use http::Method;
use http_body_util::BodyExt as _;
use integration::Stack;
use integration::stack::until;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::load::{self, milliseconds, percentile};
use crate::{Bench, objects};

const PODS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(bench: &mut Bench) -> Result<()> {
    let (watchers, calm, storm) = (bench.scaled(1000), bench.scaled(100), bench.scaled(300));
    let mut values: Vec<(usize, &str, f64, Option<f64>)> = Vec::new();
    for round in 0..bench.rounds {
        for (side, stack) in bench.stacks().await?.into_iter().enumerate() {
            let clients = stack.clients(4)?;
            let server = stack.apiserver.process;
            let path = objects::pods_path("bench");
            load::send(&clients, PODS, move |i| {
                objects::post(&path, &objects::pod(&format!("watched-{i}"), i, None))
            })
            .await?;

            let before = server.cpu()?;
            paced(&clients[0], calm, 3 * round).await?;
            let writes = server.cpu()? - before;

            let memory = server.rss()?;
            let mut watch = Watchers::start(stack, watchers).await?;
            values.push((
                side,
                "1,000 watchers: memory of each (KiB)",
                (server.rss()? - memory) * 1024.0 / watchers as f64,
                None,
            ));
            let before = server.cpu()?;
            let sent = paced(&clients[0], calm, 3 * round + 1).await?;
            watch.received(watchers * calm).await?;
            let events = (watchers * calm) as f64;
            let each = milliseconds((server.cpu()? - before).saturating_sub(writes)) * 1000.0 / events;
            values.push((side, "1,000 watchers: CPU of an event to one (µs)", each, Some(5.0)));

            // As fast as four writers can: nobody may be cut off.
            let started = Instant::now();
            load::send(&clients, storm, move |i| change(i % PODS, format!("storm-{round}-{}", i / PODS)))
                .await?;
            watch.received(watchers * (calm + storm)).await?;
            let rate = (watchers * storm) as f64 / started.elapsed().as_secs_f64();
            values.push((side, "1,000 watchers, full speed: events delivered a second", rate, None));
            let (times, cut) = watch.end().await?;
            values.push((side, "1,000 watchers, full speed: cut off", cut as f64, Some(0.0)));

            let mut delays: Vec<Duration> = Vec::new();
            for times in times {
                delays.extend(
                    times.iter().zip(&sent).map(|(received, sent)| received.saturating_duration_since(*sent)),
                );
            }
            delays.sort_unstable();
            values.push((
                side,
                "1,000 watchers: from request to event, p50 (ms)",
                milliseconds(percentile(&delays, 50)),
                None,
            ));
            values.push((
                side,
                "1,000 watchers: from request to event, p99 (ms)",
                milliseconds(percentile(&delays, 99)),
                None,
            ));
            objects::delete_pods(&clients[0], "bench").await?;
        }
    }
    for (side, measure, value, budget) in values {
        bench.table.record(side, measure, value, budget);
    }
    Ok(())
}

fn change(pod: usize, to: String) -> client::Result<Request> {
    let path = format!("{}/watched-{pod}", objects::pods_path("bench"));
    let request =
        Request::new(Method::PATCH, path).json(&json!({"metadata": {"annotations": {"change": to}}}))?;
    Ok(request.content_type("application/merge-patch+json"))
}

/// Changes pods, ten a second; when each request was sent.
async fn paced(client: &Client, count: usize, version: usize) -> Result<Vec<Instant>> {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut sent = Vec::new();
    for i in 0..count {
        ticks.tick().await;
        sent.push(Instant::now());
        client.bytes(change(i % PODS, format!("calm-{version}-{i}"))?).await?;
    }
    Ok(sent)
}

struct Watchers {
    /// When each event came, by watcher.
    tasks: JoinSet<Vec<Instant>>,
    count: Arc<AtomicUsize>,
    cut: Arc<AtomicUsize>,
    watching: usize,
    stop: CancellationToken,
}

impl Watchers {
    async fn start(stack: &Stack, watching: usize) -> Result<Watchers> {
        let client = stack.client()?;
        let list: Value =
            client.call(Request::get(format!("{}?limit=1", objects::pods_path("bench")))).await?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list without version")?;
        let path = format!(
            "{}?watch=true&timeoutSeconds=600&resourceVersion={version}",
            objects::pods_path("bench")
        );
        let (count, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for client in stack.clients(watching)? {
            let mut body = client.stream(Request::get(&path)).await?.into_body();
            let (count, cut, stop) = (count.clone(), cut.clone(), stop.clone());
            tasks.spawn(async move {
                let _connection = client;
                let mut times = Vec::new();
                while let Some(Some(Ok(frame))) = stop.run_until_cancelled(body.frame()).await {
                    let lines = frame.data_ref().map_or(0, |data| memchr::memchr_iter(b'\n', data).count());
                    times.extend(std::iter::repeat_n(Instant::now(), lines));
                    count.fetch_add(lines, Ordering::Relaxed);
                }
                cut.fetch_add(1, Ordering::Relaxed);
                times
            });
        }
        Ok(Watchers { tasks, count, cut, watching, stop })
    }

    /// Waits until so many events have come, or as many as those can get that were not cut off.
    async fn received(&mut self, events: usize) -> Result<()> {
        let each = events / self.watching;
        until("all events have been delivered", PATIENCE, async || {
            let left = self.watching - self.cut.load(Ordering::Relaxed);
            Ok(self.count.load(Ordering::Relaxed) >= left * each)
        })
        .await?;
        Ok(())
    }

    /// The times of all events, and how many watchers had been cut off.
    async fn end(self) -> Result<(Vec<Vec<Instant>>, usize)> {
        let cut = self.cut.load(Ordering::Relaxed);
        self.stop.cancel();
        Ok((self.tasks.join_all().await, cut))
    }
}
