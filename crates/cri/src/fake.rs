//! A runtime in memory. Containers run until they are made to exit ([`FakeRuntime::exit`]) or stopped; any call can
//! be made to fail ([`FakeRuntime::fail`]); calls are recorded by name and subject.
//!
//! By itself it answers at once, which hides races: [`FakeRuntime::behave`] makes it slow and unreliable. Its clock is
//! tokio's, so that on paused time a test runs hours of it.

mod conduct;
mod images;
mod service;

pub use conduct::Conduct;

use crate::error::{Code, Error, Result};
use crate::v1::*;
use conduct::Moods;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

pub struct FakeRuntime {
    state: Mutex<State>,
    moods: Mutex<Moods>,
    /// Nanoseconds since the epoch when it was made, and the same moment as tokio's clock has it.
    origin: (i64, Instant),
}

impl Default for FakeRuntime {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = (nanoseconds(since), Instant::now());
        Self { state: Mutex::default(), moods: Mutex::default(), origin }
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A container that ran.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ran {
    pub pod_uid: String,
    pub container: String,
    pub attempt: u32,
    pub id: String,
}

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<String, (PodSandboxStatus, PodSandboxConfig)>,
    containers: BTreeMap<String, (ContainerStatus, ContainerConfig, String)>,
    images: BTreeSet<String>,
    /// What its status names as the image of sandboxes.
    sandbox_image: Option<String>,
    failures: BTreeMap<&'static str, Error>,
    exec: BTreeMap<String, ExecSyncResponse>,
    calls: Vec<String>,
    /// Calls that asked for something of one pod only.
    calls_by_pod: u64,
    ran: Vec<Ran>,
    /// Containers that were asked to stop, and when they will have.
    ending: BTreeMap<String, Instant>,
    graces: BTreeMap<String, i64>,
    memory_used: BTreeMap<String, u64>,
    stream_url: Option<String>,
    network_is_down: bool,
}

impl FakeRuntime {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every later call of that name (`"CreateContainer"`) fail; `None` ends it.
    pub fn fail(&self, call: &'static str, error: Option<Error>) {
        let mut state = self.state.lock();
        match error {
            Some(error) => state.failures.insert(call, error),
            None => state.failures.remove(call),
        };
    }

    /// Whether its network is ready.
    pub fn set_network(&self, is_ready: bool) {
        self.state.lock().network_is_down = !is_ready;
    }

    /// Puts an image there without a pull.
    pub fn add_image(&self, image: &str) {
        self.state.lock().images.insert(image.into());
    }

    /// Names the image of sandboxes in its verbose status.
    pub fn set_sandbox_image(&self, image: &str) {
        self.state.lock().sandbox_image = Some(image.into());
    }

    /// What a command (joined by spaces) answers to `exec_sync`; an unknown one succeeds silently.
    pub fn answer_exec(&self, command: &str, exit_code: i32, stdout: &str) {
        let answer = ExecSyncResponse { stdout: stdout.into(), stderr: Vec::new(), exit_code };
        self.state.lock().exec.insert(command.into(), answer);
    }

    /// How many bytes a container uses.
    pub fn use_memory(&self, id: &str, bytes: u64) {
        self.state.lock().memory_used.insert(id.into(), bytes);
    }

    /// Where exec, attach and port-forward are streamed; without it they are unimplemented.
    pub fn stream_at(&self, url: &str) {
        self.state.lock().stream_url = Some(url.into());
    }

    /// Nanoseconds since the epoch: what it stamps containers with.
    pub fn now(&self) -> i64 {
        self.origin.0.saturating_add(nanoseconds(self.origin.1.elapsed()))
    }

    /// How it answers from now on.
    pub fn behave(&self, conduct: Conduct) {
        *self.moods.lock() = Moods::new(conduct);
    }

    /// Ends a container as if its process had.
    pub fn exit(&self, id: &str, exit_code: i32, reason: &str) {
        let now = self.now();
        if let Some((status, ..)) = self.state().containers.get_mut(id)
            && is_running(status)
        {
            exited(status, now, exit_code, reason);
        }
    }

    /// Every container that ran, in order, removed ones too.
    pub fn ran(&self) -> Vec<Ran> {
        self.state.lock().ran.clone()
    }

