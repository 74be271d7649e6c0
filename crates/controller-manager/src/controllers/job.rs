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

use client::{Client, Event, EventRecorder, Informer, Key, Patch, WorkQueue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::{CONTROLLER_INDEX, Context, Error};
use crate::metrics;
use crate::support::expectations::Expectations;
use crate::support::pods::{self, PodControl};
use crate::support::selector;
use crate::support::slow_start::slow_start;
use crate::views::annotation::{INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES};
use crate::views::{Job, JobStatus, Meta, Object, Partial, Pod};
use plan::{Create, Memories, Plan};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const JOB_UID: &str = "batch.kubernetes.io/controller-uid";
/// Pods of a job that end together are counted together: what follows should not hang on their order.
const GATHER: Duration = Duration::from_millis(200);
/// The longest prefix that generated names keep.
const GENERATED_PREFIX: usize = 58;
/// The job controller proper; another value of `spec.managedBy` is somebody else's job.
const MANAGER: &str = "kubernetes.io/job-controller";

struct Controller {
    client: Client,
    events: EventRecorder,
    pods: PodControl,
    jobs: Informer<Job>,
    pod_cache: Informer<Pod>,
    expectations: Arc<Expectations>,
    memories: Mutex<Memories>,
    queue: WorkQueue<Key>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("job-controller").await?;
    let events = context.events(&client, "job-controller");
    let queue = context.queue("job");
    let strays = context.queue("job_orphan_pod");
    let jobs: Informer<Job> = context.informers.all();
    let pod_cache = context.pods();
    let expectations = Arc::new(Expectations::default());
    jobs.enqueue_to(queue.clone());
    jobs.synced().await;
    let (touch, stray, known) = (queue.clone(), strays.clone(), jobs.clone());
    pod_cache.on_event(move |event| {
        // Pods whose job is gone, or that were taken from it, have a finalizer that nobody else takes away.
        let pod = event.object();
        if is_stray(pod) && !matches!(event, Event::Deleted(_)) {
            stray.add(Key::new(&pod.metadata.namespace, &pod.metadata.name));
        }
        let name = match pod.metadata.controller() {
            Some(owner) => (owner.kind == Job::KIND).then_some(owner.name.as_str()),
            None => pod.metadata.labels.get(JOB_NAME),
        };
        if let Some(name) = name.filter(|_| is_tracked(&pod.metadata) && !matches!(event, Event::Deleted(_)))
        {
            let key = Key::new(&pod.metadata.namespace, name);
            if known.get_key(&key).is_none_or(|job| !owns(&job, pod)) {
                touch.add(key);
            }
        }
    });
    let (current, matching) = (jobs.clone(), jobs.clone());
    pods::Watch { queue: queue.clone(), expectations: expectations.clone(), kind: Job::KIND, gather: GATHER }
        .start(
            &pod_cache,
            move |key, uid| current.get_key(key).is_some_and(|job| job.metadata.uid == uid),
            move |pod| would_adopt(&matching, pod),
        );
    pod_cache.synced().await;
    let workers = context.options.concurrent_job_syncs;
    let pods = PodControl { client: client.clone(), events: events.clone() };
    let controller = Arc::new(Controller {
        client,
        events,
        pods,
        jobs,
        pod_cache,
        expectations,
        memories: Mutex::default(),
        queue: queue.clone(),
    });
    let freeing = controller.clone();
    let frees = context.work(strays, 1, move |key| {
        let controller = freeing.clone();
        async move { controller.free_stray(&key).await }
    });
    let works = context.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    tokio::join!(works, frees);
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
    meta.finalizers.iter().any(|name| name == FINALIZER)
}

/// Whether nothing names the job of a tracked pod: a job with a selector of its own leaves no name on its pods.
fn is_stray(pod: &Pod) -> bool {
    is_tracked(&pod.metadata)
        && pod.metadata.controller().is_none()
        && pod.metadata.labels.get(JOB_NAME).is_none()
}

fn would_adopt(jobs: &Informer<Job>, pod: &Pod) -> Vec<Key> {
    if pod.metadata.labels.is_empty() {
        return Vec::new();
    }
    let selects = |job: &Arc<Job>| {
        let compiled = selector::compile(job.spec.selector.as_ref());
        compiled.is_ok_and(|selector| selector::matches(&selector, &pod.metadata.labels))
    };
    let found = jobs.list_in(&pod.metadata.namespace).into_iter().filter(selects);
    found.map(|job| Key::new(&job.metadata.namespace, &job.metadata.name)).collect()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let job = self.jobs.get_key(key);
        self.free_orphans(key, job.as_deref()).await?;
        let Some(job) = job else {
            self.expectations.forget(key);
            self.memories.lock().forget(key);
            return Ok(());
        };
        if job.spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
            return Ok(());
        }
        if job.is_finished() {
            self.memories.lock().forget(key);
            return self.free(self.pod_cache.by_index(CONTROLLER_INDEX, &job.metadata.uid)).await;
        }
        let selector = match selector::compile(job.spec.selector.as_ref()) {
            Ok(selector) => selector,
            Err(error) => {
                tracing::error!(object = %key, %error, "converting the selector");
                return Ok(());
            }
        };
        let started = std::time::Instant::now();
        let settled = self.expectations.settled(key, &self.queue);
        let mut action = "reconciling";
        let result = self.round(key, &job, &selector, settled, &mut action).await;
        metrics::job_synced(action, &job.spec.completion_mode, result.is_err(), started.elapsed());
        result
    }

    /// One round for a job; `action` becomes what was done in it.
    async fn round(
        &self,
        key: &Key,
        job: &Job,
        selector: &machinery::labels::Selector,
        settled: bool,
        action: &mut &'static str,
    ) -> Result<(), Error> {
        let pods = pods::claim(&self.client, &self.pod_cache, job, selector).await?;
        let now = jiff::Timestamp::now();
        let memory = self.memories.lock().get(key, &job.metadata.uid);
        let mut plan = plan::plan(&plan::Input { job, pods: &pods, settled, memory, now });
        if settled {
            *action = match (plan.create.is_empty(), plan.delete.is_empty()) {
                (true, true) => "tracking",
                (false, _) => "pods_created",
                (true, false) => "pods_deleted",
            };
        }
        let failure = self.resize(job, key, &mut plan).await;
        self.write_status(job, &plan.status).await?;
        self.memories.lock().set(key, &job.metadata.uid, plan.memory);
        for (kind, reason, message) in &plan.events {
            self.events.event(&job.reference(), *kind, reason, message);
        }
        self.free(std::mem::take(&mut plan.counted)).await?;
        if let Some(wait) = plan.again {
            self.queue.add_after(key.clone(), wait);
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Makes and deletes pods; corrects the planned status by what failed.
    async fn resize(&self, job: &Job, key: &Key, plan: &mut Plan) -> Option<client::Error> {
        if !plan.delete.is_empty() {
            self.expectations.set(key, 0, plan.delete.iter().map(|pod| pod.metadata.uid.clone()));
            let deletions = plan.delete.iter().map(|pod| async {
                // Without its finalizer a pod that is not wanted is not counted as one that failed.
                if !plan.count_deleted {
                    self.free_one(pod).await?;
                }
                let result = self.pods.delete(&pod.metadata, job).await;
                if result.is_err()
                    || self.pod_cache.get(Some(&pod.metadata.namespace), &pod.metadata.name).is_none()
                {
                    self.expectations.deleted(key, &pod.metadata.uid);
                }
                result
            });
            let results = futures::future::join_all(deletions).await;
            return results.into_iter().find_map(Result::err);
        }
        if plan.create.is_empty() {
            return None;
        }
        self.expectations.set(key, plan.create.len(), []);
        let creates = &plan.create;
        let (succeeded, failure) = slow_start(creates.len(), |index| async move {
            let pod = pod(job, &creates[index]);
            match self.pods.create(&job.metadata.namespace, &pod, job).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_namespace_terminating() => {
                    self.expectations.created(key);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
        .await;
        if failure.is_some() {
            let missing = creates.len() - succeeded;
            self.expectations.lower_creations(key, missing);
            plan.status.active -= i32::try_from(missing).unwrap_or(0);
        }
        failure
    }

    /// Takes the finalizer from pods that are counted, or that nobody will count.
    async fn free(&self, pods: Vec<Arc<Pod>>) -> Result<(), Error> {
        let results = futures::future::join_all(pods.iter().map(|pod| self.free_one(pod))).await;
        results.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    async fn free_one(&self, pod: &Pod) -> client::Result<()> {
        let meta = &pod.metadata;
        if !is_tracked(meta) {
            return Ok(());
        }
        let patch =
            json!({"metadata": {"uid": meta.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let namespace = Some(meta.namespace.as_str());
        match self.client.patch::<Pod>(namespace, &meta.name, None, Patch::Strategic(patch)).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            result => result.map(drop),
        }
    }

    /// A pod that was left behind, unless a job takes it.
    async fn free_stray(&self, key: &Key) -> Result<(), Error> {
        let Some(pod) = self.pod_cache.get_key(key).filter(|pod| is_stray(pod)) else { return Ok(()) };
        let takers = would_adopt(&self.jobs, &pod);
        let takes = |key: &Key| {
            self.jobs.get_key(key).is_some_and(|job| !job.metadata.is_deleting() && !job.is_finished())
        };
        if takers.iter().any(takes) {
            return Ok(());
        }
        Ok(self.free_one(&pod).await?)
    }

    /// Pods of an earlier job of this name, or that were taken from this one.
    async fn free_orphans(&self, key: &Key, job: Option<&Job>) -> Result<(), Error> {
        let orphaned = |pod: &Arc<Pod>| {
            is_tracked(&pod.metadata)
                && pod
                    .metadata
                    .controller()
                    .is_none_or(|owner| owner.kind == Job::KIND && *owner.name == *key.name)
                && job.is_none_or(|job| !owns(job, pod))
        };
        let label = crate::context::label_key(&key.namespace, JOB_NAME, &key.name);
        let labelled = self.pod_cache.by_index(crate::context::LABEL_INDEX, &label);
        self.free(labelled.into_iter().filter(orphaned).collect()).await
    }

    async fn write_status(&self, job: &Job, status: &JobStatus) -> Result<(), Error> {
        if *status == job.status {
            return Ok(());
        }
        let meta = &job.metadata;
        let body =
            json!({"apiVersion": Job::API_VERSION, "kind": Job::KIND, "metadata": meta, "status": status});
        let resource = client::ResourceRef::of::<Job>();
        let api = self.client.at(&resource);
        match api.update::<Partial>(Some(&meta.namespace), &meta.name, Some("status"), &body).await {
            Err(error) if error.is_not_found() => Ok(()),
            Ok(_) => {
                metrics::job_status_written(&job.spec.completion_mode, &job.status, status);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
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
