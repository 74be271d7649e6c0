//! Controllers on generated histories: changes come late, twice, or not at all; watches end, and find their history gone; the
//! daemon dies with any of its writes and another one takes over. While the desired state stays as it is, the cluster
//! comes to it, and on the way no write breaks a promise ([`worlds::World::guard`]).
//!
//! Time is paused: it passes only when everything that runs waits for it. `SEED`, `SEEDS`, `DEPTH` and `WORLD` narrow or widen what is
//! run; the tests that are ignored run for minutes.

use std::sync::Arc;
use std::time::Duration;

use controller_manager::Options;
use controller_manager::registry::CONTROLLERS;
use controllers::testing::faults::Faults;
use controllers::testing::{Cluster, Process};
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::nodes;
use crate::worlds::{WORLDS, World};

/// The daemon: its controllers, each with caches of its own, as if in a process of its own.
struct Daemon {
    processes: Vec<Process>,
    _running: JoinSet<()>,
    _end: DropGuard,
}

impl Daemon {
    async fn start(cluster: &Cluster, world: &World) -> Daemon {
        let (end, mut running, mut processes) = (CancellationToken::new(), JoinSet::new(), Vec::new());
        for name in world.controllers {
            let process = cluster.process().await.unwrap();
            let context = process.context(end.clone()).unwrap();
            let entry = CONTROLLERS.iter().find(|entry| entry.name == *name).unwrap();
            let running_one: BoxFuture<'static, Result<(), controllers::Error>> =
                (entry.run)(context, Arc::new(Options::default()));
            running.spawn(async move { drop(running_one.await) });
            processes.push(process);
        }
        Daemon { processes, _running: running, _end: end.drop_guard() }
    }

    fn is_dead(&self) -> bool {
        self.processes.iter().any(|process| process.faults.is_dead())
    }

    fn written(&self) -> usize {
        self.processes.iter().map(|process| process.faults.written()).sum()
    }
}

async fn begin(world: &World) -> Cluster {
    let cluster = Cluster::start().await.unwrap();
    cluster.delete_gracefully();
    cluster.guard(Box::new(world.guard));
    (world.begin)(&cluster);
    cluster
}

