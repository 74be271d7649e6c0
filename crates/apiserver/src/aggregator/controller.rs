//! Follows APIServices and the Services behind them, asks their servers how they are and what they serve, and makes of it what clients
//! see. One task decides; what waits for others are jobs beside it, each with a time limit.

mod schedule;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use api::{Status, Tree};
use registry::tree::{has, text};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchcache::Subscription;
use watchcache::resources::{Entry, Event, EventType};

use super::api_service::{ApiService, Backend};
use super::availability::{self, Condition};
use super::connections::Connections;
use super::delegated::{Delegated, Target, may_delegate};
use super::priorities::standard;
use super::{Aggregator, discovery, openapi};
use crate::bootstrap::Hooks;
use crate::handlers::Server;
use crate::kinds;
use crate::turn::Turns;
use schedule::{Schedule, Work};

/// The state of everything that is aggregated.
pub struct Controller {
    aggregator: Arc<Aggregator>,
    server: Arc<Server>,
    known: BTreeMap<String, Known>,
    /// APIServices by the namespace and name of their Service.
    behind: HashMap<(String, String), Vec<String>>,
    schedule: Schedule,
    jobs: JoinSet<Done>,
    /// Whose discovery must have been tried before this server is ready.
    awaited: HashSet<String>,
}

/// An APIService as it was seen last.
struct Known {
    service: ApiService,
    /// Where it is another server's.
    target: Option<Arc<Target>>,
    discovery: discovery::Known,
    openapi: openapi::Known,
}

/// A job that has ended.
struct Done {
    name: String,
    work: Work,
    target: Option<Arc<Target>>,
    outcome: Result<Found, String>,
}

enum Found {
    /// Whether the server answers.
    Available(bool),
    Discovery(discovery::Known),
    OpenApi(openapi::Known),
}

impl Controller {
    pub fn new(aggregator: Arc<Aggregator>, server: Arc<Server>) -> Controller {
        Controller {
            aggregator,
            server,
            known: BTreeMap::new(),
            behind: HashMap::new(),
            schedule: Schedule::default(),
            jobs: JoinSet::new(),
            awaited: HashSet::new(),
        }
    }

    /// Until shutdown. Passes hooks when requests are routed, and when every server was asked once for what it serves.
    pub async fn run(mut self, hooks: Hooks, shutdown: CancellationToken) {
        let kinds = [kinds::api_services(), kinds::services(), kinds::endpoint_slices()];
        let mut is_first = true;
        loop {
            let [Some((all, services)), Some(backends), Some(slices)] =
                kinds.map(|kind| self.aggregator.resources.subscribe(kind))
            else {
                return;
            };
            let names: HashSet<&str> = all.iter().map(|entry| &*entry.name).collect();
            let gone: Vec<String> =
                self.known.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
            gone.iter().for_each(|name| self.remove(name));
            all.iter().for_each(|entry| self.see(entry));
            // what changed while nobody looked
            self.known.keys().for_each(|name| self.schedule.soon(name, Work::Availability, Instant::now()));
            self.publish();
            if std::mem::take(&mut is_first) {
                hooks.mark("apiservice-registration-controller");
                let remote = self.known.iter().filter(|(_, known)| known.target.is_some());
                self.awaited = remote.map(|(name, _)| name.clone()).collect();
            }
            let following = self.follow(&hooks, [&services, &backends.1, &slices.1]);
            if shutdown.run_until_cancelled(following).await.is_none() {
                return;
            }
        }
    }

