//! Carries out a resize: the pod's own group and its containers, each part in the order that keeps a container's limit
//! below its pod's. It stops at the first error; the next round goes on with what is left.

use super::{Error, Worker};
use crate::allocation::resources::Size;
use crate::allocation::{Part, conditions};
use crate::cgroups::limits::Limits;
use crate::container_config::resources;
use crate::events::Warning;
use crate::figures::FIGURES;
use crate::node::shares;
use crate::plan::resize::{Resize, Update};
use crate::pods::title;
use crate::qos::{self, Class};
use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::sync::Arc;
use tracing::{debug, warn};

impl Worker {
    /// Whether all of it was done; otherwise the pod's status says why not.
    pub(super) async fn resize(&self, pod: &Arc<Pod>, sandbox: &str, plan: &Resize) -> Result<bool, Error> {
        let start = tokio::time::Instant::now();
        let outcome = self.carry_out(pod, sandbox, plan).await;
        self.kubelet.allocations.save().await?;
        let success = if outcome.is_ok() { "true" } else { "false" };
        #[allow(clippy::cast_precision_loss)]
        let milliseconds = start.elapsed().as_millis() as f64;
        FIGURES.resize_milliseconds.with(&[success]).observe(milliseconds);
        if qos::class(pod) == Class::Burstable {
            shares::weigh_burstable(&self.kubelet);
        }
        let Err(message) = outcome else {
            // The next round reports what the runtime has by then.
            self.kubelet.pods.wake(&self.uid);
            return Ok(true);
        };
        warn!(pod = title(pod), message, "Pod resize failed, will retry");
        if let Some(generation) = self.kubelet.allocations.fail(pod, &message, self.kubelet.clock.now()) {
            let text = conditions::event("Pod resize error", pod, generation, &message);
            self.kubelet.events.event(pod, Warning, "ResizeError", &text);
        }
        Ok(false)
    }

    async fn carry_out(&self, pod: &Arc<Pod>, sandbox: &str, plan: &Resize) -> Result<(), String> {
        let cgroups = &self.kubelet.cgroups;
        let wanted = cgroups.limits(pod);
        // A group that cannot be read is levelled by the next round.
        let mut now = cgroups.actual(pod).unwrap_or(wanted);
        if plan.pod || !plan.memory.is_empty() {
            self.check_usage(pod, plan, &now, &wanted).await?;
        }
        for part in [Part::Memory, Part::Cpu] {
            let updates = plan.updates(part);
            if updates.is_empty() && !plan.pod {
                continue;
            }
            let (more, less) = now.direction(&wanted, part);
            let shares_grow = part == Part::Cpu && wanted.shares > now.shares;
            if more || (shares_grow && !less) {
                now = self.resize_group(pod, sandbox, part, now, &wanted).await?;
            }
            for update in updates {
                self.update(pod, part, update).await?;
            }
            if now.with(part, &wanted) != now {
                now = self.resize_group(pod, sandbox, part, now, &wanted).await?;
            }
            self.kubelet.allocations.set_actuated_pod(pod, part);
        }
        Ok(())
    }

