//! What Services hold once they are written, or are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use api::json;
use api::{Status, Tree};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use store::{Changes, Error, KeyValue, Memory, Range, Revision, Store, Written};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchcache::resources::Resources;

use crate::allocate::{Ports, ServiceHook};
use crate::delegate::Hook;
use crate::handlers::Server;
use crate::kinds;
use crate::options::PortRange;

const FINE: u8 = 0;
const SILENT: u8 = 1;
const SILENT_AFTER_THE_WRITE: u8 = 2;
const LOST_AFTER_THE_WRITE: u8 = 3;
const LOST: u8 = 4;

/// A store that does not always answer who writes a Service.
#[derive(Default)]
struct Lossy {
    inner: Memory,
    mode: AtomicU8,
}

#[async_trait::async_trait]
impl Store for Lossy {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        self.inner.get(key).await
    }
    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        self.inner.range(start, end, limit, revision).await
    }
    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }
    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error> {
        let mode = match key.starts_with(b"/registry/services/specs/") {
            true => self.mode.load(Ordering::SeqCst),
            false => FINE,
        };
        if matches!(mode, FINE | SILENT_AFTER_THE_WRITE | LOST_AFTER_THE_WRITE) {
            let written = self.inner.put(key, value, expected, ttl).await;
            if mode == FINE {
                return written;
            }
        }
        if matches!(mode, SILENT | SILENT_AFTER_THE_WRITE) {
            std::future::pending::<()>().await;
        }
        Err(Error::Unavailable("etcdserver: request timed out".to_owned()))
    }
    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        self.inner.delete(key, expected).await
    }
    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        self.inner.watch(prefix, revision).await
    }
    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}

struct Rig {
    store: Arc<Lossy>,
    services: Arc<ServiceHook>,
    server: Arc<Server>,
    _tasks: JoinSet<()>,
}

impl Rig {
    async fn start() -> Rig {
        let rig = Rig::over(Arc::new(Lossy::default()), true).await;
        rig.services.load().await;
        rig
    }

