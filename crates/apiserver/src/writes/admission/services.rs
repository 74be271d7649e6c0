//! What admission plugins may use of the server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use access::authz::{self, Authorizer};
use access::user::User;
use admission::policies::{Checked, Policies};
use admission::{CallError, Called, Change, ClientConfig, Found, Hook, Question, Services};
use api::{Status, Tree};
use async_trait::async_trait;
use cel::Check;
use cel::library::authorizer::Target;
use machinery::labels::Selector;
use parking_lot::Mutex;
use registry::Kind;
use watchcache::resources::{Entry, Resources};

use crate::handlers::Server;
use crate::policies::{self, BoundPolicies};
use crate::turn;
use crate::webhooks::{self, Webhooks};

/// How long a request waits for the caches of a server that has just begun.
const READY: Duration = Duration::from_secs(10);

pub struct ServerServices {
    /// It owns the plugins that use these services.
    pub server: Weak<Server>,
    pub resources: Arc<Resources>,
    pub authorizer: Arc<Authorizer>,
    pub webhooks: Webhooks,
    pub policies: BoundPolicies,
    pub recent: Recent,
}

#[async_trait]
impl Services for ServerServices {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Found {
        let Some(resource) = row(group, plural) else { return Ok(None) };
        self.resources.find(resource, namespace, name)?.map(|entry| self.recent.read(&entry)).transpose()
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Arc<Tree>>, Status> {
        let Some(resource) = row(group, plural) else { return Ok(Vec::new()) };
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let entries = self.resources.find_all(resource, namespace)?;
        entries.iter().map(|entry| self.recent.read(entry)).collect()
    }

    async fn fresh(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Found {
        self.resources.catch_up().await;
        self.get(group, plural, namespace, name)
    }

    fn hooks(&self, mutating: bool) -> Option<Arc<[Arc<Hook>]>> {
        self.webhooks.all(mutating)
    }

    fn policies(&self, mutating: bool) -> Option<Arc<Policies>> {
        self.policies.all(&self.resources, mutating)
    }

    async fn object(&self, kind: &Kind, namespace: &str, name: &str) -> Found {
        let mut entry = self.resources.find(kind, namespace, name)?;
        if entry.is_none() {
            self.resources.catch_up().await;
            entry = self.resources.find(kind, namespace, name)?;
        }
        match entry {
            Some(entry) => read(&entry, kind).await.map(Some),
            None => Ok(None),
        }
    }

    async fn select(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
    ) -> Result<Vec<Arc<Tree>>, Status> {
        let mut found = Vec::new();
        for entry in self.resources.find_all(kind, (!namespace.is_empty()).then_some(namespace))? {
            if selector.matches_with(|key| entry.label(key)) {
                found.push(read(&entry, kind).await?);
            }
        }
        Ok(found)
    }

    fn checked(&self, checked: &Checked<'_>) {
        policies::count(checked);
    }

    async fn ready(&self) -> bool {
        tokio::time::timeout(READY, self.resources.synced()).await.is_ok()
    }

    async fn call(
        &self,
        client: &ClientConfig,
        review: Vec<u8>,
        timeout: Duration,
    ) -> Result<Tree, CallError> {
        self.webhooks.call(client, review, timeout).await
    }

    fn aside(&self, work: &mut dyn FnMut()) {
        daemon::aside::aside(true, work);
    }

    fn called(&self, called: &Called<'_>) {
        webhooks::count(called);
    }

    async fn create(&self, group: &str, plural: &str, namespace: &str, object: Tree) -> Result<Tree, Status> {
        match row(group, plural) {
            Some(resource) => self.server()?.create(resource, namespace, object).await,
            None => Err(Status::not_found(group, plural, "")),
        }
    }

    async fn update_status(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        change: Change<'_>,
    ) -> Result<Tree, Status> {
        let Some(resource) = row(group, plural) else {
            return Err(Status::not_found(group, plural, name));
        };
        let change = |tree: &mut Tree| change(tree).map(|()| true);
        // those who wait for what it writes have seats: they would take its own, too, and wait for it as it for them
        turn::seated(self.server()?.update(resource, "status", namespace, name, &change)).await
    }

    async fn check(&self, user: &admission::User<'_>, check: &Check) -> cel::Answer {
        let user = match &check.service_account {
            Some((namespace, name)) => User::service_account(namespace, name),
            None => owned(user),
        };
        let nowhere = authz::Attributes::resource(&user, &check.verb, "", "", "", "");
        let asked = match &check.target {
            Target::Path(path) => authz::Attributes { is_resource: false, version: "", path, ..nowhere },
            Target::Resource(resource) => authz::Attributes {
                group: &resource.group,
                resource: &resource.resource,
                subresource: &resource.subresource,
                namespace: &resource.namespace,
                name: &resource.name,
                field_selector: &resource.field_selector,
                ..nowhere
            },
        };
        let answer = self.authorizer.authorize(&asked).await;
        cel::Answer { allowed: answer.allowed(), reason: answer.reason, error: None }
    }

    async fn allows(&self, user: &admission::User<'_>, question: &Question<'_>) -> bool {
        let user = owned(user);
        let Question { verb, group, resource, namespace, name } = *question;
        let asked = authz::Attributes::resource(&user, verb, group, resource, namespace, name);
        self.authorizer.authorize(&asked).await.allowed()
    }
}

/// Objects that plugins have looked at lately: most writes look at the same few namespaces, accounts and classes as the writes before.
#[derive(Default)]
pub struct Recent(Mutex<VecDeque<Arc<Tree>>>);

impl Recent {
    /// How many are kept, and the bytes of the largest: some megabytes of trees in all.
    const COUNT: usize = 256;
    const SIZE: usize = 2 << 10;

