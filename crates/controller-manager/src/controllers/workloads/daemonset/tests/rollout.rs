//! What the plans of a whole rollout cost together. Pods come, start, go on their own clocks; each change brings the set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::WorkQueue;
use controllers::views::{DaemonSet, Node, Pod};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::fits::Fits;
use super::super::gather;
use super::super::places::places;
use super::super::plan::{Backoff, Input, plan};
use super::{fits, nodes, pod, set};

/// What becomes of the pod of a name; none when it goes.
type Change = (String, Option<Arc<Pod>>);

struct World {
    set: DaemonSet,
    fits: Arc<Fits>,
    revision: &'static str,
    pods: BTreeMap<String, Arc<Pod>>,
    /// By when they come, in the order of what made them.
    changes: BTreeMap<(Instant, usize), Change>,
    queue: WorkQueue<()>,
    backoff: Backoff,
    sequence: usize,
    reconciliations: usize,
    /// Nodes and pods that reconciliations walked.
    steps: usize,
}

impl World {
    fn new(size: usize) -> (World, Vec<Arc<Node>>) {
        let names: Vec<String> = (0..size).map(|number| format!("n{number}")).collect();
        let nodes = nodes(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let set = set(json!({"maxUnavailable": "40%"}));
        let world = World {
            fits: fits(&set, &nodes),
            set,
            revision: "old",
            pods: BTreeMap::new(),
            changes: BTreeMap::new(),
            queue: WorkQueue::default(),
            backoff: Backoff::default(),
            sequence: 0,
            reconciliations: 0,
            steps: 0,
        };
        (world, nodes)
    }

    /// In its own time, within a second after that.
    fn later(&mut self, name: &str, after: u64, pod: Option<Arc<Pod>>) {
        self.sequence += 1;
        let spread = u64::try_from(self.sequence * 7 % 1000).unwrap();
        let at = Instant::now() + Duration::from_millis(after + spread);
        self.changes.insert((at, self.sequence), (name.to_owned(), pod));
    }

    fn write(&mut self, name: String, pod: Option<Arc<Pod>>) {
        match pod {
            Some(pod) => drop(self.pods.insert(name, pod)),
            None => drop(self.pods.remove(&name)),
        }
        self.queue.add_after((), gather(self.fits.len(), self.pods.len()));
    }

    fn reconcile(&mut self) {
        let pods: Vec<Arc<Pod>> = self.pods.values().cloned().collect();
        let fits = self.fits.clone();
        let places = places(&fits, &pods);
        self.reconciliations += 1;
        self.steps += places.len() + pods.len();
        let set = self.set.clone();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let input = Input { set: &set, places: &places, revision: self.revision, now };
        let plan = plan(&input, &mut self.backoff);
        for node in plan.create {
            let starting = pod(&node, self.revision, "Pending", false);
            let name = starting.metadata.name.to_string();
            self.later(&name, 100, Some(starting.clone()));
            let mut running = (*pod(&node, self.revision, "Running", true)).clone();
            running.metadata.name = starting.metadata.name.clone();
            self.later(&name, 1200, Some(Arc::new(running)));
            self.write(name, Some(starting));
        }
        for pod in plan.delete {
            let mut going = (*pod).clone();
            going.metadata.deletion_timestamp = Some(now.into());
            let name = pod.metadata.name.to_string();
            self.later(&name, 500, None);
            self.write(name, Some(Arc::new(going)));
        }
    }

    /// Until nothing is left to do.
    async fn settle(&mut self) {
        loop {
            let next = self.changes.first_key_value().map(|((at, _), _)| *at);
            let end = Instant::now() + Duration::from_secs(60);
            tokio::select! {
                biased;
                () = sleep_until(next.unwrap_or(end)) => match self.changes.pop_first() {
                    Some((_, (name, pod))) => self.write(name, pod),
                    None => return,
                },
                item = self.queue.get() => {
                    let _item = item.unwrap();
                    self.reconcile();
                    // Writing the status.
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// Settles, and returns the reconciliations, and the steps in a second of it.
    async fn cost(&mut self) -> (usize, usize) {
        let (start, done, steps) = (Instant::now(), self.reconciliations, self.steps);
        self.queue.add(());
        self.settle().await;
        // It ends when nothing was left to do for a minute.
        let passed = usize::try_from(start.elapsed().as_millis()).unwrap() - 60_000;
        (self.reconciliations - done, (self.steps - steps) * 1000 / passed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_costs_a_share_of_its_time_at_any_size() {
    // Nodes and pods walked in a second, besides the first and the last time.
    const MOST: usize = 120_000;
    for size in [1000, 5000] {
        let (mut world, nodes) = World::new(size);
        let ready = |world: &World, revision: &str| {
            let hash = |pod: &Pod| pod.metadata.labels.get("controller-revision-hash") == Some(revision);
            world.pods.values().filter(|pod| hash(pod) && pod.is_ready()).count()
        };
        let (_, steps) = world.cost().await;
        assert_eq!(ready(&world, "old"), size);
        assert!(steps < MOST, "{size} made: {steps}");

        world.revision = "new";
        let (reconciliations, steps) = world.cost().await;
        assert_eq!((ready(&world, "new"), world.pods.len()), (size, size));
        assert!(steps < MOST, "{size} updated: {steps}");
        assert!(reconciliations < 500, "{size} updated: {reconciliations}");

        let joined = [nodes, super::nodes(&["joined"])].concat();
        world.fits = fits(&world.set, &joined);
        let (reconciliations, _) = world.cost().await;
        assert_eq!(ready(&world, "new"), size + 1);
        assert!(reconciliations <= 4, "one joined {size}: {reconciliations}");
    }
}
