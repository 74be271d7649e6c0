//! Many requests over several connections, each with one request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use client::{Client, Request};
use integration::Process;
use tokio::task::JoinSet;

use crate::table::Table;

pub struct Load {
    pub count: usize,
    pub elapsed: Duration,
    pub cpu: Duration,
    latencies: Vec<Duration>,
}

impl Load {
    pub fn new(elapsed: Duration, cpu: Duration, mut latencies: Vec<Duration>) -> Load {
        latencies.sort_unstable();
        Load { count: latencies.len(), elapsed, cpu, latencies }
    }

    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.latencies, percent)
    }

    pub fn cpu_each(&self) -> f64 {
        milliseconds(self.cpu) / self.count as f64
    }

    /// Throughput, latencies and CPU of one kind of request.
    pub fn record(&self, table: &mut Table, side: usize, what: &str, budget: Option<f64>) {
        table.record(side, format!("{what}, a second"), self.count as f64 / self.elapsed.as_secs_f64(), None);
        table.record(side, format!("{what}, latency p50 (ms)"), milliseconds(self.percentile(50)), None);
        table.record(side, format!("{what}, latency p99 (ms)"), milliseconds(self.percentile(99)), None);
        table.record(side, format!("{what}, CPU (ms)"), self.cpu_each(), budget);
    }
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The percentile of a sorted list.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

/// Sends `count` requests, made from their numbers, and measures what they cost `server`.
pub async fn measure(
    server: Process,
    clients: &[Client],
    count: usize,
    request: impl Fn(usize) -> client::Result<Request> + Send + Sync + 'static,
) -> Result<Load> {
    let (next, request) = (Arc::new(AtomicUsize::new(0)), Arc::new(request));
    let (before, started) = (server.cpu()?, Instant::now());
    let mut tasks = JoinSet::new();
    for client in clients {
        let (client, next, request) = (client.clone(), next.clone(), request.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(latencies);
                }
                let request = request(number)?;
                let started = Instant::now();
                client.bytes(request).await?;
                latencies.push(started.elapsed());
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done.context("a client's task")??);
    }
    let (elapsed, cpu) = (started.elapsed(), server.cpu()? - before);
    Ok(Load::new(elapsed, cpu, latencies))
}

/// The same without the measuring.
pub async fn send(
    clients: &[Client],
    count: usize,
    request: impl Fn(usize) -> client::Result<Request> + Send + Sync + 'static,
) -> Result<()> {
    measure(Process(std::process::id()), clients, count, request).await.map(drop)
}
