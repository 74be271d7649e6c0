//! What the daemons cost before they do anything: start, memory, and CPU while nothing happens.

use std::time::Duration;

use anyhow::{Result, ensure};
use client::Request;
use integration::{Binaries, Daemon, Kind, Stack};

use crate::Bench;

const DAEMONS: [Kind; 3] = [Kind::ControllerManager, Kind::Scheduler, Kind::Proxy];

pub async fn fresh(bench: &mut Bench) -> Result<()> {
    bench.end_stacks().await?;
    for round in 0..bench.rounds {
        for (side, binaries) in bench.sides.clone().iter().enumerate() {
            let stack = Stack::start(binaries).await?;
            bench.table.record(side, "exec to readyz, empty (s)", stack.ready.as_secs_f64(), 0.15);
            if round == 0 {
                stand(bench, side, &stack, binaries, "fresh", [25.0, 12.0, 8.0, 8.0]).await?;
            }
            stack.apiserver.stop().await?;
        }
    }
    Ok(())
}

pub async fn full(bench: &mut Bench) -> Result<()> {
    bench.filled().await?;
    for round in 0..bench.rounds {
        bench.restart_stacks().await?;
        for side in 0..bench.stacks.len() {
            still_there(bench, side).await?;
            let ready = bench.stacks[side].0.ready.as_secs_f64();
            bench.table.record(side, "exec to readyz, 10k pods and 1k nodes (s)", ready, 0.3);
        }
        if round + 1 == bench.rounds {
            let stacks = std::mem::take(&mut bench.stacks);
            for (side, (stack, _)) in stacks.iter().enumerate() {
                let binaries = bench.sides[side].clone();
                stand(bench, side, stack, &binaries, "10k pods, 1k nodes", [110.0, 50.0, 40.0, 15.0]).await?;
            }
            bench.stacks = stacks;
        }
    }
    Ok(())
}

/// What is measured here stands on the objects that were made before: a server that has lost them costs nothing.
async fn still_there(bench: &Bench, side: usize) -> Result<()> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        #[serde(default)]
        remaining_item_count: usize,
    }
    #[derive(serde::Deserialize)]
    struct List {
        metadata: Meta,
    }
    let client = bench.stacks[side].0.client()?;
    for (kind, made) in [("nodes", bench.scaled(1000)), ("pods", bench.scaled(10_000) + bench.scaled(1000))] {
        let answer = client.bytes(Request::get(format!("/api/v1/{kind}?limit=1"))).await?;
        let found = serde_json::from_slice::<List>(&answer)?.metadata.remaining_item_count + 1;
        ensure!(found == made, "{found} {kind} of {made} are there");
    }
    Ok(())
}

/// Memory and idle CPU of the API server and, beside it, the others.
async fn stand(
    bench: &mut Bench,
    side: usize,
    stack: &Stack,
    binaries: &Binaries,
    when: &str,
    memory: [f64; 4],
) -> Result<()> {
    let settle = Duration::from_secs(bench.scaled(10) as u64);
    let idle = Duration::from_secs(bench.scaled(30) as u64);
    tokio::time::sleep(settle).await;
    bench.table.record(
        side,
        format!("RSS {when}: kube-apiserver alone (MiB)"),
        stack.apiserver.process.rss()?,
        memory[0],
    );
    let mut daemons: Vec<Daemon> = Vec::new();
    for kind in DAEMONS {
        daemons.push(stack.daemon(binaries, kind).await?);
    }
    tokio::time::sleep(settle).await;
    let names = std::iter::once("kube-apiserver").chain(DAEMONS.map(Kind::name));
    let processes: Vec<_> = names
        .zip([stack.apiserver.process].into_iter().chain(daemons.iter().map(|daemon| daemon.process)))
        .collect();
    let mut before = Vec::new();
    for (_, process) in &processes {
        before.push(process.cpu()?);
    }
    tokio::time::sleep(idle).await;
    for (((name, process), before), budget) in processes.iter().zip(before).zip(memory) {
        // The budget of the API server holds for it alone.
        let budget = (*name != "kube-apiserver").then_some(budget);
        bench.table.record(side, format!("RSS {when}: {name} (MiB)"), process.rss()?, budget);
        let used = (process.cpu()? - before).as_secs_f64() / idle.as_secs_f64() * 100.0;
        bench.table.record(side, format!("idle CPU {when}: {name} (% of a core)"), used, None);
    }
    for daemon in daemons {
        daemon.stop().await?;
    }
    Ok(())
}
