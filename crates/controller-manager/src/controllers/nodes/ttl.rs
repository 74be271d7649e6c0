//! `ttl-controller`: says on each node how long its kubelet may use cached secrets and config maps: the longer, the more
//! nodes there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use client::{Client, Event, Informer, Key, Patch};
use controllers::views::Node;
use controllers::{Context, Error, Next, Reconcile};
use serde_json::json;

use crate::Options;

const TTL: &str = "node.alpha.kubernetes.io/ttl";

/// From how many nodes on, up to how many, and the seconds. The ranges overlap, so that a node more or less does not change
/// all others each time.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step that holds for this many nodes, when it was `step` before.
fn next(mut step: usize, nodes: usize) -> usize {
    while step > 0 && nodes < STEPS[step].0 {
        step -= 1;
    }
    while nodes > STEPS[step].1 {
        step += 1;
    }
    step
}

struct Controller {
    nodes: Informer<Node>,
    step: Arc<AtomicUsize>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "ttl-controller";
    let mut builder = context.builder("ttlcontroller", account, account).await?;
    let nodes = builder.reads::<Node>();
    let queue = builder.queue.clone();
    nodes.on_keyed_event(move |key, event| {
        let annotation = |node: &Node| node.metadata.annotation(TTL).map(str::to_owned);
        let changed = match event {
            Event::Added(_) => true,
            Event::Modified { old, new } => annotation(old) != annotation(new),
            Event::Deleted(_) => false,
        };
        if changed {
            queue.add(key.clone());
        }
    });
    let controller = Controller { nodes: nodes.clone(), step: Arc::default() };
    let (queue, known, step) = (builder.queue.clone(), nodes.clone(), controller.step.clone());
    nodes.on_event(move |event| {
        if matches!(event, Event::Modified { .. }) {
            return;
        }
        let before = step.load(Ordering::Relaxed);
        let now = next(before, known.len());
        if now != before {
            step.store(now, Ordering::Relaxed);
            known.list_keyed().into_iter().for_each(|(key, _)| queue.add(key));
        }
    });
    builder.run(5, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(Next::Done) };
        let seconds = STEPS[self.step.load(Ordering::Relaxed)].2;
        let current = node.metadata.annotation(TTL).and_then(|text| text.parse::<u32>().ok());
        if current == Some(seconds) {
            return Ok(Next::Done);
        }
        let patch = Patch::Strategic(json!({"metadata": {"annotations": {TTL: seconds.to_string()}}}));
        match client.patch::<Node>(None, &key.name, None, patch).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap() {
        assert_eq!([next(0, 1), next(0, 100), next(0, 101), next(0, 5000)], [0, 0, 1, 4]);
        assert_eq!([next(1, 95), next(1, 89), next(2, 460), next(4, 1700)], [1, 0, 2, 3]);
    }
}
