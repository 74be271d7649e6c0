//! `job-controller`: runs pods to their end, and counts each of them exactly once.
//!
//! A pod that ended keeps a finalizer until it is counted: its uid is first written into the job's status as
//! uncounted, then the finalizer goes, and when the cache shows the pod without it the uid turns into a number. A
//! crash at any point leaves one of these states, from which the next reconciliation goes on.

mod account;
mod decide;
mod indexes;
mod plan;
mod policy;
mod size;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, EventRecorder, Informer, Key, Patch, RateLimit, Text};
use controllers::many::try_all;
use controllers::pods::{self, PodControl, Pods};
use controllers::slow_start::slow_start;
use controllers::views::annotation::{INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES};
use controllers::views::{Job, Meta, Object, Pod};
use controllers::{Adopters, Context, Error, Next, Reconcile, claim, write_status};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{Options, metrics};
use plan::{Create, Memories, Plan};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const JOB_UID: &str = "batch.kubernetes.io/controller-uid";
/// Pods of a job that end together are counted together: what follows should not hang on their order.
const GATHER: Duration = Duration::from_millis(200);
/// How long a job waits whose reconciliation failed.
const BACKOFF: RateLimit = RateLimit { base: Duration::from_secs(1), max: Duration::from_secs(60) };
/// The longest prefix that generated names keep.
const GENERATED_PREFIX: usize = 58;
/// The job controller proper; another value of `spec.managedBy` is somebody else's job.
const MANAGER: &str = "kubernetes.io/job-controller";

struct Controller {
    events: EventRecorder,
    control: PodControl,
    jobs: Informer<Job>,
    pods: Pods,
    memories: Mutex<Memories>,
}

/// Frees pods that were left behind, unless a job takes them.
struct Strays {
    pods: Pods,
    jobs: Adopters<Job>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "job-controller";
    let mut builder = context.builder_with("job", BACKOFF, account, account).await?;
    let mut strays = context.builder_with("job_orphan_pod", BACKOFF, account, account).await?;
    let jobs = builder.reconciles::<Job>();
    builder.owns_after::<Pod, Job>(|event| match event {
        Event::Modified { old, new } if new.is_terminal() && !old.is_terminal() => GATHER,
        _ => Duration::ZERO,
    });
    let pods = builder.pods();
    let (queue, stray, known) = (builder.queue.clone(), strays.queue.clone(), jobs.clone());
    pods.cache().on_event(move |event| {
        // Pods whose job is gone, or that were taken from it, have a finalizer that nobody else takes away.
        let pod = event.object();
        if matches!(event, Event::Deleted(_)) || !is_tracked(&pod.metadata) {
            return;
        }
        if is_stray(pod) {
            stray.add(pod.metadata.cache_key());
        }
        let name = match pod.metadata.controller() {
            Some(owner) => (owner.kind == Job::KIND).then_some(owner.name.as_str()),
            None => pod.metadata.labels.get(JOB_NAME),
        };
        if let Some(name) = name {
            let key = Key { namespace: pod.metadata.namespace.clone().into(), name: Text::from(name).into() };
            if known.get_key(&key).is_none_or(|job| !owns(&job, pod)) {
                queue.add(key);
            }
        }
    });
    let freeing = Strays { pods: strays.pods(), jobs: strays.adopters() };
    let controller = Controller {
        events: builder.events.clone(),
        control: PodControl { events: builder.events.clone() },
        jobs,
        pods,
        memories: Mutex::default(),
    };
    let work = builder.run(options.concurrent_job_syncs, controller);
    tokio::try_join!(work, strays.run(1, freeing))?;
    Ok(())
}

/// Whether a pod is the job's, or may be adopted by it.
fn owns(job: &Job, pod: &Pod) -> bool {
    match pod.metadata.controller() {
        Some(owner) => owner.uid == job.metadata.uid,
        None => {
            !job.metadata.is_deleting() && pod.metadata.labels.get(JOB_UID) == Some(job.metadata.uid.as_str())
        }
    }
}

fn is_tracked(meta: &Meta) -> bool {
    meta.has_finalizer(FINALIZER)
}

/// Whether nothing names the job of a tracked pod: a job with a selector of its own leaves no name on its pods.
fn is_stray(pod: &Pod) -> bool {
    is_tracked(&pod.metadata)
        && pod.metadata.controller().is_none()
        && pod.metadata.labels.get(JOB_NAME).is_none()
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let job = self.jobs.get_key(key);
        self.free_orphans(client, key, job.as_deref()).await?;
        let Some(job) = job else {
            self.memories.lock().forget(key);
            return Ok(Next::Done);
        };
        if job.spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
            return Ok(Next::Done);
        }
        if job.is_finished() {
            self.memories.lock().forget(key);
            free(client, &self.pods.of(&job.metadata.uid)).await?;
            return Ok(Next::Done);
        }
        if let Some(error) = job.spec.selector.error() {
            tracing::error!(object = %key, error, "Converting the selector failed");
            return Ok(Next::Done);
        }
        let started = std::time::Instant::now();
        let mut action = "reconciling";
        let result = self.round(client, key, &job, &mut action).await;
        metrics::job_synced(action, &job.spec.completion_mode, result.is_err(), started.elapsed());
        result
    }
}

