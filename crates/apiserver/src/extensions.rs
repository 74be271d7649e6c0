//! Custom resources: follows definitions, accepts their names, serves their kinds, and lets go of both when a definition is
//! deleted, after its objects.

mod finalize;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::{Status, Tree, json};
use daemon::aside::aside;
use registry::Kind;
use registry::conversion::Conversion;
use registry::tree::{get, has, text};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchcache::Subscription;
use watchcache::resources::{Entry, EventType, Resources};

use self::finalize::Objects;
use crate::handlers::Server;
use crate::service_routing::ServiceRouter;
use crate::webhooks::conversion::Conversions;

/// After a failed attempt.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(10);

pub(crate) fn definitions() -> &'static Arc<Kind> {
    static KIND: OnceLock<&'static Arc<Kind>> = OnceLock::new();
    KIND.get_or_init(|| {
        registry::kind::built_in("apiextensions.k8s.io", "v1", "customresourcedefinitions")
            .expect("the tables have the kind of definitions")
    })
}

/// The kinds that definitions make, and the definitions that are not settled.
pub struct Extensions {
    server: Arc<Server>,
    resources: Arc<Resources>,
    conversions: Conversions,
    known: BTreeMap<String, Known>,
    /// To be looked at.
    pending: BTreeSet<String>,
    /// Objects that are being deleted, by their definition.
    finalizing: JoinSet<String>,
    pause: Duration,
}

/// A definition as it was seen last.
struct Known {
    entry: Arc<Entry>,
    /// Its group, and its names as they are requested and accepted.
    names: Tree,
    /// What is served of it.
    served: Option<Served>,
    is_finalizing: bool,
}

struct Served {
    /// Of what it is made of.
    hash: u64,
    /// The kind that the objects are stored as.
    stored: Arc<Kind>,
}

impl Served {
    fn is_of(&self, definition: &Tree) -> bool {
        self.hash == Served::hash(definition)
    }

    fn hash(definition: &Tree) -> u64 {
        let mut hasher = DefaultHasher::new();
        text(definition, "metadata.uid").hash(&mut hasher);
        has(definition, "metadata.deletionTimestamp").hash(&mut hasher);
        get(definition, "spec").hash(&mut hasher);
        get(definition, "status.acceptedNames").hash(&mut hasher);
        hasher.finish()
    }
}

/// What other definitions need to know of one.
fn names(definition: &Tree) -> Tree {
    json!({
        "spec": {"group": get(definition, "spec.group"), "names": get(definition, "spec.names")},
        "status": {"acceptedNames": get(definition, "status.acceptedNames")},
    })
}

impl Extensions {
    pub fn new(server: Arc<Server>, resources: Arc<Resources>) -> Extensions {
        let services = ServiceRouter::new(Arc::clone(&resources), server.settings.routing.clone());
        let conversions = Conversions::new(services);
        Extensions {
            server,
            resources,
            conversions,
            known: BTreeMap::new(),
            pending: BTreeSet::new(),
            finalizing: JoinSet::new(),
            pause: RETRY,
        }
    }