    /// Ids of a pod's containers that run, by container name, and of its sandboxes that do.
    pub fn running(&self, pod_uid: &str) -> (Vec<(String, String)>, Vec<String>) {
        let state = self.state();
        let of_pod =
            |labels: &BTreeMap<String, String>| labels.get(POD_UID).is_some_and(|uid| uid == pod_uid);
        let containers = state.containers.values().map(|(status, ..)| status);
        let containers = containers.filter(|it| of_pod(&it.labels) && is_running(it));
        let name = |status: &ContainerStatus| status.metadata.clone().unwrap_or_default().name;
        let ready = i32::from(PodSandboxState::SandboxReady);
        let sandboxes = state.sandboxes.values().map(|(status, _)| status);
        let sandboxes = sandboxes.filter(|it| of_pod(&it.labels) && it.state == ready);
        (
            containers.map(|it| (name(it), it.id.clone())).collect(),
            sandboxes.map(|it| it.id.clone()).collect(),
        )
    }

    /// Ids of everything there is of a pod.
    pub fn remains(&self, pod_uid: &str) -> Vec<String> {
        let state = self.state.lock();
        let of_pod =
            |labels: &BTreeMap<String, String>| labels.get(POD_UID).is_some_and(|uid| uid == pod_uid);
        let containers = state.containers.values().filter(|(it, ..)| of_pod(&it.labels));
        let sandboxes = state.sandboxes.values().filter(|(it, _)| of_pod(&it.labels));
        containers.map(|(it, ..)| it.id.clone()).chain(sandboxes.map(|(it, _)| it.id.clone())).collect()
    }

    /// How many calls there were that asked for something of one pod only.
    pub fn calls_by_pod(&self) -> u64 {
        self.state.lock().calls_by_pod
    }

    /// The state as it is by now.
    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let State { ending, containers, .. } = &mut *state;
        ending.retain(|id, when| {
            let due = *when <= now;
            if due && let Some((status, ..)) = containers.get_mut(id).filter(|(it, ..)| is_running(it)) {
                let at = self.origin.0.saturating_add(nanoseconds(when.duration_since(self.origin.1)));
                exited(status, at, 143, "Error");
            }
            !due
        });
        state
    }

    /// Ends a sandbox as if its pause process had died.
    pub fn lose_sandbox(&self, id: &str) {
        if let Some((status, _)) = self.state.lock().sandboxes.get_mut(id) {
            status.state = PodSandboxState::SandboxNotready.into();
        }
    }

    /// Ids of containers with that name in their metadata, oldest first.
    pub fn containers_named(&self, name: &str) -> Vec<ContainerStatus> {
        let state = self.state();
        let named = |status: &&ContainerStatus| status.metadata.as_ref().is_some_and(|it| it.name == name);
        let mut found: Vec<_> =
            state.containers.values().map(|(status, ..)| status).filter(named).cloned().collect();
        found.sort_by_key(|status| status.created_at);
        found
    }

    pub fn container_config(&self, id: &str) -> Option<ContainerConfig> {
        self.state.lock().containers.get(id).map(|(_, config, _)| config.clone())
    }

    pub fn sandbox_configs(&self) -> Vec<PodSandboxConfig> {
        self.state.lock().sandboxes.values().map(|(_, config)| config.clone()).collect()
    }

    /// The seconds a container had when it was last asked to stop.
    pub fn grace(&self, id: &str) -> Option<i64> {
        self.state.lock().graces.get(id).copied()
    }

    /// Calls that changed something, as `Name subject`, in order.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }
}

impl State {
    fn call(&mut self, name: &'static str, subject: &str) -> Result<()> {
        self.calls.push(format!("{name} {subject}"));
        self.calls_by_pod += u64::from(!subject.is_empty());
        self.failures.get(name).cloned().map_or(Ok(()), Err)
    }

    /// A call that reads something of one pod.
    fn reads(&mut self) {
        self.calls_by_pod += 1;
    }

    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{:04}", self.next)
    }

    fn container(&mut self, id: &str) -> Result<&mut ContainerStatus> {
        self.containers
            .get_mut(id)
            .map(|(status, ..)| status)
            .ok_or_else(|| Error::new(Code::NotFound, format!("no container {id}")))
    }
}

const POD_UID: &str = "io.kubernetes.pod.uid";

fn is_running(status: &ContainerStatus) -> bool {
    status.state == i32::from(ContainerState::ContainerRunning)
}

fn exited(status: &mut ContainerStatus, now: i64, exit_code: i32, reason: &str) {
    status.state = ContainerState::ContainerExited.into();
    status.finished_at = now;
    status.exit_code = exit_code;
    status.reason = reason.into();
}

fn unimplemented(what: &str) -> Error {
    Error::new(Code::Unimplemented, format!("unknown method {what} for service runtime.v1.RuntimeService"))
}

fn chosen(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
