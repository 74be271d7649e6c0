//! Leader election on a Lease: one of several replicas leads, and stops leading before another can
//! start. As in upstream's client, time is measured from when we saw the record change, so that clocks
//! need not agree.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use parking_lot::Mutex;
use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::figures;
use crate::{Client, Error, EventRecorder, EventType, ObjectReference, Result};

/// What is elected for, and how fast.
#[derive(Clone, Debug)]
pub struct Election {
    pub namespace: String,
    pub name: String,
    /// `host_uuid`, unlike that of any other candidate.
    pub identity: String,
    /// How long others wait after our last renewal.
    pub lease_duration: Duration,
    /// How long we try to renew before giving up; less than `lease_duration`.
    pub renew_deadline: Duration,
    pub retry_period: Duration,
    /// Give the lease up at shutdown, so that another need not wait for it to run out.
    pub release_on_shutdown: bool,
}

impl Election {
    /// With upstream's times and an identity of our own.
    pub fn new(namespace: &str, name: &str) -> Election {
        Election {
            namespace: namespace.into(),
            name: name.into(),
            identity: format!("{}_{}", host_name(), uuid::Uuid::new_v4()),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_shutdown: false,
        }
    }
}

/// The host's name, as upstream's daemons put it into identities and events.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.to_lowercase() }
}

/// Why [`LeaderElector::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to stop.
    Shutdown,
    /// Another leads, or the lease could not be renewed in time. A daemon ends on this, as upstream's do:
    /// `leaderelection lost`.
    Lost,
}

pub struct LeaderElector {
    client: Client,
    election: Election,
    events: Option<EventRecorder>,
    observed: Option<Observed>,
    health: LeaderHealth,
}

/// Whether a leader renews its lease, for the check of that name; well while another leads. Cheap to clone.
#[derive(Clone)]
pub struct LeaderHealth(Arc<Renewals>);

struct Renewals {
    lease: String,
    /// How long the lease is ours after a renewal.
    lasts: Duration,
    /// When the last renewal was sent, while we lead.
    last: Mutex<Option<Instant>>,
}

impl LeaderHealth {
    /// Fails when the lease was to be lost long ago, and this process goes on as if it led.
    pub fn check(&self) -> Result<(), String> {
        match *self.0.last.lock() {
            Some(last) if last.elapsed() > self.0.lasts + TOLERATED => {
                Err(format!("failed election to renew leadership on lease {}", self.0.lease))
            }
            _ => Ok(()),
        }
    }

    /// Whether no other can lead yet. A process that was stopped for a while finds out here, before its next renewal fails.
    pub fn leads(&self) -> bool {
        self.0.last.lock().is_some_and(|last| last.elapsed() < self.0.lasts)
    }

    /// Notes a renewal that was sent at this time, or that we do not lead.
    fn renewed(&self, sent: Option<Instant>) {
        figures::leads(&self.0.lease, sent.is_some());
        *self.0.last.lock() = sent;
    }
}

impl std::fmt::Debug for LeaderHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LeaderHealth").field(&self.0.lease).finish()
    }
}

/// How long after its lease has expired a leader still counts as healthy.
const TOLERATED: Duration = Duration::from_secs(20);

struct Observed {
    lease: Lease,
    at: Instant,
}

impl LeaderElector {
    pub fn new(client: Client, election: Election) -> LeaderElector {
        let health = LeaderHealth(Arc::new(Renewals {
            lease: election.name.clone(),
            lasts: election.lease_duration,
            last: Mutex::default(),
        }));
        health.renewed(None);
        // A renewal must not wait behind the work of what is led, nor for an answer as long as all tries may take.
        let client = client.for_heartbeats(election.renew_deadline / 2);
        LeaderElector { client, election, events: None, observed: None, health }
    }

    pub fn health(&self) -> LeaderHealth {
        self.health.clone()
    }

    /// Records `LeaderElection` events on the Lease.
    pub fn with_events(mut self, events: EventRecorder) -> LeaderElector {
        self.events = Some(events);
        self
    }

    /// Waits to become leader, then runs `lead` until it returns, `shutdown`, or the lead is lost. The token given to
    /// `lead` is cancelled in both cases; `lead` is waited for after a shutdown, and dropped after a loss.
    pub async fn run<Lead, Leading>(mut self, shutdown: CancellationToken, lead: Lead) -> Outcome
    where
        Lead: FnOnce(CancellationToken) -> Leading,
        Leading: Future<Output = ()>,
    {
        tracing::info!(lease = %self.lease_name(), "attempting to acquire leader lease");
        tokio::select! {
            () = shutdown.cancelled() => return Outcome::Shutdown,
            () = self.acquire() => {}
        }
        tracing::info!(lease = %self.lease_name(), "successfully acquired lease");
        self.report("became leader");
        let stop = CancellationToken::new();
        let leading = lead(stop.clone());
        tokio::pin!(leading);
        let mut finished = false;
        let outcome = tokio::select! {
            () = &mut leading => {
                finished = true;
                Outcome::Shutdown
            }
            () = shutdown.cancelled() => Outcome::Shutdown,
            () = self.renew() => Outcome::Lost,
        };
        stop.cancel();
        if outcome == Outcome::Lost {
            self.health.renewed(None);
        }
        if outcome == Outcome::Shutdown {
            if !finished {
                // Still the leader while the last work is finished.
                tokio::select! {
                    () = leading => {}
                    () = self.renew() => {}
                }
            }
            if self.election.release_on_shutdown
                && let Err(error) = self.release().await
            {
                tracing::error!(lease = %self.lease_name(), %error, "failed to release lock");
            }
            self.health.renewed(None);
        } else {
            self.report("stopped leading");
            tracing::error!(lease = %self.lease_name(), "failed to renew lease: the context deadline exceeded");
        }
        outcome
    }

