//! Requests of one namespace are charged together. Whoever waits drives the batch on: what it has begun to write it ends, although those
//! who began it may be gone, so that nobody is charged twice.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree};
use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, Shared, select};
use parking_lot::Mutex;
use registry::tree::{ensure, text};

use super::check::{Charge, Limited, Outcome, Quota};
use crate::Services;

/// A request waits no longer for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a write is tried again that lost against another.
const RETRIES: usize = 3;
/// Written quotas that are remembered until the cache has them.
const REMEMBERED: usize = 100;

type Answer = Result<(), Status>;
type Waiting = Vec<(Charge, oneshot::Sender<Answer>)>;

pub(super) struct Batches {
    ledger: Arc<Ledger>,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
}

/// The quotas, and how they are charged.
struct Ledger {
    services: Arc<dyn Services>,
    limited: Vec<Limited>,
    /// Quotas as they were written last, by namespace and name: the cache learns of a write a moment later.
    written: Mutex<HashMap<(String, String), Arc<Tree>>>,
}

/// A namespace with requests under way.
#[derive(Default)]
struct Namespace {
    waiting: Mutex<Waiting>,
    /// The batch that is charged at the moment.
    current: Mutex<Option<Shared<BoxFuture<'static, ()>>>>,
}

/// A request's stay in a namespace, which goes with the last of them.
struct Stay<'a> {
    batches: &'a Batches,
    namespace: &'a str,
    own: Arc<Namespace>,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let mut namespaces = self.batches.namespaces.lock();
        // this request's and the map's own
        if Arc::strong_count(&self.own) == 2 {
            namespaces.remove(self.namespace);
        }
    }
}

impl Batches {
    pub fn new(services: Arc<dyn Services>, limited: Vec<Limited>) -> Batches {
        let ledger = Arc::new(Ledger { services, limited, written: Mutex::default() });
        Batches { ledger, namespaces: Mutex::default() }
    }

    /// Whether requests in a namespace have to be charged at all.
    pub fn concern(&self, namespace: &str) -> Result<bool, Status> {
        let Ledger { services, limited, .. } = &*self.ledger;
        Ok(!limited.is_empty() || !services.list("", "resourcequotas", namespace)?.is_empty())
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.namespaces.lock().is_empty()
    }

    pub async fn evaluate(&self, namespace: &str, charge: Charge) -> Answer {
        let own = Arc::clone(self.namespaces.lock().entry(namespace.to_owned()).or_default());
        let stay = Stay { batches: self, namespace, own };
        let answer = tokio::time::timeout(PATIENCE, self.wait(namespace, &stay.own, charge)).await;
        answer.unwrap_or_else(|_| Err(Status::internal("resource quota evaluation timed out")))
    }

    async fn wait(&self, namespace: &str, own: &Namespace, charge: Charge) -> Answer {
        let (sender, mut answer) = oneshot::channel();
        own.waiting.lock().push((charge, sender));
        loop {
            match select(&mut answer, self.current(namespace, own)).await {
                Either::Left((Ok(answer), _)) => return answer,
                Either::Left((Err(oneshot::Canceled), _)) => {
                    return Err(Status::internal("resource quota evaluation failed"));
                }
                // it may have been one that this request came too late for
                Either::Right(_) => {}
            }
        }
    }

    /// The batch that is charged at the moment; or else a new one of all who wait.
    fn current(&self, namespace: &str, own: &Namespace) -> Shared<BoxFuture<'static, ()>> {
        let mut current = own.current.lock();
        if let Some(current) = current.as_ref().filter(|current| current.peek().is_none()) {
            return current.clone();
        }
        let mut waiting = std::mem::take(&mut *own.waiting.lock());
        // who gave up before is not charged
        waiting.retain(|(_, sender)| !sender.is_canceled());
        let (ledger, namespace) = (Arc::clone(&self.ledger), namespace.to_owned());
        let charged = async move { ledger.charge(&namespace, waiting).await };
        // after a panic those who wait get no answer, which they report
        let charged = AssertUnwindSafe(charged).catch_unwind().map(|_| ());
        current.insert(charged.boxed().shared()).clone()
    }
}

