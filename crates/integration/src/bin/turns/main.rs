//! API servers of two folders take turns on one etcd, with custom resources, a webhook, a policy and quotas in use:
//!
//! - under load, the one is ended or killed and the other takes over: nothing that was acknowledged is lost, nothing that a
//!   quota refuses comes in, everything has passed the webhook;
//! - without load, the other takes over and nothing is written: each key of etcd has the revision that it had.
//!
//! Fails by the first difference. Run it by `hack/turns`.

mod fixture;
mod load;
mod stored;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use integration::{Binaries, Kind, Stack, Webhook};

use crate::load::Load;

#[derive(Parser)]
struct Options {
    #[arg(long)]
    ours: PathBuf,
    #[arg(long)]
    upstream: PathBuf,
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// How often each takes over from the other.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load with each server.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// How long a server that has just taken over gets to write what it would write by mistake.
const SETTLING: Duration = Duration::from_secs(8);

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let binaries = |folder: &PathBuf| Binaries { folder: folder.clone(), etcd: options.etcd.clone() };
    let sides = [("upstream", binaries(&options.upstream)), ("ours", binaries(&options.ours))];
    let mut stack = Stack::start(&sides[0].1).await?;
    let _controllers = stack.daemon(&sides[1].1, Kind::ControllerManager).await?;
    let hook = Webhook::start(stack.pki(), fixture::stamp)?;
    fixture::prepare(&stack.client()?, &hook).await?;
    let mut load = Load::new(&stack, 8)?;
    let load_time = Duration::from_secs(options.seconds);
    for round in 0..options.rounds {
        for (turn, (name, binaries)) in sides.iter().enumerate().map(|(at, _)| (at, &sides[1 - at])) {
            let kill = round % 2 == 1;
            let running = load.start();
            tokio::time::sleep(load_time).await;
            stack = stack.hand_over(binaries, kill).await?;
            tokio::time::sleep(load_time).await;
            load.stop(running).await?;
            let done = load.check(&stack.client()?).await?;
            let before = stored::settled(&stack.etcd()?).await?;
            stack = stack.hand_over(&sides[turn].1, kill).await?;
            tokio::time::sleep(SETTLING).await;
            let after = stored::settled(&stack.etcd()?).await?;
            let rewritten = stored::differences(&before, &after);
            if !rewritten.is_empty() {
                bail!("{} took over and rewrote: {rewritten:#?}", sides[turn].0);
            }
            load.check(&stack.client()?).await?;
            // And back, so that the next load begins with the one that took over.
            stack = stack.hand_over(binaries, false).await?;
            println!("round {round}: {name} took over{}: {done}", if kill { " from one killed" } else { "" });
        }
    }
    println!("ok: nothing lost, nothing rewritten");
    Ok(())
}
