//! A cache of single objects, each watched by its name while it is in use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Event, Informer, Informers, Scope, Selectors};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{Change, Error, Kind, convert};

/// An object nobody has asked for this long is no longer watched.
const IDLE: Duration = Duration::from_secs(300);
/// How long an object that is not watched is taken for current.
const FRESH: Duration = Duration::from_secs(30);
/// Watches at a time, well below what a server lets one connection have. Objects beyond are read when needed.
const MAX_WATCHES: usize = 100;

pub struct Watched<T> {
    client: Client,
    informers: Informers,
    kind: Kind,
    changes: broadcast::Sender<Change>,
    entries: Mutex<HashMap<(String, String), Entry<T>>>,
}

struct Entry<T> {
    /// Read before the watch had anything to say.
    first: Option<(Instant, Arc<T>)>,
    watch: Option<Informer<T>>,
    used: Instant,
}

impl<T: client::View> Watched<T> {
    pub fn new(client: Client, informers: Informers, kind: Kind, changes: broadcast::Sender<Change>) -> Self {
        Self { client, informers, kind, changes, entries: Mutex::default() }
    }

    pub async fn get(&self, namespace: &str, name: &str) -> Result<Arc<T>, Error> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(object) = self.cached(&key) {
            return Ok(object);
        }
        match self.client.get::<T>(Some(namespace), name).await {
            Ok(object) => {
                let object = Arc::new(object);
                self.keep(key, Some(object.clone()));
                Ok(object)
            }
            Err(error) => {
                // Whoever waits for it hears of it when it is made.
                if error.is_not_found() {
                    self.keep(key, None);
                }
                Err(convert(&error))
            }
        }
    }

    pub fn refresh(&self, namespace: &str) {
        for ((of, _), entry) in self.entries.lock().iter_mut() {
            if of == namespace {
                entry.first = None;
            }
        }
    }

    fn cached(&self, key: &(String, String)) -> Option<Arc<T>> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(key)?;
        entry.used = Instant::now();
        if let Some(watch) = entry.watch.as_ref().filter(|watch| watch.has_synced()) {
            return watch.get(Some(&key.0), &key.1);
        }
        let (read, object) = entry.first.as_ref()?;
        (read.elapsed() < FRESH).then(|| object.clone())
    }

    /// `None` is an object that does not exist yet.
    fn keep(&self, key: (String, String), object: Option<Arc<T>>) {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| {
            let idle = entry.used.elapsed() > IDLE;
            if let Some(watch) = entry.watch.as_ref().filter(|_| idle) {
                self.informers.stop(watch);
            }
            !idle
        });
        let watches = entries.values().filter(|entry| entry.watch.is_some()).count();
        let now = Instant::now();
        let entry = entries.entry(key.clone()).or_insert(Entry { first: None, watch: None, used: now });
        let missing = object.is_none();
        entry.first = object.map(|object| (now, object));
        if entry.watch.is_none() && watches < MAX_WATCHES {
            entry.watch = Some(self.watch(key, missing));
        }
    }

    /// Watches an object. Its first `Added` is no change, unless the object was missing when it was read.
    fn watch(&self, (namespace, name): (String, String), missing: bool) -> Informer<T> {
        let fields = format!("metadata.name={name}");
        let watch = self.informers.watch::<T>(Scope::Namespace(namespace.clone()), Selectors::fields(fields));
        let (kind, changes) = (self.kind, self.changes.clone());
        watch.on_event(move |event| {
            if missing || !matches!(event, Event::Added(_)) {
                // Fails only without a receiver.
                let _ = changes.send(Change { kind, namespace: namespace.clone(), name: name.clone() });
            }
        });
        watch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// An API server that has every secret, each time with another version, and lets nobody watch.
    async fn server() -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = client::Config::new(&listener.local_addr().unwrap().to_string()).unwrap();
        tokio::spawn(async move {
            let asked = AtomicU32::new(0);
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&request[..length]).into_owned();
                let (code, body) = match head.starts_with("GET /api/v1/namespaces/n/secrets/s ") {
                    true => {
                        let version = asked.fetch_add(1, Ordering::Relaxed) + 1;
                        let metadata =
                            serde_json::json!({"name": "s", "resourceVersion": version.to_string()});
                        (200, serde_json::json!({"metadata": metadata}).to_string())
                    }
                    false => (403, "{}".to_owned()),
                };
                let head = format!(
                    "HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Client::new(config).unwrap()
    }

    #[tokio::test]
    async fn a_new_pod_reads_objects_again() {
        let client = server().await;
        let informers = Informers::new(client.clone());
        let secrets =
            Watched::<Secret>::new(client, informers.clone(), Kind::Secret, broadcast::Sender::new(1));
        let version = async || secrets.get("n", "s").await.unwrap().metadata.resource_version.clone();
        assert_eq!(version().await.as_deref(), Some("1"));
        assert_eq!(version().await.as_deref(), Some("1"), "kept for a while");
        secrets.refresh("other");
        assert_eq!(version().await.as_deref(), Some("1"));
        secrets.refresh("n");
        assert_eq!(version().await.as_deref(), Some("2"));
        informers.shutdown().await;
    }
}