impl Ledger {
    /// Answers all who wait.
    async fn charge(&self, namespace: &str, mut waiting: Waiting) {
        let mut quotas = match self.quotas(namespace) {
            Ok(quotas) => quotas,
            Err(status) => return answer_all(waiting, &Err(status)),
        };
        for attempt in 0.. {
            let before = quotas.clone();
            waiting = self.count(&mut quotas, waiting);
            if waiting.is_empty() {
                return;
            }
            let (mut lost, mut error) = (Vec::new(), None);
            for (quota, _) in quotas.iter().zip(&before).filter(|(now, before)| now.used != before.used) {
                match self.write(namespace, quota).await {
                    Ok(written) => self.remember(namespace, &quota.name, written),
                    Err(status) => {
                        lost.push(quota.name.clone());
                        error = Some(status);
                    }
                }
            }
            let Some(error) = error else { return answer_all(waiting, &Ok(())) };
            if attempt == RETRIES {
                return answer_all(waiting, &Err(error));
            }
            quotas = match self.fresh(namespace, &lost).await {
                Ok(quotas) => quotas,
                Err(_) => return answer_all(waiting, &Err(error)),
            };
        }
    }

    /// Answers those who are refused or change nothing; the others wait until what they change is written.
    fn count(&self, quotas: &mut Vec<Quota>, waiting: Waiting) -> Waiting {
        let mut changing = Vec::new();
        for (charge, sender) in waiting {
            let mut counted = quotas.clone();
            let answer = match charge.count(&mut counted, &self.limited) {
                Ok(Outcome::Charged) if !charge.dry_run => {
                    *quotas = counted;
                    changing.push((charge, sender));
                    continue;
                }
                Ok(_) => Ok(()),
                Err(status) => Err(status),
            };
            // who gave up needs no answer
            let _ = sender.send(answer);
        }
        changing
    }

    /// The quotas of a namespace, as new as this server knows them.
    fn quotas(&self, namespace: &str) -> Result<Vec<Quota>, Status> {
        let mut quotas = Vec::new();
        for cached in self.services.list("", "resourcequotas", namespace)? {
            let key = (namespace.to_owned(), text(&cached, "metadata.name").to_owned());
            let mut written = self.written.lock();
            let newer = written.get(&key).filter(|written| is_newer(written, &cached)).cloned();
            if newer.is_none() {
                written.remove(&key);
            }
            quotas.push(Quota::new(newer.unwrap_or(cached)));
        }
        Ok(quotas)
    }

    /// Those of these quotas that still are, as the store has them.
    async fn fresh(&self, namespace: &str, names: &[String]) -> Result<Vec<Quota>, Status> {
        let mut quotas = Vec::new();
        for name in names {
            self.written.lock().remove(&(namespace.to_owned(), name.clone()));
            let found = self.services.fresh("", "resourcequotas", namespace, name).await?;
            quotas.extend(found.map(Quota::new));
        }
        Ok(quotas)
    }

    async fn write(&self, namespace: &str, quota: &Quota) -> Result<Tree, Status> {
        let version = text(&quota.tree, "metadata.resourceVersion");
        let used = quota.used.iter().map(|(name, amount)| (name.clone(), Tree::from(amount.to_string())));
        let used = Tree::Object(used.collect());
        let change = move |stored: &mut Tree| {
            if text(stored, "metadata.resourceVersion") != version {
                let why = "the object has been modified; please apply your changes to the latest version and try again";
                return Err(Status::conflict("", "resourcequotas", &quota.name, why));
            }
            ensure(stored, "status").insert("used", used.clone());
            Ok(())
        };
        self.services.update_status("", "resourcequotas", namespace, &quota.name, &change).await
    }

    fn remember(&self, namespace: &str, name: &str, quota: Tree) {
        let mut written = self.written.lock();
        if written.len() >= REMEMBERED {
            written.clear();
        }
        written.insert((namespace.to_owned(), name.to_owned()), Arc::new(quota));
    }
}

fn is_newer(written: &Tree, cached: &Tree) -> bool {
    let version = |quota: &Tree| text(quota, "metadata.resourceVersion").parse::<u64>().unwrap_or(0);
    version(written) > version(cached)
}

fn answer_all(waiting: Waiting, answer: &Answer) {
    for (_, sender) in waiting {
        // who gave up needs no answer
        let _ = sender.send(answer.clone());
    }
}