    /// Until one of the subscriptions ends.
    async fn follow(&mut self, hooks: &Hooks, [services, backends, slices]: [&Subscription; 3]) {
        loop {
            if self.awaited.is_empty() {
                hooks.mark("apiservice-discovery-controller");
            }
            self.begin_what_is_due();
            let due = self.schedule.next();
            let pause = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = services.events.recv() => match event {
                    None => return,
                    Some(event) => {
                        match event.event_type {
                            EventType::Deleted => self.remove(&event.entry.name),
                            _ => self.see(&event.entry),
                        }
                        self.publish();
                    }
                },
                event = backends.events.recv() => match event {
                    None => return,
                    Some(event) => self.service_changed(&event.entry.namespace, &event.entry.name),
                },
                event = slices.events.recv() => match event {
                    None => return,
                    Some(event) => self.slice_changed(&event),
                },
                Some(done) = self.jobs.join_next() => {
                    // a job that panicked is begun again when it is due
                    let Ok(done) = done else { continue };
                    self.take(done);
                    self.publish();
                }
                () = pause => {}
            }
        }
    }

    fn slice_changed(&self, event: &Event) {
        if let Some(service) = event.entry.label("kubernetes.io/service-name") {
            self.service_changed(&event.entry.namespace, service);
        }
    }

    fn service_changed(&self, namespace: &str, name: &str) {
        if self.behind.is_empty() {
            return;
        }
        let behind = self.behind.get(&(namespace.to_owned(), name.to_owned()));
        behind
            .into_iter()
            .flatten()
            .for_each(|own| self.schedule.soon(own, Work::Availability, Instant::now()));
    }

    fn see(&mut self, entry: &Arc<Entry>) {
        // one that cannot be read is routed as it was
        let Ok(object) = entry.read() else { return };
        let service = ApiService::read(&object);
        let name = service.name.clone();
        let former = self.known.remove(&name);
        let backend = service.backend.clone().filter(|_| may_delegate(&service));
        let known = match (former, backend) {
            (Some(Known { target: Some(target), discovery, openapi, .. }), Some(backend))
                if target.backend == backend =>
            {
                let became_available = service.available && !target.is_available();
                target.set_available(service.available);
                if became_available {
                    self.schedule.soon(&name, Work::Discovery, Instant::now());
                    self.schedule.shortly(&name, Work::OpenApi, Instant::now());
                }
                Known { service, target: Some(target), discovery, openapi }
            }
            (_, Some(backend)) => {
                let target = Some(Arc::new(self.target(service.clone(), backend)));
                self.schedule.soon(&name, Work::Discovery, Instant::now());
                self.schedule.shortly(&name, Work::OpenApi, Instant::now());
                Known { service, target, discovery: Default::default(), openapi: Default::default() }
            }
            (_, None) => {
                self.schedule.forget(&name);
                Known { service, target: None, discovery: Default::default(), openapi: Default::default() }
            }
        };
        self.schedule.soon(&name, Work::Availability, Instant::now());
        self.known.insert(name, known);
    }

    fn remove(&mut self, name: &str) {
        self.schedule.forget(name);
        self.known.remove(name);
        self.awaited.remove(name);
        availability::forget(name);
    }

    fn index(&mut self) {
        self.behind.clear();
        for (name, known) in &self.known {
            if let Some(backend) = &known.service.backend {
                let key = (backend.namespace.clone(), backend.service.clone());
                self.behind.entry(key).or_default().push(name.clone());
            }
        }
    }

    fn target(&self, service: ApiService, backend: Backend) -> Target {
        let Aggregator { certificate, tasks, seats, .. } = &*self.aggregator;
        let connections = Connections::new(backend.clone(), Arc::clone(certificate), tasks.clone());
        Target::new(service, backend, connections, Turns::new(seats.0, seats.1))
    }

    fn begin_what_is_due(&mut self) {
        for (name, work) in self.schedule.take_due(Instant::now()) {
            let Some(known) = self.known.get(&name) else {
                self.schedule.forget(&name);
                continue;
            };
            let (server, aggregator) = (Arc::clone(&self.server), Arc::clone(&self.aggregator));
            let target = known.target.clone();
            let backend = known.service.backend.clone();
            let (of_discovery, of_openapi) = (known.discovery.clone(), known.openapi.clone());
            self.jobs.spawn(async move {
                let outcome = match (work, &target) {
                    (Work::Availability, target) => {
                        let checked =
                            check(&server, &aggregator, &name, backend.as_ref(), target.as_deref()).await;
                        checked.map(Found::Available).map_err(|status| status.message)
                    }
                    (Work::Discovery, Some(target)) => {
                        discovery::fetch(&aggregator, target, &of_discovery).await.map(Found::Discovery)
                    }
                    (Work::OpenApi, Some(target)) => {
                        openapi::fetch(&aggregator, target, &of_openapi).await.map(Found::OpenApi)
                    }
                    (_, None) => Err("it is not answered elsewhere".to_owned()),
                };
                Done { name, work, target, outcome }
            });
        }
    }

    /// Takes up what a job has found.
    fn take(&mut self, done: Done) {
        let Done { name, work, target, outcome } = done;
        let Some(known) = self.known.get_mut(&name) else { return };
        let same = match (&known.target, &target) {
            (None, None) => true,
            (Some(own), Some(asked)) => Arc::ptr_eq(own, asked),
            _ => false,
        };
        if !same {
            // it is another server now, which is asked anew
            return self.schedule.ended(&name, work, true, Instant::now());
        }
        let succeeded =
            matches!(&outcome, Ok(Found::Available(true) | Found::Discovery(_) | Found::OpenApi(_)));
        match outcome {
            Ok(Found::Available(available)) => {
                if target.is_none() {
                    // there is nothing to ask again
                    return self.schedule.settled(&name, work, Instant::now());
                }
                if !available {
                    tracing::debug!(name, "An aggregated API does not answer");
                }
            }
            Ok(Found::Discovery(found)) => known.discovery = found,
            Ok(Found::OpenApi(found)) => known.openapi = found,
            Err(error) => {
                tracing::info!(name, %error, ?work, "An aggregated API cannot be read");
                if work == Work::Discovery {
                    known.discovery.state = discovery::State::Stale;
                }
            }
        }
        if work == Work::Discovery {
            self.awaited.remove(&name);
        }
        self.schedule.ended(&name, work, succeeded, Instant::now());
    }

    /// Shows clients what is known, where that has changed.
    fn publish(&mut self) {
        self.index();
        let new = self.delegated();
        let catalog = self.server.catalog();
        if !new.looks_like(&catalog.delegated) {
            self.server.delegate(Arc::new(new));
        }
    }

    fn delegated(&self) -> Delegated {
        let mut delegated = Delegated::default();
        let mut swaggers = Vec::new();
        for known in self.known.values() {
            let ApiService { group, version, priorities, .. } = &known.service;
            let Some(target) = &known.target else {
                let is_custom = super::priorities::built_in(group, version).is_none();
                if known.service.backend.is_none() && *priorities != standard(group, version, is_custom) {
                    delegated.services.push(ApiService { available: true, ..known.service.clone() });
                }
                continue;
            };
            delegated.services.push(ApiService { available: true, ..known.service.clone() });
            delegated.targets.entry(group.clone()).or_default().insert(version.clone(), Arc::clone(target));
            if let Some(entry) = known.discovery.entry(version) {
                delegated.discovery.insert((group.clone(), version.clone()), Arc::new(entry));
            }
            if let Some(swagger) = &known.openapi.swagger {
                swaggers.push((known, Arc::clone(swagger)));
            }
            for (path, entry) in &known.openapi.documents {
                let place = (Arc::clone(target), entry.clone());
                delegated.documents.entry(path.clone()).or_insert(place);
            }
        }
        let group = |known: &Known| {
            let same = self
                .known
                .values()
                .filter(|own| own.target.is_some() && own.service.group == known.service.group);
            same.map(|own| own.service.priorities.group).max()
        };
        swaggers
            .sort_by_cached_key(|(known, _)| (std::cmp::Reverse(group(known)), known.service.name.clone()));
        delegated.swaggers = swaggers.into_iter().map(|(_, swagger)| swagger).collect();
        delegated
    }
}

