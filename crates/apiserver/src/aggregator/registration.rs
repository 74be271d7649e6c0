//! APIServices of what this server answers itself: those of built-in versions are put in order once, when it starts, and those of
//! definitions all the time. An APIService without our label is its owner's business.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree, json};
use futures::StreamExt as _;
use registry::tree::{flag, get, list, same, text};
use tokio_util::sync::CancellationToken;
use watchcache::Subscription;
use watchcache::resources::{Entry, EventType, Resources};

use super::priorities::{CUSTOM, OWN_GROUP, built_in};
use crate::bootstrap::Hooks;
use crate::extensions::definitions;
use crate::handlers::Server;
use crate::kinds;

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";
/// Writes under way at once.
const PARALLEL: usize = 16;
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// How an APIService is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    OnStart,
    Always,
}

impl Care {
    fn of(object: &Tree) -> Option<Care> {
        match get(object, "metadata.labels").get(LABEL).and_then(Tree::as_str) {
            Some(ON_START) => Some(Care::OnStart),
            Some(ALWAYS) => Some(Care::Always),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Create,
    Update,
    Delete,
}

/// What to do with one name. `at_start`: it was there when this server started; `done`: it was in order once since.
fn decide(wanted: Option<(Care, &Tree)>, current: Option<&Tree>, at_start: bool, done: bool) -> Action {
    let care = wanted.map(|(care, _)| care);
    let Some(current) = current else {
        return match care {
            None => Action::Nothing,
            Some(Care::OnStart) if done => Action::Nothing,
            Some(_) => Action::Create,
        };
    };
    match (care, Care::of(current)) {
        (Some(Care::OnStart), _) if done => Action::Nothing,
        (_, None) => Action::Nothing,
        (_, Some(Care::OnStart)) if !at_start || done => Action::Nothing,
        (None, _) => Action::Delete,
        _ => match wanted {
            Some((_, object)) if !same(get(current, "spec"), get(object, "spec")) => Action::Update,
            _ => Action::Nothing,
        },
    }
}

/// An APIService of this server's own.
fn local(care: Care, group: &str, version: &str) -> Tree {
    let priorities = match care {
        Care::OnStart => built_in(group, version).unwrap_or(CUSTOM),
        Care::Always => CUSTOM,
    };
    let label = if care == Care::OnStart { ON_START } else { ALWAYS };
    let mut spec = json!({
        "group": group,
        "version": version,
        "groupPriorityMinimum": priorities.group,
        "versionPriority": priorities.version,
    });
    if group.is_empty()
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("group");
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {LABEL: label}},
        "spec": spec,
    })
}

/// The names of APIServices that a definition calls for.
fn versions_of(definition: &Tree) -> Vec<(String, String)> {
    let group = text(definition, "spec.group");
    let served = list(definition, "spec.versions").iter().filter(|version| flag(version, "served"));
    served.map(|version| (group.to_owned(), text(version, "name").to_owned())).collect()
}

/// Keeps the APIServices that stand for this server.
pub struct Registration {
    server: Arc<Server>,
    resources: Arc<Resources>,
    wanted: HashMap<String, (Care, Tree)>,
    /// Versions of each definition.
    definitions: HashMap<String, Vec<(String, String)>>,
    at_start: HashSet<String>,
    done: HashSet<String>,
    pending: BTreeSet<String>,
}

impl Registration {
    pub fn new(server: Arc<Server>) -> Registration {
        let resources = server.resources.clone();
        let mut wanted = HashMap::new();
        for group in server.settings.served.groups() {
            let versions = group.versions.iter().map(|version| version.version);
            for version in versions.filter(|version| built_in(group.name, version).is_some()) {
                let object = local(Care::OnStart, group.name, version);
                wanted.insert(text(&object, "metadata.name").to_owned(), (Care::OnStart, object));
            }
        }
        let (definitions, at_start, done) = Default::default();
        let pending = wanted.keys().cloned().collect();
        Registration { server, resources, wanted, definitions, at_start, done, pending }
    }

    /// Until shutdown. Passes its hooks when everything was in order once.
    pub async fn run(mut self, hooks: Hooks, shutdown: CancellationToken) {
        self.at_start =
            self.resources.list(kinds::api_services(), None).iter().map(|own| own.name.to_string()).collect();
        let kinds = [definitions(), kinds::api_services()];
        loop {
            let [Some((all, of_definitions)), Some((services, of_services))] =
                kinds.map(|kind| self.resources.subscribe(kind))
            else {
                return;
            };
            let names: HashSet<&str> = all.iter().map(|entry| &*entry.name).collect();
            let gone: Vec<String> =
                self.definitions.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
            gone.iter().for_each(|name| self.see(name, Vec::new()));
            all.iter().for_each(|entry| self.see_definition(entry));
            self.pending.extend(services.iter().map(|entry| entry.name.to_string()));
            let following = self.follow(&hooks, &of_definitions, &of_services);
            if shutdown.run_until_cancelled(following).await.is_none() {
                return;
            }
        }
    }

    /// Until one of the subscriptions ends.
    async fn follow(&mut self, hooks: &Hooks, definitions: &Subscription, services: &Subscription) {
        let mut pause = RETRY;
        loop {
            if self.reconcile_all().await {
                pause = RETRY;
                hooks.mark("kube-apiserver-autoregistration");
                hooks.mark("autoregister-completion");
            }
            tokio::select! {
                event = definitions.events.recv() => match event {
                    None => return,
                    Some(event) if event.event_type == EventType::Deleted => self.see(&event.entry.name, Vec::new()),
                    Some(event) => self.see_definition(&event.entry),
                },
                event = services.events.recv() => match event {
                    None => return,
                    Some(event) => drop(self.pending.insert(event.entry.name.to_string())),
                },
                () = tokio::time::sleep(pause), if !self.pending.is_empty() => pause = (pause * 2).min(RETRY_MOST),
            }
        }
    }