    /// A limit below what is used would have the kernel end processes.
    async fn check_usage(
        &self,
        pod: &Arc<Pod>,
        plan: &Resize,
        now: &Limits,
        wanted: &Limits,
    ) -> Result<(), String> {
        let mut problems = Vec::new();
        let (_, pod_shrinks) = now.direction(wanted, Part::Memory);
        if let Some(limit) = wanted.memory.filter(|_| pod_shrinks) {
            match self.kubelet.cgroups.memory_usage(pod) {
                None => problems.push("missing pod memory usage".to_owned()),
                Some(used) if used >= limit => problems.push(format!(
                    "attempting to set pod memory limit ({limit}) below current usage ({used})"
                )),
                Some(_) => {}
            }
        }
        for update in &plan.memory {
            let (from, to) = (update.from.memory_limit, update.to.memory_limit);
            if to == 0 || (from != 0 && to >= from) {
                continue;
            }
            let (name, limit) = (&update.name, update.to.memory_limit);
            let stats = self.kubelet.runtime.container_stats(&update.id).await;
            let stats = stats.map_err(|_| format!("unable to read memory usage for pod {:?}", title(pod)))?;
            let memory = stats.memory.unwrap_or_default();
            // Older runtimes have the working set alone.
            let used = memory.usage_bytes.or(memory.working_set_bytes);
            match used.map(|bytes| i64::try_from(bytes.value).unwrap_or(i64::MAX)) {
                None => problems.push(format!("missing container {name:?} memory usage")),
                Some(used) if used >= limit => problems.push(format!(
                    "attempting to set container {name:?} memory limit ({limit}) below current usage ({used})"
                )),
                Some(_) => {}
            }
        }
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("cannot decrease memory limits: {one}")),
            all => Err(format!("cannot decrease memory limits: [{}]", all.join(", "))),
        }
    }

    /// Returns what the group has afterwards.
    async fn resize_group(
        &self,
        pod: &Arc<Pod>,
        sandbox: &str,
        part: Part,
        now: Limits,
        wanted: &Limits,
    ) -> Result<Limits, String> {
        if !self.kubelet.cgroups.has_groups() {
            return Ok(now.with(part, wanted));
        }
        let next = now.with(part, wanted);
        self.notify(pod, sandbox, &next).await.map_err(|error| {
            format!(
                "failed to notify runtime for UpdatePodSandboxResources (resource={}); resize rejected: {error}",
                part.name()
            )
        })?;
        if let Err(error) = self.kubelet.cgroups.set_part(pod, part, wanted) {
            if let Err(error) = self.notify(pod, sandbox, &now).await {
                debug!(pod = title(pod), %error, "The runtime does not know that the pod keeps its resources");
            }
            return Err(error.to_string());
        }
        Ok(next)
    }

    /// Lets the runtime and its plugins know what the pod has in all. Most runtimes do not ask for it.
    async fn notify(&self, pod: &Pod, sandbox: &str, limits: &Limits) -> cri::Result<()> {
        let overhead = pod.spec.as_ref().and_then(|spec| spec.overhead.clone()).unwrap_or_default();
        let of = |name| qos::amount(Some(&overhead), name).unwrap_or_default();
        let period = limits.period;
        let cpu = resources::quota(of("cpu"), period);
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: sandbox.into(),
            overhead: Some(v1::LinuxContainerResources {
                cpu_period: if cpu > 0 { period } else { 0 },
                cpu_quota: cpu,
                cpu_shares: resources::shares(of("cpu")),
                memory_limit_in_bytes: of("memory"),
                ..Default::default()
            }),
            resources: Some(v1::LinuxContainerResources {
                cpu_period: period,
                cpu_quota: limits.quota.map_or(-1, |quota| quota - cpu),
                cpu_shares: limits.shares,
                memory_limit_in_bytes: limits.memory.map_or(0, |bytes| bytes - of("memory")),
                ..Default::default()
            }),
        };
        match self.kubelet.runtime.update_pod_sandbox_resources(request).await {
            // Some say so with a code of no meaning.
            Err(error) if error.is_unimplemented() || error.message.contains("not implemented") => Ok(()),
            answer => answer,
        }
    }

    /// Changes one part of a container, and leaves the other as it is.
    async fn update(&self, pod: &Arc<Pod>, part: Part, update: &Update) -> Result<(), String> {
        let Update { id, name, to, .. } = update;
        let actuated = self.kubelet.allocations.actuated(&self.uid).unwrap_or_default();
        let before = actuated.size(name);
        let size = match part {
            Part::Memory => {
                Size { memory_limit: to.memory_limit, memory_request: to.memory_request, ..before }
            }
            Part::Cpu => Size { cpu_limit: to.cpu_limit, cpu_request: to.cpu_request, ..before },
        };
        let Some(container) = find(pod, name) else { return Ok(()) };
        let container = Container { resources: Some(size.with_zeros()), ..container.clone() };
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(resources::linux(pod, &container, &self.kubelet.container_node)),
            ..Default::default()
        };
        let answer = self.kubelet.runtime.update_container_resources(request).await;
        answer.map_err(|error| error.to_string())?;
        self.kubelet.allocations.set_actuated(&self.uid, name, size);
        Ok(())
    }
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|it| it.name == name)
}
