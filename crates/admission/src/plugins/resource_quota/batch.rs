//! Requests of one namespace are charged together: whoever has its turn writes for all who wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree};
use futures::channel::oneshot;
use futures::future::{Either, select};
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
type Waiting = Vec<(Arc<Charge>, oneshot::Sender<Answer>)>;

pub(super) struct Batches {
    services: Arc<dyn Services>,
    limited: Vec<Limited>,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
    /// Quotas as they were written last, by namespace and name: the cache learns of a write a moment later.
    written: Mutex<HashMap<(String, String), Arc<Tree>>>,
}

/// A namespace with requests under way.
#[derive(Default)]
struct Namespace {
    waiting: Mutex<Waiting>,
    turn: futures::lock::Mutex<()>,
}

impl Batches {
    pub fn new(services: Arc<dyn Services>, limited: Vec<Limited>) -> Batches {
        Batches { services, limited, namespaces: Mutex::default(), written: Mutex::default() }
    }

    /// Whether requests in a namespace have to be charged at all.
    pub fn concern(&self, namespace: &str) -> Result<bool, Status> {
        Ok(!self.limited.is_empty() || !self.services.list("", "resourcequotas", namespace)?.is_empty())
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.namespaces.lock().is_empty()
    }

    pub async fn evaluate(&self, namespace: &str, charge: Charge) -> Answer {
        let own = Arc::clone(self.namespaces.lock().entry(namespace.to_owned()).or_default());
        let answer = tokio::time::timeout(PATIENCE, self.wait(namespace, &own, Arc::new(charge))).await;
        let mut namespaces = self.namespaces.lock();
        // this request's and the map's own
        if Arc::strong_count(&own) == 2 {
            namespaces.remove(namespace);
        }
        drop(namespaces);
        answer.unwrap_or_else(|_| Err(Status::internal("resource quota evaluation timed out")))
    }

    async fn wait(&self, namespace: &str, own: &Namespace, charge: Arc<Charge>) -> Answer {
        loop {
            let (sender, answer) = oneshot::channel();
            own.waiting.lock().push((Arc::clone(&charge), sender));
            let (turn, mut answer) = match select(answer, own.turn.lock()).await {
                Either::Left((Ok(answer), _)) => return answer,
                // the request that wrote for this one was given up: nobody knows what it wrote
                Either::Left((Err(oneshot::Canceled), _)) => continue,
                Either::Right((turn, answer)) => (turn, answer),
            };
            match answer.try_recv() {
                Ok(Some(answer)) => return answer,
                Ok(None) => {}
                Err(oneshot::Canceled) => continue,
            }
            let waiting = std::mem::take(&mut *own.waiting.lock());
            self.charge(namespace, waiting).await;
            drop(turn);
            if let Ok(Some(answer)) = answer.try_recv() {
                return answer;
            }
        }
    }

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