    fn see_definition(&mut self, entry: &Arc<Entry>) {
        // one that cannot be read is as it was
        if let Ok(definition) = entry.read() {
            self.see(&entry.name, versions_of(&definition));
        }
    }

    /// A definition as it is now.
    fn see(&mut self, name: &str, versions: Vec<(String, String)>) {
        let former = match versions.is_empty() {
            true => self.definitions.remove(name),
            false => self.definitions.insert(name.to_owned(), versions.clone()),
        };
        for (group, version) in former.into_iter().flatten().chain(versions) {
            let service = format!("{version}.{group}");
            if group == OWN_GROUP || self.wanted.get(&service).is_some_and(|own| own.0 == Care::OnStart) {
                continue;
            }
            let is_wanted = self.definitions.values().flatten().any(|own| own.0 == group && own.1 == version);
            match is_wanted {
                true => {
                    self.wanted.insert(service.clone(), (Care::Always, local(Care::Always, &group, &version)))
                }
                false => self.wanted.remove(&service),
            };
            self.pending.insert(service);
        }
    }

    /// Brings everything in order that is not known to be; whether that succeeded.
    async fn reconcile_all(&mut self) -> bool {
        let pending = std::mem::take(&mut self.pending);
        let work: Vec<_> = pending.into_iter().map(|name| self.reconcile(name)).collect();
        let results: Vec<_> = futures::stream::iter(work).buffer_unordered(PARALLEL).collect().await;
        for (name, result) in results {
            match result {
                Ok(()) => drop(self.done.insert(name)),
                Err(status) => {
                    tracing::warn!(name, error = status.message, "An APIService is not in order yet");
                    self.pending.insert(name);
                }
            }
        }
        self.pending.is_empty()
    }

    async fn reconcile(&self, name: String) -> (String, Result<(), Status>) {
        let result = self.attempt(&name).await;
        (name, result)
    }

    async fn attempt(&self, name: &str) -> Result<(), Status> {
        let (server, kind) = (&self.server, kinds::api_services());
        let wanted = self.wanted.get(name).map(|(care, object)| (*care, object));
        let current = self.resources.read(kind, "", name)?;
        let (at_start, done) = (self.at_start.contains(name), self.done.contains(name));
        let written = match (decide(wanted, current.as_ref(), at_start, done), wanted) {
            (Action::Create, Some((_, object))) => server.create(kind, "", object.clone()).await.map(drop),
            (Action::Update, Some((_, object))) => {
                let change = |stored: &mut Tree| {
                    // somebody may have taken it over meanwhile
                    let ours = Care::of(stored).is_some();
                    if ours {
                        stored["spec"] = object["spec"].clone();
                    }
                    Ok(ours)
                };
                server.update(kind, "", "", name, &change).await.map(drop)
            }
            (Action::Delete, _) => {
                // somebody may have taken it over meanwhile
                let version =
                    current.as_ref().map_or("", |current| text(current, "metadata.resourceVersion"));
                server.delete_version(kind, "", name, version).await
            }
            _ => Ok(()),
        };
        match written {
            // created, deleted or changed meanwhile: its event comes
            Err(status) if matches!(status.reason.as_str(), "AlreadyExists" | "NotFound" | "Conflict") => {
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_made_is_left_alone() {
        let wanted = |care| (care, local(care, "apps", "v1"));
        let labelled = |label: &str, version: &str| json!({"metadata": {"labels": {LABEL: label}}, "spec": {"group": "apps", "version": version}});
        let (on_start, always) = (wanted(Care::OnStart), wanted(Care::Always));
        let (ours, theirs) = (labelled(ON_START, "v2"), json!({"spec": {"version": "v2"}}));
        let continuous = labelled(ALWAYS, "v2");
        type Case<'c> = (Option<&'c (Care, Tree)>, Option<&'c Tree>, bool, bool, Action);
        let cases: [Case<'_>; 16] = [
            (None, None, false, false, Action::Nothing),
            (Some(&on_start), None, false, false, Action::Create),
            (Some(&on_start), None, false, true, Action::Nothing),
            (Some(&always), None, false, true, Action::Create),
            (None, Some(&theirs), true, false, Action::Nothing),
            (Some(&on_start), Some(&theirs), true, false, Action::Nothing),
            (Some(&always), Some(&theirs), true, false, Action::Nothing),
            (None, Some(&ours), false, false, Action::Nothing),
            (None, Some(&ours), true, false, Action::Delete),
            (Some(&on_start), Some(&ours), false, false, Action::Nothing),
            (Some(&on_start), Some(&ours), true, false, Action::Update),
            (Some(&on_start), Some(&ours), true, true, Action::Nothing),
            (None, Some(&continuous), false, true, Action::Delete),
            (Some(&always), Some(&continuous), false, true, Action::Update),
            (Some(&always), Some(&always.1), false, true, Action::Nothing),
            (Some(&on_start), Some(&continuous), false, true, Action::Nothing),
        ];
        for (number, (wanted, current, at_start, done, expect)) in cases.into_iter().enumerate() {
            let wanted = wanted.map(|(care, object)| (*care, object));
            assert_eq!(decide(wanted, current, at_start, done), expect, "{number}");
        }
    }

    #[test]
    fn upstreams_own_are_all_there() {
        let resources = Resources::new(Arc::new(store::Memory::new()), CancellationToken::new());
        let registration = Registration::new(Server::new(resources, None, None, Vec::new()));
        assert_eq!(registration.wanted.len(), 22);
        let core = json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1});
        assert_eq!(registration.wanted["v1."].1["spec"], core);
    }
}