    /// Serves what is stored, then calls `ready` and follows the definitions until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken, ready: impl FnOnce()) {
        let mut ready = Some(ready);
        while let Some((all, subscription)) = self.resources.subscribe(definitions()) {
            let names: BTreeSet<&str> = all.iter().map(|entry| &*entry.name).collect();
            let gone: Vec<String> =
                self.known.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
            gone.iter().for_each(|name| self.remove(name));
            all.iter().for_each(|entry| self.see(entry));
            self.serve_established().await;
            if let Some(ready) = ready.take() {
                ready();
            }
            if shutdown.run_until_cancelled(self.follow(&subscription)).await.is_none() {
                return;
            }
        }
    }

    /// Until the subscription ends.
    async fn follow(&mut self, subscription: &Subscription) {
        loop {
            if self.reconcile_all().await {
                self.pause = RETRY;
            }
            let retry = async {
                match self.pending.is_empty() {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(self.pause).await,
                }
            };
            tokio::select! {
                event = subscription.events.recv() => match event {
                    None => return,
                    Some(event) => match event.event_type {
                        EventType::Deleted => self.remove(&event.entry.name),
                        _ => self.see(&event.entry),
                    },
                },
                Some(done) = self.finalizing.join_next() => {
                    let Ok(name) = done else { continue };
                    if let Some(known) = self.known.get_mut(&name) {
                        known.is_finalizing = false;
                    }
                }
                () = retry => self.pause = (self.pause * 2).min(RETRY_MOST),
            }
        }
    }

    fn see(&mut self, entry: &Arc<Entry>) {
        let name = entry.name.to_string();
        // one that cannot be read is served as it was
        let Ok(tree) = entry.read() else { return };
        let (entry, names) = (Arc::clone(entry), names(&tree));
        let known = match self.known.remove(&name) {
            Some(known) => Known { entry, names, ..known },
            None => Known { entry, names, served: None, is_finalizing: false },
        };
        self.known.insert(name.clone(), known);
        self.pending.insert(name);
    }

    /// A definition that is gone: its kinds go, and its names are free for others.
    fn remove(&mut self, name: &str) {
        self.pending.remove(name);
        let Some(known) = self.known.remove(name) else { return };
        if let Some(served) = known.served {
            let prefix = &*served.stored.storage_prefix;
            self.server.withdraw(|kind| *kind.storage_prefix == *prefix && kind.custom().is_some());
            // There is one where no version was served, too.
            if self.resources.cache_of(&served.stored).is_some() {
                self.resources.feed.forget(prefix);
            }
        }
        self.reconsider(text(&known.names, "spec.group"));
    }

    /// Looks again at the definitions of a group whose names were not accepted.
    fn reconsider(&mut self, group: &str) {
        let waiting = self.known.iter().filter(|(_, known)| {
            text(&known.names, "spec.group") == group
                && !registry::tree::same(
                    get(&known.names, "spec.names"),
                    get(&known.names, "status.acceptedNames"),
                )
        });
        self.pending.extend(waiting.map(|(name, _)| name.clone()));
    }

    /// Takes up all that was established before this server started, at once.
    async fn serve_established(&mut self) {
        let mut kinds = Vec::new();
        for known in self.known.values_mut() {
            let Ok(tree) = known.entry.read() else { continue };
            let same = known.served.as_ref().is_some_and(|served| served.is_of(&tree));
            if same || !plan::is_served(&tree) {
                continue;
            }
            // One that fails is reported when it is brought forward with the others.
            if let Ok((served, own)) = compile(&tree, registry::custom::kinds, &self.conversions).await {
                known.served = served;
                kinds.extend(own);
            }
            tokio::task::yield_now().await;
        }
        let mut pause = RETRY;
        while let Err(error) = self.server.serve(&kinds).await {
            tracing::warn!(%error, "Kinds of custom resources cannot be read yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MOST);
        }
    }

    /// Brings all pending definitions forward; whether that succeeded for all.
    async fn reconcile_all(&mut self) -> bool {
        let mut failed = BTreeSet::new();
        while let Some(name) = self.pending.pop_first() {
            if let Err(error) = self.reconcile(&name).await {
                tracing::warn!(definition = %name, error = %error.message, "A definition cannot be served yet");
                failed.insert(name);
            }
        }
        self.pending.append(&mut failed);
        self.pending.is_empty()
    }

    async fn reconcile(&mut self, name: &str) -> Result<(), Status> {
        let Some(known) = self.known.get(name) else { return Ok(()) };
        let mut tree = known.entry.read()?;
        let now = jiff::Timestamp::now();
        let group = text(&tree, "spec.group").to_owned();
        let others =
            self.known.values().map(|known| &known.names).filter(|other| text(other, "spec.group") == group);
        let renamed = plan::names(&mut tree, others, now);
        let remarked = plan::remarks(&mut tree, now);
        if renamed || remarked {
            let Some(written) = self.write(name, tree).await? else { return Ok(()) };
            tree = written;
            if renamed {
                self.reconsider(&group);
            }
        }
        if plan::is_served(&tree) {
            self.serve(name, &tree).await?;
        }
        if plan::establish(&mut tree, now) {
            let Some(written) = self.write(name, tree).await? else { return Ok(()) };
            tree = written;
        }
        self.finalize(name, &tree);
        Ok(())
    }

    /// Writes a definition's status, where nobody wrote it meanwhile: who did is seen, and it is looked at again.
    async fn write(&mut self, name: &str, tree: Tree) -> Result<Option<Tree>, Status> {
        let written = write(&self.server, name, &tree).await;
        match written {
            Ok(written) => {
                if let Some(known) = self.known.get_mut(name) {
                    known.names = names(&written);
                }
                Ok(Some(written))
            }
            Err(status) if matches!(status.reason.as_str(), "Conflict" | "NotFound") => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn serve(&mut self, name: &str, tree: &Tree) -> Result<(), Status> {
        let Some(known) = self.known.get_mut(name) else { return Ok(()) };
        if known.served.as_ref().is_some_and(|served| served.is_of(tree)) {
            return Ok(());
        }
        let (served, kinds) = compile(tree, registry::custom::kinds, &self.conversions).await?;
        self.server.serve(&kinds).await.map_err(|error| Status::internal(error.to_string()))?;
        known.served = served;
        Ok(())
    }

    /// Deletes the objects of a definition that is being deleted.
    fn finalize(&mut self, name: &str, tree: &Tree) {
        let Some(known) = self.known.get_mut(name) else { return };
        if known.is_finalizing || !plan::is_finalizing(tree) {
            return;
        }
        known.is_finalizing = true;
        let established = registry::custom::definition::is_true(tree, "Established");
        let objects = match known.served.as_ref().map(|served| Arc::clone(&served.stored)) {
            Some(stored) if stored.has_built_in_storage() => Objects::BuiltIn,
            Some(stored) if established => Objects::Of(stored),
            _ => Objects::Never,
        };
        let (server, name) = (Arc::clone(&self.server), name.to_owned());
        self.finalizing.spawn(async move {
            finalize::finalize(&server, &name, objects).await;
            name
        });
    }
}

/// The kinds of a definition, which `kinds` makes. Where that panics, it is the fault of this definition alone.
async fn compile(
    definition: &Tree,
    kinds: fn(&Tree) -> Vec<Kind>,
    conversions: &Conversions,
) -> Result<(Option<Served>, Vec<Arc<Kind>>), Status> {
    let kinds = daemon::panics::contained(async { aside(true, || kinds(definition)) }).await;
    let kinds = kinds.ok_or_else(|| Status::internal("its kinds cannot be made"))?;
    let conversion = conversions.of(definition);
    let with_conversion = |mut kind: Kind| {
        if let Some(conversion) = &conversion {
            kind.conversion = Conversion::Other(Arc::clone(conversion));
        }
        Arc::new(kind)
    };
    let kinds: Vec<Arc<Kind>> = kinds.into_iter().map(with_conversion).collect();
    let stored = kinds.iter().find(|kind| kind.version == kind.storage_version).or(kinds.first());
    let served = stored.map(|stored| Served { hash: Served::hash(definition), stored: Arc::clone(stored) });
    Ok((served, kinds))
}

/// Writes the status and the finalizers of a definition as it was read.
async fn write(server: &Arc<Server>, name: &str, tree: &Tree) -> Result<Tree, Status> {
    let change = |now: &mut Tree| {
        let version = |tree: &Tree| text(tree, "metadata.resourceVersion").to_owned();
        if version(now) != version(tree) {
            return Err(Status::conflict(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                name,
                "it was written meanwhile",
            ));
        }
        *now = tree.clone();
        Ok(true)
    };
    server.update(definitions(), "status", "", name, &change).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_definition_whose_kinds_cannot_be_made_fails_alone() {
        let definition = json!({
            "spec": {"group": "example.com", "scope": "Cluster", "versions": [
                {"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]},
            "status": {"acceptedNames": {"plural": "widgets", "kind": "Widget"}},
        });
        let store = Arc::new(store::Memory::new());
        let resources = Resources::new(store, CancellationToken::new());
        let conversions = Conversions::new(ServiceRouter::new(resources, Default::default()));
        assert!(compile(&definition, |_| panic!("in a definition"), &conversions).await.is_err());
        let (served, kinds) = compile(&definition, registry::custom::kinds, &conversions).await.unwrap();
        assert_eq!((&*served.unwrap().stored.storage_prefix, kinds.len()), ("example.com/widgets", 1));
    }
}