    /// A server on this store whose allocations are not loaded yet; or one that does not allocate.
    async fn over(store: Arc<Lossy>, allocates: bool) -> Rig {
        let resources = Resources::new(store.clone(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let running = resources.clone();
        tasks.spawn(async move { running.run().await });
        resources.synced().await;
        let ports = PortRange { first: 30000, last: 32767 };
        let services =
            Arc::new(ServiceHook::new(resources.clone(), &["10.0.0.0/24".parse().unwrap()], ports));
        let hooks: Vec<Arc<dyn Hook>> = if allocates { vec![services.clone()] } else { Vec::new() };
        let server = Server::new(resources.clone(), None, None, hooks);
        let (keeping, keeper) = (services.clone(), server.clone());
        tasks.spawn(async move {
            keeping.keep(&keeper, Duration::from_secs(3600), &CancellationToken::new()).await
        });
        let namespace = json!({"metadata": {"name": "default"}});
        let _ = server.create(kinds::namespaces(), "", namespace).await;
        Rig { store, services, server, _tasks: tasks }
    }

    fn fail(&self, mode: u8) {
        self.store.mode.store(mode, Ordering::SeqCst);
    }

    async fn create(&self, name: &str, address: &str, port: u16) -> Result<Tree, Status> {
        let service = json!({"metadata": {"name": name}, "spec": {
            "type": "NodePort", "clusterIP": address, "selector": {"a": "b"},
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": port}],
        }});
        self.server.create(kinds::services(), "default", service).await
    }

    /// [`Rig::create`] by somebody who does not wait for the answer.
    async fn create_and_leave(&self, name: &str, address: &str, port: u16) {
        let left = tokio::time::timeout(Duration::from_millis(100), self.create(name, address, port)).await;
        assert!(left.is_err(), "{left:?}");
    }

    async fn create_soon(&self, name: &str, address: &str, port: u16) {
        let mut last = None;
        for _ in 0..200 {
            match self.create(name, address, port).await {
                Ok(_) => return,
                Err(status) => last = Some(status),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{last:?}");
    }

    /// Neither of the two is given out again.
    async fn refuses(&self, address: &str, port: u16) {
        let status = self.create("other", "10.0.0.200", port).await.unwrap_err();
        assert!(status.message.contains("provided port is already allocated"), "{}", status.message);
        let status = self.create("other", address, 31999).await.unwrap_err();
        assert!(status.message.contains("provided IP is already allocated"), "{}", status.message);
        assert!(self.has_object(address).await);
    }

    async fn has_object(&self, address: &str) -> bool {
        self.services.resources.catch_up().await;
        self.services.resources.get(kinds::ip_addresses(), "", address).is_some()
    }
}

#[tokio::test]
async fn a_request_given_up_leaves_nothing_taken() {
    let rig = Rig::start().await;
    rig.fail(SILENT);
    rig.create_and_leave("a", "10.0.0.50", 30080).await;
    rig.fail(FINE);
    rig.create_soon("b", "10.0.0.50", 30080).await;
}

#[tokio::test]
async fn a_request_given_up_after_its_write_keeps_what_it_took() {
    let rig = Rig::start().await;
    rig.fail(SILENT_AFTER_THE_WRITE);
    rig.create_and_leave("a", "10.0.0.50", 30080).await;
    rig.fail(FINE);
    tokio::time::sleep(Duration::from_millis(600)).await;
    rig.refuses("10.0.0.50", 30080).await;
    rig.server.delete(kinds::services(), "default", "a").await.unwrap();
    rig.create("b", "10.0.0.50", 30080).await.unwrap();
}

#[tokio::test]
async fn reservations_of_an_unconfirmed_write_are_not_reused() {
    let rig = Rig::start().await;
    rig.fail(LOST_AFTER_THE_WRITE);
    assert_eq!(
        rig.create("a", "10.0.0.50", 30080).await.unwrap_err().message,
        "etcdserver: request timed out"
    );
    rig.fail(FINE);
    rig.refuses("10.0.0.50", 30080).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    rig.refuses("10.0.0.50", 30080).await;

    rig.fail(LOST);
    rig.create("b", "10.0.0.51", 30081).await.unwrap_err();
    rig.fail(FINE);
    rig.create_soon("c", "10.0.0.51", 30081).await;
}

#[tokio::test]
async fn an_update_that_was_not_confirmed_gives_up_nothing_it_still_has() {
    let rig = Rig::start().await;
    rig.create("a", "10.0.0.50", 30080).await.unwrap();
    let change = |port: u16| {
        move |service: &mut Tree| {
            service["spec"]["ports"][0]["nodePort"] = json!(port);
            Ok(true)
        }
    };
    let server = &rig.server;
    rig.fail(LOST);
    server.update(kinds::services(), "", "default", "a", &change(30081)).await.unwrap_err();
    rig.fail(FINE);
    rig.create_soon("b", "10.0.0.51", 30081).await;
    rig.refuses("10.0.0.50", 30080).await;
}

#[tokio::test]
async fn nothing_is_allocated_before_the_stored_state_is_loaded() {
    let store = Arc::new(Lossy::default());
    let before = Rig::over(store.clone(), true).await;
    before.services.load().await;
    before.create("a", "10.0.0.50", 30080).await.unwrap();
    let rig = Rig::over(store, true).await;
    let any = json!({"metadata": {"name": "b"}, "spec": {"ports": [{"port": 80}]}});
    let status = rig.server.create(kinds::services(), "default", any).await.unwrap_err();
    assert_eq!(status.code, 500);
    assert!(
        status.message.ends_with("failed to allocate a serviceIP: allocator not ready"),
        "{}",
        status.message
    );
    rig.services.load().await;
    rig.refuses("10.0.0.50", 30080).await;
}

#[tokio::test]
async fn repairs_bring_allocations_and_services_together() {
    let rig = Rig::start().await;
    let services = &rig.services;
    let now = Timestamp::now();
    // another server's
    let other = Rig::over(rig.store.clone(), false).await;
    let service = json!({"metadata": {"name": "a"}, "spec": {
        "type": "NodePort", "clusterIP": "10.0.0.50", "clusterIPs": ["10.0.0.50"], "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    }});
    other.server.create(kinds::services(), "default", service).await.unwrap();
    services.repair_at(&rig.server, now).await.unwrap();
    rig.refuses("10.0.0.50", 30080).await;

    // taken for nobody: not given back before the third time
    let take = |ports: &mut Ports| ports.take(30081).map_err(Status::internal);
    services.ports.change(take).await.unwrap();
    services.addresses[0].lock().take("10.0.0.51".parse().unwrap()).unwrap();
    for _ in 0..2 {
        services.repair_at(&rig.server, now).await.unwrap();
        assert!(services.ports.change(|ports| Ok(ports.contains(30081))).await.unwrap());
        assert!(services.addresses[0].lock().taken().any(|address| address.to_string() == "10.0.0.51"));
    }
    services.repair_at(&rig.server, now).await.unwrap();
    rig.create("b", "10.0.0.51", 30081).await.unwrap();

    // a Service that never came
    let object = super::object("10.0.0.52".parse().unwrap(), "default", "gone");
    rig.server.create(kinds::ip_addresses(), "", object).await.unwrap();
    services.repair_at(&rig.server, now).await.unwrap();
    assert!(rig.has_object("10.0.0.52").await);
    services.repair_at(&rig.server, now + SignedDuration::from_secs(90)).await.unwrap();
    assert!(!rig.has_object("10.0.0.52").await);
    assert!(rig.has_object("10.0.0.51").await);
}

/// Two servers on one store: neither gives out what the other has.
#[tokio::test]
async fn two_servers_give_no_node_port_twice() {
    let one = Rig::start().await;
    let other = Rig::over(one.store.clone(), true).await;
    other.services.load().await;
    one.create("a", "10.0.0.50", 30080).await.unwrap();
    let status = other.create("b", "10.0.0.51", 30080).await.unwrap_err();
    assert!(status.message.contains("provided port is already allocated"), "{}", status.message);
    one.server.delete(kinds::services(), "default", "a").await.unwrap();
    other.create("b", "10.0.0.51", 30080).await.unwrap();
}

/// A Service that waits for its finalizers is a Service still: what its updates ask for is taken.
#[tokio::test]
async fn services_being_deleted_take_node_ports_too() {
    let rig = Rig::start().await;
    let change = async |change: fn(&mut Tree)| {
        let change = move |service: &mut Tree| {
            change(service);
            Ok(true)
        };
        rig.server.update(kinds::services(), "", "default", "a", &change).await.unwrap()
    };
    rig.create("a", "10.0.0.50", 30080).await.unwrap();
    change(|service| service["metadata"]["finalizers"] = json!(["example.com/wait"])).await;
    rig.server.delete(kinds::services(), "default", "a").await.unwrap();
    let going = change(|service| service["spec"]["ports"][0]["nodePort"] = json!(30090)).await;
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    rig.refuses("10.0.0.50", 30090).await;
    rig.create("b", "10.0.0.51", 30080).await.unwrap();

    change(|service| service["metadata"]["finalizers"] = json!([])).await;
    rig.create("c", "10.0.0.50", 30090).await.unwrap();
}

/// What nobody can read may use anything: it is neither given out nor taken away.
#[tokio::test]
async fn an_unreadable_service_keeps_what_it_has() {
    const HEAD: &[u8] = b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07Service\x12";
    // cut off in the envelope's content; whole, with a port that is not
    for content in [&b"\x04\x0a\xff\xff\xff"[..], b"\x06\x0a\x00\x12\x02\x0a\x7f\x1a\0\x22\0"] {
        let rig = Rig::start().await;
        let (services, resources) = (&rig.services, &rig.services.resources);
        rig.create("a", "10.0.0.50", 30080).await.unwrap();
        let key = b"/registry/services/specs/default/a";
        let before = rig.store.get(key).await.unwrap().0.unwrap();
        let bytes = [HEAD, content].concat().into();
        rig.store.put(key, bytes, before.mod_revision, None).await.unwrap();
        resources.catch_up().await;
        for minutes in 1..6 {
            let late = Timestamp::now() + SignedDuration::from_mins(minutes);
            let status = services.repair_at(&rig.server, late).await.unwrap_err();
            assert!(status.message.contains("corrupt object"), "{}", status.message);
        }
        rig.refuses("10.0.0.50", 30080).await;
        // nor does another server think so
        let other = Rig::over(rig.store.clone(), true).await;
        let loaded = tokio::time::timeout(Duration::from_millis(100), other.services.load()).await;
        assert!(loaded.is_err(), "a server without all Services is ready");
    }
}
