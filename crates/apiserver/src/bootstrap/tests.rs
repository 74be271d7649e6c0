//! What somebody deletes of a cluster's first objects comes back.

use std::sync::Arc;
use std::time::Duration;

use registry::Kind;
use store::{Memory, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchcache::resources::Resources;

use super::{Bootstrap, Hooks, Periods};

use crate::allocate::ServiceHook;
use crate::handlers::Server;
use crate::kinds;
use crate::options::Options;

struct Rig {
    resources: Arc<Resources>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    server: Arc<Server>,
}

impl Rig {
    /// A server on this store that says it is at this address.
    async fn start(store: Arc<dyn Store>, address: &str) -> Rig {
        let arguments =
            [&format!("--advertise-address={address}"), "--service-cluster-ip-range=10.96.0.0/16"];
        let options = match daemon::flags::parse_from::<Options>(arguments.map(str::to_owned), &[]) {
            daemon::flags::Outcome::Run { options, .. } => options,
            other => panic!("{other:?}"),
        };
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let resources = Resources::new(store.clone(), CancellationToken::new());
        let running = resources.clone();
        tasks.spawn(async move { running.run().await });
        resources.synced().await;
        let (ranges, ports) = (&options.service_cluster_ip_range, options.service_node_port_range);
        let services = Arc::new(ServiceHook::new(resources.clone(), ranges, ports));
        services.load().await;
        let server = Server::new(resources.clone(), None, None, vec![services.clone()]);
        let policy = Arc::new(access::authz::rbac::Policy::default());
        policy.run(&resources, &stop, &mut tasks);
        let often = Duration::from_millis(50);
        let bootstrap = Arc::new(Bootstrap {
            flows: Default::default(),
            resources: resources.clone(),
            server: server.clone(),
            store,
            advertise: address.parse().unwrap(),
            options,
            services,
            policy,
            client_ca: None,
            request_header_ca: None,
            periods: Periods { service: often, namespaces: often, allocations: often },
        });
        bootstrap.start(&Hooks::default(), &stop, &mut tasks);
        Rig { resources, stop, tasks, server }
    }
}

/// Waits until the condition holds.
async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..250 {
        if let Some(found) = found().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not so");
}

#[tokio::test]
async fn the_identity_lease_says_where_the_server_is_and_goes_with_it() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let lease = async || {
        let (start, end) = (b"/registry/leases/kube-system/", b"/registry/leases/kube-system0");
        store.range(start, end, 0, 0).await.unwrap().items.into_iter().next()
    };
    let first = Rig::start(store.clone(), "192.0.2.10").await;
    let made = until("a lease", lease).await;
    // as by a crash
    drop(first);
    let mut second = Rig::start(store.clone(), "192.0.2.11").await;
    let moved = async || lease().await.filter(|lease| lease.mod_revision != made.mod_revision);
    let moved = until("another address", moved).await;
    let text = String::from_utf8_lossy(&moved.value).into_owned();
    assert!(text.contains("192.0.2.11:6443") && !text.contains("192.0.2.10:6443"), "{text}");

    second.stop.cancel();
    until("no lease", async || lease().await.is_none().then_some(())).await;
    second.tasks.shutdown().await;
}

#[tokio::test]
async fn deleted_bootstrap_objects_are_recreated() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let rig = Rig::start(store.clone(), "192.0.2.10").await;
    let resources = &rig.resources;
    let (namespace, service) =
        ((kinds::namespaces(), "", "kube-node-lease"), (kinds::services(), "default", "kubernetes"));
    let comes = async |(resource, namespace, name): (&Arc<Kind>, &str, &str), but: &str| {
        for _ in 0..250 {
            if let Some(entry) = resources.get(resource, namespace, name)
                && *entry.uid != *but
            {
                return entry;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} does not come");
    };
    let first = comes(service, "").await;
    rig.server.delete(kinds::services(), "default", "kubernetes").await.unwrap();
    let second = comes(service, &first.uid).await;
    assert_eq!(second.read().unwrap()["spec"]["clusterIP"], "10.96.0.1");

    let first = comes(namespace, "").await;
    let key = b"/registry/namespaces/kube-node-lease";
    store.delete(key, first.resource_version).await.unwrap();
    comes(namespace, &first.uid).await;
    rig.stop.cancel();
}