/// Finds whether an APIService is available, and writes that where it says something else.
async fn check(
    server: &Arc<Server>,
    aggregator: &Aggregator,
    name: &str,
    backend: Option<&Backend>,
    target: Option<&Target>,
) -> Result<bool, Status> {
    let condition = match (backend, target) {
        (None, _) => Condition::local(),
        (Some(backend), target) => {
            let Backend { namespace, service, .. } = backend;
            let found = aggregator.resources.read(kinds::services(), namespace, service);
            let found = found.map_err(|status| status.message);
            let slices = || aggregator.services.slices(namespace, service);
            match (Condition::before_asking(backend, found, slices), target) {
                (Some(condition), _) => condition,
                (None, Some(target)) => Condition::asked(availability::check(aggregator, target).await),
                (None, None) => Condition::asked(Err("nobody else answers for this group".to_owned())),
            }
        }
    };
    let available = condition.status == "True";
    let stored = aggregator.resources.read(kinds::api_services(), "", name)?;
    let Some(stored) = stored.filter(|stored| is_of(stored, backend)) else { return Ok(available) };
    condition.count(name, Some(&stored));
    if condition.is_of(&stored) {
        return Ok(available);
    }
    tracing::info!(
        name,
        reason = condition.reason,
        message = condition.message,
        "An APIService's availability has changed"
    );
    let now = jiff::Timestamp::now();
    let change = |object: &mut Tree| {
        let changes = is_of(object, backend);
        if changes {
            condition.put(object, now);
        }
        Ok(changes)
    };
    match server.update(kinds::api_services(), "status", "", name, &change).await {
        Err(status) if status.reason == "NotFound" => Ok(available),
        other => other.map(|_| available),
    }
}

/// Whether an APIService is still what was looked at.
fn is_of(object: &Tree, backend: Option<&Backend>) -> bool {
    let service = ApiService::read(object);
    !text(object, "metadata.name").is_empty()
        && has(object, "spec.service") == backend.is_some()
        && service.backend.as_ref() == backend
}