    fn read(&self, entry: &Entry) -> Result<Arc<Tree>, Status> {
        let tree = entry.shared()?;
        // nobody else has it: it was decoded just now
        if Arc::strong_count(&tree) == 1 && entry.size() <= Recent::SIZE {
            let mut kept = self.0.lock();
            let oldest = if kept.len() == Recent::COUNT { kept.pop_front() } else { None };
            kept.push_back(Arc::clone(&tree));
            drop(kept);
            drop(oldest);
        }
        Ok(tree)
    }
}

impl ServerServices {
    fn server(&self) -> Result<Arc<Server>, Status> {
        self.server.upgrade().ok_or_else(|| Status::internal("the server has stopped"))
    }
}

/// An object in a version of its kind.
async fn read(entry: &Entry, kind: &Kind) -> Result<Arc<Tree>, Status> {
    entry.kind.resource.convert_one(kind, entry.read()?).await.map(Arc::new)
}

fn owned(user: &admission::User<'_>) -> User {
    User {
        name: user.name.to_owned(),
        uid: user.uid.to_owned(),
        groups: user.groups.to_vec(),
        extra: user.extra.clone(),
    }
}

/// A resource at its preferred version.
fn row(group: &str, plural: &str) -> Option<&'static Arc<Kind>> {
    type ByPlural = HashMap<(&'static str, &'static str), &'static Arc<Kind>>;
    static ROWS: LazyLock<ByPlural> = LazyLock::new(|| {
        let mut rows = ByPlural::new();
        for kind in registry::kind::by_default() {
            rows.entry((&*kind.group, &*kind.plural)).or_insert(kind);
        }
        rows
    });
    ROWS.get(&(group, plural)).copied()
}

#[cfg(test)]
mod tests {
    use watchcache::stored::Stored;

    use super::*;

    #[test]
    fn small_objects_are_decoded_once_while_they_are_looked_at() {
        let kind = Stored::of(crate::kinds::config_maps(), true).unwrap();
        let entry = |name: &str, size: usize| {
            let object = api::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "n"}, "data": {"a": "x".repeat(size)}});
            let key: Arc<str> = format!("n/{name}").into();
            Entry::decode(&kind, key, &api::json::to_vec(&object), 2, "ADDED").unwrap()
        };
        let recent = Recent::default();
        let (small, large) = (entry("small", 10), entry("large", Recent::SIZE));
        let kept = |entry: &Entry| Arc::downgrade(&recent.read(entry).unwrap());
        let (first, others) = (kept(&small), kept(&large));
        assert!(first.ptr_eq(&kept(&small)) && first.upgrade().is_some() && others.upgrade().is_none());
        for number in 0..Recent::COUNT {
            kept(&entry(&number.to_string(), 10));
        }
        assert!(first.upgrade().is_none());
    }
}