    fn lease_name(&self) -> String {
        format!("{}/{}", self.election.namespace, self.election.name)
    }

    fn report(&self, what: &str) {
        if let Some(events) = &self.events {
            let object = ObjectReference {
                api_version: "coordination.k8s.io/v1".into(),
                kind: "Lease".into(),
                namespace: self.election.namespace.clone(),
                name: self.election.name.clone(),
                ..Default::default()
            };
            let message = format!("{} {what}", self.election.identity);
            events.event(&object, EventType::Normal, "LeaderElection", &message);
        }
    }

    async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(lease = %self.lease_name(), %error, "error retrieving or updating the resource lock");
                }
            }
            let chance = 1.0 + 1.2 * rand::rng().random::<f64>();
            tokio::time::sleep(self.election.retry_period.mul_f64(chance)).await;
        }
    }

    /// Renews until that fails for as long as the deadline, or another leads.
    async fn renew(&mut self) {
        loop {
            tokio::time::sleep(self.election.retry_period).await;
            let deadline = Instant::now() + self.election.renew_deadline;
            loop {
                match tokio::time::timeout_at(deadline, self.attempt()).await {
                    Ok(Ok(true)) => break,
                    Ok(Ok(false)) if !self.leads() => return,
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => {
                        tracing::error!(lease = %self.lease_name(), %error, "failed to update lock");
                    }
                    Err(_) => return,
                }
                if Instant::now() + self.election.retry_period > deadline {
                    return;
                }
                tokio::time::sleep(self.election.retry_period).await;
            }
        }
    }

    /// Takes or renews the lease; false where another holds it.
    async fn attempt(&mut self) -> Result<bool> {
        let (now, sent) = (MicroTime(jiff::Timestamp::now()), Instant::now());
        // While we lead nobody else writes the lease, so that the last answer is usually current.
        if let Some(observed) = self.observed.as_ref().filter(|_| self.leads()) {
            let lease = self.claim(&observed.lease, now.clone());
            match self.update(&lease).await {
                Ok(lease) => {
                    self.observe(lease, sent);
                    return Ok(true);
                }
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let namespace = Some(&*self.election.namespace);
        let current = match self.client.get::<Lease>(namespace, &self.election.name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let empty = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.election.name.clone()),
                        namespace: Some(self.election.namespace.clone()),
                        ..Default::default()
                    },
                    spec: None,
                };
                let lease = self.claim(&empty, now);
                match self.client.create::<Lease>(namespace, &lease).await {
                    Ok(lease) => {
                        self.observe(lease, sent);
                        return Ok(true);
                    }
                    Err(error) if error.is_already_exists() => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        if self.observed.as_ref().is_none_or(|observed| observed.lease.spec != current.spec) {
            self.observe(current.clone(), sent);
        }
        if holder(&current).is_some_and(|holder| *holder != self.election.identity) {
            let duration = current.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
            let duration = Duration::from_secs(duration.max(0) as u64);
            if self.observed.as_ref().is_some_and(|observed| observed.at.elapsed() < duration) {
                return Ok(false);
            }
        }
        match self.update(&self.claim(&current, now)).await {
            Ok(lease) => {
                self.observe(lease, sent);
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn update(&self, lease: &Lease) -> Result<Lease> {
        self.client.update(Some(&self.election.namespace), &self.election.name, lease).await
    }

    fn observe(&mut self, lease: Lease, sent: Instant) {
        self.observed = Some(Observed { lease, at: Instant::now() });
        if self.leads() {
            self.health.renewed(Some(sent));
        }
    }

    fn leads(&self) -> bool {
        self.observed.as_ref().and_then(|observed| holder(&observed.lease)) == Some(&self.election.identity)
    }

    /// The lease as ours.
    fn claim(&self, current: &Lease, now: MicroTime) -> Lease {
        let mut lease = current.clone();
        let ours = holder(current) == Some(&self.election.identity);
        let first = current.spec.is_none();
        let spec = lease.spec.get_or_insert_default();
        if !ours {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions =
                Some(if first { 0 } else { spec.lease_transitions.unwrap_or(0).saturating_add(1) });
        }
        spec.holder_identity = Some(self.election.identity.clone());
        spec.lease_duration_seconds = Some(self.election.lease_duration.as_secs() as i32);
        spec.renew_time = Some(now);
        lease
    }

    async fn release(&mut self) -> Result<()> {
        let Some(observed) = self.observed.as_ref().filter(|_| self.leads()) else {
            return Ok(());
        };
        let now = MicroTime(jiff::Timestamp::now());
        let mut lease = observed.lease.clone();
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: transitions,
            ..Default::default()
        });
        match tokio::time::timeout(self.election.renew_deadline, self.update(&lease)).await {
            Ok(result) => result.map(drop),
            Err(_) => Err(Error::Timeout {
                method: "PUT".into(),
                url: self.lease_name(),
                after: self.election.renew_deadline,
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}