fn check(cluster: &Cluster, what: &str) {
    let wrong = cluster.wrong();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

/// Lets everything go on until the desired state is there, and sees that nothing is written then.
async fn settle(cluster: &Cluster, world: &World, what: &str) {
    for _ in 0..600 {
        if (world.is_reached)(cluster) {
            break;
        }
        nodes::work(cluster);
        sleep(Duration::from_secs(1)).await;
    }
    check(cluster, what);
    assert!(
        (world.is_reached)(cluster),
        "{what}: it never comes to {}: {}",
        world.name,
        nodes::summary(cluster)
    );
    sleep(Duration::from_secs(60)).await;
    let before = cluster.version();
    sleep(Duration::from_secs(60)).await;
    check(cluster, what);
    assert!((world.is_reached)(cluster), "{what}: it does not stay: {}", nodes::summary(cluster));
    assert_eq!(before, cluster.version(), "{what}: something is written for ever");
}

/// Lets time pass. Connections are the system's, and what is on its way there does not stop the clock: it gets a moment of
/// real time, too.
async fn sleep(time: Duration) {
    for _ in 0..2 {
        tokio::time::sleep(time / 2).await;
        std::thread::sleep(Duration::from_micros(100));
    }
}

async fn pass(rng: &mut StdRng) {
    let wait = *[0, 1, 5, 50, 1000, 20_000].choose(rng).unwrap();
    sleep(Duration::from_millis(wait)).await;
}

async fn history(world: &World, seed: u64, steps: usize) {
    let what = format!("{} with seed {seed}", world.name);
    let mut rng = StdRng::seed_from_u64(seed);
    let cluster = begin(world).await;
    let mut daemon = Daemon::start(&cluster, world).await;
    let mut changes = world.changes.iter();
    for _ in 0..steps {
        let process = daemon.processes.choose(&mut rng).unwrap().clone();
        let plural = *world.plurals.choose(&mut rng).unwrap();
        match rng.random_range(0..13) {
            0 | 1 => process.faults.delay(plural, cluster.version()),
            2 => {
                let from = cluster.version().saturating_sub(rng.random_range(1..20));
                let versions = cluster.versions_after(plural, from);
                if let Some(to) = versions.into_iter().choose(&mut rng) {
                    process.faults.delay(plural, to);
                }
            }
            3 | 4 => process.faults.resume(plural),
            5 => process.faults.cut(plural, rng.random()),
            6 => process.faults.repeat(plural, rng.random()),
            7 => process.faults.die_after(rng.random_range(1..6)),
            8 => changes.next().into_iter().for_each(|change| change(&cluster)),
            _ => nodes::work_one(&cluster, &mut rng),
        }
        pass(&mut rng).await;
        if daemon.is_dead() {
            drop(daemon);
            daemon = Daemon::start(&cluster, world).await;
        }
        check(&cluster, &what);
    }
    changes.for_each(|change| change(&cluster));
    if daemon.is_dead() || rng.random() {
        drop(daemon);
        daemon = Daemon::start(&cluster, world).await;
    }
    daemon.processes.iter().for_each(|process| process.faults.end());
    settle(&cluster, world, &what).await;
}

/// Another daemon takes over after each write, whichever it is.
async fn deaths(world: &World) {
    for number in 1.. {
        let what = format!("{} with a death at write {number}", world.name);
        let cluster = begin(world).await;
        let daemon = Daemon::start(&cluster, world).await;
        daemon.processes.iter().for_each(|process| process.faults.die_after(number));
        let mut changes = world.changes.iter();
        for second in 1..60 {
            nodes::work(&cluster);
            sleep(Duration::from_secs(1)).await;
            if daemon.is_dead() {
                break;
            }
            if second % 15 == 0 {
                changes.next().into_iter().for_each(|change| change(&cluster));
            }
        }
        let is_last = !daemon.is_dead();
        changes.for_each(|change| change(&cluster));
        drop(daemon);
        let daemon = Daemon::start(&cluster, world).await;
        settle(&cluster, world, &what).await;
        if is_last {
            assert!(number > 3, "{}: {} writes", world.name, daemon.written());
            return;
        }
    }
}

/// What may happen next, in a world that is explored.
#[derive(Clone, Copy, Debug)]
enum Step {
    Delay(&'static str),
    Resume,
    /// Watches find that their history is gone.
    Cut,
    /// The daemon dies with its next write.
    Die,
    Work,
    Change,
}

fn steps(world: &World) -> Vec<Step> {
    let mut steps: Vec<Step> = world.plurals.iter().take(3).map(|plural| Step::Delay(plural)).collect();
    steps.extend([Step::Resume, Step::Cut, Step::Die, Step::Work]);
    steps.extend(world.changes.first().map(|_| Step::Change));
    steps
}

/// Every history of so many steps.
fn explore(world: &World, depth: u32) {
    let alphabet = steps(world);
    for number in 0..alphabet.len().pow(depth) {
        let nth = |place: u32| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
        run(follow(world, (0..depth).map(nth).collect()));
    }
}

async fn follow(world: &World, steps: Vec<Step>) {
    let what = format!("{} after {steps:?}", world.name);
    let cluster = begin(world).await;
    let mut daemon = Daemon::start(&cluster, world).await;
    let mut changes = world.changes.iter();
    for step in steps {
        let faults = || daemon.processes.iter().map(|process| &process.faults);
        let all = |act: &dyn Fn(&Faults, &str)| {
            faults().for_each(|faults| world.plurals.iter().for_each(|plural| act(faults, plural)));
        };
        match step {
            Step::Delay(plural) => faults().for_each(|faults| faults.delay(plural, cluster.version())),
            Step::Resume => all(&|faults, plural| faults.resume(plural)),
            Step::Cut => all(&|faults, plural| faults.cut(plural, true)),
            Step::Die => faults().for_each(|faults| faults.die_after(1)),
            Step::Work => nodes::work(&cluster),
            Step::Change => changes.next().into_iter().for_each(|change| change(&cluster)),
        }
        sleep(Duration::from_secs(2)).await;
        if daemon.is_dead() {
            drop(daemon);
            daemon = Daemon::start(&cluster, world).await;
        }
        check(&cluster, &what);
    }
    changes.for_each(|change| change(&cluster));
    if daemon.is_dead() {
        drop(daemon);
        daemon = Daemon::start(&cluster, world).await;
    }
    daemon.processes.iter().for_each(|process| process.faults.end());
    settle(&cluster, world, &what).await;
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(test);
}

fn seeds(of: &str) -> Option<u64> {
    std::env::var(of).ok().and_then(|value| value.parse().ok())
}

#[test]
fn controllers_reach_the_desired_state_whatever_they_see_of_it() {
    let first = seeds("SEED").unwrap_or(1);
    let count = seeds("SEEDS").unwrap_or(4);
    let only = std::env::var("WORLD").unwrap_or_default();
    for world in WORLDS.iter().filter(|world| world.name.contains(&only)) {
        for seed in first..first + count {
            run(history(world, seed, 60));
        }
    }
}

#[test]
fn another_daemon_takes_over_after_any_write() {
    let only = std::env::var("WORLD").unwrap_or_default();
    for world in WORLDS.iter().filter(|world| world.name.contains(&only)) {
        run(deaths(world));
    }
}

#[test]
fn every_short_history_ends_in_the_desired_state() {
    // Two of the worlds; the longer variant has all.
    for world in WORLDS.iter().filter(|world| ["replica set", "indexed job"].contains(&world.name)) {
        explore(world, 2);
    }
}

#[test]
#[ignore = "takes minutes"]
fn every_longer_history_ends_in_the_desired_state() {
    let only = std::env::var("WORLD").unwrap_or_default();
    for world in WORLDS.iter().filter(|world| world.name.contains(&only)) {
        explore(world, u32::try_from(seeds("DEPTH").unwrap_or(4)).unwrap());
    }
}

#[test]
#[ignore = "takes minutes"]
fn many_histories() {
    for world in WORLDS {
        for seed in 1000..1000 + seeds("SEEDS").unwrap_or(300) {
            run(history(world, seed, 150));
        }
    }
}

/// The name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}