impl Reconcile for Strays {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(pod) = self.pods.cache.get_key(key).filter(|pod| is_stray(pod)) else {
            return Ok(Next::Done);
        };
        let takes = |job: &Arc<Job>| !job.metadata.is_deleting() && !job.is_finished();
        if !self.jobs.matching(&pod.metadata).iter().any(takes) {
            free_one(client, &pod).await?;
        }
        Ok(Next::Done)
    }
}

impl Controller {
    /// One round for a job; `action` becomes what was done in it.
    async fn round(
        &self,
        client: &Client,
        key: &Key,
        job: &Job,
        action: &mut &'static str,
    ) -> Result<Next, Error> {
        // A pod that ended is still to be counted.
        let pods = claim::claim(client, &*self.pods, job, &job.spec.selector, |_| true).await?;
        let now = jiff::Timestamp::now();
        let memory = self.memories.lock().get(key, &job.metadata.uid);
        let mut plan = plan::plan(&plan::Input { job, pods: &pods, memory, now });
        *action = match (plan.create.is_empty(), plan.delete.is_empty()) {
            (true, true) => "tracking",
            (false, _) => "pods_created",
            (true, false) => "pods_deleted",
        };
        let failure = self.resize(client, job, &mut plan).await;
        if write_status(client, job, &job.status, &plan.status).await? {
            metrics::job_status_written(&job.spec.completion_mode, &job.status, &plan.status);
        }
        self.memories.lock().set(key, &job.metadata.uid, plan.memory);
        for (kind, reason, message) in &plan.events {
            self.events.event(&job.reference(), *kind, reason, message);
        }
        free(client, &plan.counted).await?;
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(Next::after(plan.again)),
        }
    }

    /// Makes and deletes pods; corrects the planned status by what failed.
    async fn resize(&self, client: &Client, job: &Job, plan: &mut Plan) -> Option<client::Error> {
        if !plan.delete.is_empty() {
            // Without its finalizer a pod that is not wanted is not counted as one that failed.
            if !plan.count_deleted
                && let Err(error) = free(client, &plan.delete).await
            {
                return Some(error);
            }
            return self.control.delete_all(client, &plan.delete, job).await;
        }
        let (creates, namespace) = (&plan.create, &job.metadata.namespace);
        let (succeeded, failure) = slow_start(creates.len(), |index| async move {
            let pod = pod(job, &creates[index]);
            self.control.create_unless_terminating(client, namespace, &pod, job).await
        })
        .await;
        metrics::job_pods_created(job, &plan.status, succeeded, usize::from(failure.is_some()));
        if failure.is_some() {
            plan.status.active -= i32::try_from(creates.len() - succeeded).unwrap_or(0);
        }
        failure
    }

    /// Pods of an earlier job of this name, or that were taken from this one.
    async fn free_orphans(&self, client: &Client, key: &Key, job: Option<&Job>) -> Result<(), Error> {
        let orphaned = |pod: &Arc<Pod>| {
            is_tracked(&pod.metadata)
                && pod
                    .metadata
                    .controller()
                    .is_none_or(|owner| owner.kind == Job::KIND && *owner.name == *key.name)
                && job.is_none_or(|job| !owns(job, pod))
        };
        let mut labelled = self.pods.labelled(&Text::from(&*key.namespace), JOB_NAME, &key.name);
        labelled.retain(orphaned);
        Ok(free(client, &labelled).await?)
    }
}

/// Takes the finalizer from pods that are counted, or that nobody will count.
async fn free(client: &Client, pods: &[Arc<Pod>]) -> client::Result<()> {
    try_all(pods.iter().map(|pod| free_one(client, pod))).await
}

async fn free_one(client: &Client, pod: &Pod) -> client::Result<()> {
    let meta = &pod.metadata;
    if !is_tracked(meta) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": meta.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
    match client.patch::<Pod>(meta.namespace(), &meta.name, None, Patch::Strategic(patch)).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => result.map(drop),
    }
}

/// A pod of a job, for an index where it has them.
fn pod(job: &Job, create: &Create) -> Value {
    let meta = &job.metadata;
    let prefix = match create.index {
        Some(index) => {
            // The index is to be seen in names that are cut.
            let end = format!("-{index}-");
            let kept = meta.name.len().min(GENERATED_PREFIX.saturating_sub(end.len()));
            format!("{}{end}", &meta.name[..kept])
        }
        None => format!("{}-", meta.name),
    };
    let owner = meta.controller_reference(Job::API_VERSION, Job::KIND);
    let mut pod = pods::from_template(&job.spec.template, &prefix, false, owner);
    let mut finalizers: Vec<Value> = pod["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    finalizers.push(FINALIZER.into());
    pod["metadata"]["finalizers"] = finalizers.into();
    let Some(index) = create.index else { return pod };
    let text = index.to_string();
    pod["metadata"]["annotations"][INDEX] = text.as_str().into();
    pod["metadata"]["labels"][INDEX] = text.as_str().into();
    if let Some((failures, ignored)) = create.failures {
        pod["metadata"]["annotations"][INDEX_FAILURES] = failures.to_string().into();
        if ignored > 0 {
            pod["metadata"]["annotations"][INDEX_IGNORED_FAILURES] = ignored.to_string().into();
        }
    }
    pod["spec"]["hostname"] = format!("{}-{index}", meta.name).into();
    let variable = json!({
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{INDEX}']")}},
    });
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let mut environment = container["env"].as_array().cloned().unwrap_or_default();
            if !environment.iter().any(|other| other["name"] == variable["name"]) {
                environment.push(variable.clone());
            }
            container["env"] = environment.into();
        }
    }
    pod
}
