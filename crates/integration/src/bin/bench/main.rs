//! What the daemons cost: the same work on ours and, where their folder is given, on upstream's binaries, in turns within one
//! run. Figures to report; nothing here passes or fails. Run it by `hack/bench`, which gives it a network of its own.
//!
//! CPU is the daemon's own (user and system, children included); the client and etcd are not counted, but on a small
//! machine they set the ceiling of what is done per second.

mod cluster;
mod controllers;
mod extending;
mod lists;
mod load;
mod objects;
mod proxy;
mod requests;
mod scheduling;
mod standing;
mod table;
mod watchers;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use integration::{Binaries, Stack};

use crate::table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
pub struct Options {
    /// The folder of our binaries.
    #[arg(long, default_value = "target/release")]
    ours: PathBuf,
    /// The folder of upstream's.
    #[arg(long)]
    upstream: Option<PathBuf>,
    /// Upstream's API server wants etcd 3.4.31, 3.5.13 or later.
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// The part of the work that is done: 0.01 is a smoke run.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// How often each measure is taken; the table has the median.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// All of them where none is named.
    measures: Vec<Measure>,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq, Debug)]
enum Measure {
    /// Start, memory and idle CPU of the daemons of an empty cluster.
    Fresh,
    /// POST, GET, PUT and PATCH of pods, server-side apply, heartbeats.
    Requests,
    /// Custom resources; pods created under a policy and a webhook.
    Extending,
    /// A thousand watchers.
    Watch,
    /// LIST of one and ten thousand pods.
    List,
    /// Start, memory and idle CPU with ten thousand pods and a thousand nodes.
    Full,
    /// Pods bound to a thousand nodes.
    Schedule,
    /// A Deployment of a thousand pods, the end of a namespace.
    Controllers,
    /// Rules of one and ten thousand Services.
    Proxy,
    /// A whole node: Ready, pods Running, idle.
    Cluster,
}

/// What the measures share.
pub struct Bench {
    /// Ours, and upstream's where given.
    pub sides: Vec<Binaries>,
    pub table: Table,
    pub rounds: usize,
    scale: f64,
    /// A running API server of each side, and whether it has been filled with nodes and pods.
    stacks: Vec<(Stack, bool)>,
}

impl Bench {
    /// The count multiplied by the scale of this run.
    pub fn scaled(&self, count: usize) -> usize {
        ((count as f64 * self.scale) as usize).max(1)
    }

    /// An API server of each side, started where they do not run.
    pub async fn stacks(&mut self) -> Result<Vec<&Stack>> {
        if self.stacks.is_empty() {
            for binaries in &self.sides {
                let stack = Stack::start(binaries).await?;
                objects::namespace(&stack.client()?, "bench").await?;
                self.stacks.push((stack, false));
            }
        }
        Ok(self.stacks.iter().map(|(stack, _)| stack).collect())
    }

    /// The same, with ten thousand pods in `bench`, a thousand in `small`, and the nodes they are on.
    pub async fn filled(&mut self) -> Result<Vec<&Stack>> {
        let (nodes, pods, small) = (self.scaled(1000), self.scaled(10_000), self.scaled(1000));
        self.stacks().await?;
        for (stack, filled) in self.stacks.iter_mut().filter(|(_, filled)| !filled) {
            let clients = stack.clients(16)?;
            objects::namespace(&clients[0], "small").await?;
            objects::nodes(&clients, nodes).await?;
            objects::placed_pods(&clients, "bench", pods, nodes).await?;
            objects::placed_pods(&clients, "small", small, nodes).await?;
            *filled = true;
        }
        self.stacks().await
    }

    /// Ends the API servers, so that what follows has the machine for itself.
    pub async fn end_stacks(&mut self) -> Result<()> {
        for (stack, _) in self.stacks.drain(..) {
            stack.apiserver.stop().await?;
        }
        Ok(())
    }

    /// Replaces the API servers by new processes over the same etcds.
    pub async fn restart_stacks(&mut self) -> Result<()> {
        for (stack, filled) in std::mem::take(&mut self.stacks) {
            self.stacks.push((stack.restart().await?, filled));
        }
        Ok(())
    }
}

async fn run(options: Options) -> Result<()> {
    let binaries = |folder: PathBuf| Binaries { folder, etcd: options.etcd.clone() };
    let sides: Vec<Binaries> =
        [Some(options.ours), options.upstream].into_iter().flatten().map(binaries).collect();
    let table = Table::new(sides.len() > 1);
    let mut bench = Bench { sides, table, rounds: options.rounds, scale: options.scale, stacks: Vec::new() };
    let measures = match options.measures.is_empty() {
        true => Measure::value_variants().to_vec(),
        false => options.measures,
    };
    for measure in measures {
        eprintln!("{measure:?} …");
        let bench = &mut bench;
        let done = match measure {
            Measure::Fresh => standing::fresh(bench).await,
            Measure::Requests => requests::run(bench).await,
            Measure::Extending => extending::run(bench).await,
            Measure::Watch => watchers::run(bench).await,
            Measure::List => lists::run(bench).await,
            Measure::Full => standing::full(bench).await,
            Measure::Schedule => scheduling::run(bench).await,
            Measure::Controllers => controllers::run(bench).await,
            Measure::Proxy => proxy::run(bench).await,
            Measure::Cluster => cluster::run(bench).await,
        };
        // A measure that cannot be taken says why, and the others go on.
        if let Err(error) = done.with_context(|| format!("{measure:?}")) {
            eprintln!("{error:#}");
            bench.table.note(format!("{error:#}").lines().next().unwrap_or_default());
        }
        eprint!("{}", bench.table.since_last());
    }
    bench.end_stacks().await?;
    print!("{}", bench.table);
    Ok(())
}

fn main() -> Result<()> {
    daemon::install_crypto();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .init();
    daemon::limits::raise_open_files();
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = daemon::shutdown::signals()?;
        tokio::select! {
            done = run(options) => done,
            () = shutdown.cancelled() => Ok(()), // what has been started is killed as it is dropped
        }
    })
}
