//! `disruption-controller`: how many pods of each disruption budget may be evicted now. Evictions are granted by the API
//! server, by the status that is written here.

mod plan;
mod scale;
mod stale;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, Event, EventRecorder, EventType, Informer, Key};
use controllers::views::{
    Deployment, Object, Pod, PodDisruptionBudget, ReplicaSet, ReplicationController, StatefulSet,
};
use controllers::{Context, Error, Next, Pods, Reconcile, selector, write_status};

use crate::Options;
use plan::Expected;
use scale::Scales;

struct Controller {
    events: EventRecorder,
    budgets: Informer<PodDisruptionBudget>,
    pods: Pods,
    scales: Scales,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let (account, component) = ("disruption-controller", "controllermanager");
    let mut builder = context.builder("disruption", account, component).await?;
    let controller = Controller {
        events: builder.events.clone(),
        budgets: builder.reconciles(),
        pods: builder.pods(),
        scales: Scales {
            kinds: context.kinds.clone(),
            deployments: builder.reads::<Deployment>(),
            sets: builder.reads::<ReplicaSet>(),
            controllers: builder.reads::<ReplicationController>(),
            stateful: builder.reads::<StatefulSet>(),
        },
    };
    let (queue, budgets) = (builder.queue.clone(), builder.adopters::<PodDisruptionBudget>());
    let events = controller.events.clone();
    controller.pods.cache().on_event(move |event| {
        let relabelled = |old: &Pod| old.metadata.labels != event.object().metadata.labels;
        let before = event.old().filter(|old| relabelled(old));
        for pod in [Some(event.object()), before].into_iter().flatten() {
            let found = budgets.matching(&pod.metadata);
            if let ([_, _, ..], Event::Added(_)) = (found.as_slice(), event) {
                let message = format!(
                    "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {:?} arbitrarily.",
                    pod.metadata.namespace, pod.metadata.name, found[0].metadata.name
                );
                events.event(&pod.reference(), EventType::Warning, "MultiplePodDisruptionBudgets", &message);
            }
            found.iter().for_each(|budget| queue.add(budget.metadata.cache_key()));
        }
    });
    let stale = stale::run(&context, account);
    tokio::try_join!(builder.run(options.concurrent_disruption_syncs, controller), stale)?;
    Ok(())
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(budget) = self.budgets.get_key(key) else { return Ok(Next::Done) };
        let pods = self.selected(&budget);
        if pods.is_empty() {
            self.event(&budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let now = jiff::Timestamp::now();
        let expected = match self.expected(client, &budget, &pods).await {
            Ok(expected) => expected,
            Err(error) => {
                let message = format!("Failed to calculate the number of expected pods: {error}");
                self.event(&budget, EventType::Warning, "CalculateExpectedPodCountFailed", &message);
                // Nothing may go while it is not known what has to stay.
                let status = plan::failed(&budget, &error.to_string(), now);
                write_status(client, &*budget, &budget.status, &status).await?;
                return Err(error);
            }
        };
        let plan = plan::plan(&budget, &pods, expected, now);
        for pod in &plan.overdue {
            let message =
                format!("Pod was expected by PDB {}/{} to be deleted but it wasn't", key.namespace, key.name);
            self.events.event(&pod.reference(), EventType::Warning, "NotDeleted", &message);
        }
        write_status(client, &*budget, &budget.status, &plan.status).await?;
        Ok(Next::after(plan.again))
    }
}

impl Controller {
    fn selected(&self, budget: &PodDisruptionBudget) -> Vec<Arc<Pod>> {
        let (namespace, selector) = (&budget.metadata.namespace, &budget.spec.selector);
        let mut pods = match selector.pair() {
            Some((key, value)) => self.pods.labelled(namespace, key, value),
            None => self.pods.cache.list_in(namespace),
        };
        pods.retain(|pod| selector.matches(&pod.metadata.labels));
        pods
    }

    /// How many pods there should be, and how many of them have to be healthy.
    async fn expected(
        &self,
        client: &Client,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
    ) -> Result<Expected, Error> {
        if !plan::needs_scale(budget) {
            return Ok(plan::expected(budget, i32::try_from(pods.len()).unwrap_or(i32::MAX)));
        }
        let (scale, unmanaged) = self.scales.of(client, pods).await?;
        if unmanaged {
            let selector = selector::printed(budget.spec.selector.source());
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.event(budget, EventType::Warning, "UnmanagedPods", &message);
        }
        Ok(plan::expected(budget, scale))
    }

    fn event(&self, budget: &PodDisruptionBudget, kind: EventType, reason: &str, message: &str) {
        self.events.event(&budget.reference(), kind, reason, message);
    }
}
