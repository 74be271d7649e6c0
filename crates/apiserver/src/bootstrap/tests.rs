//! What somebody deletes of a cluster's first objects comes back.

use std::sync::Arc;
use std::time::Duration;

use store::{Memory, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Bootstrap, Hooks, Periods};
use crate::allocate::ServiceHook;
use crate::handlers::Server;
use crate::kinds;
use crate::options::Options;
use crate::resources::Resources;

#[tokio::test]
async fn what_is_deleted_of_the_first_objects_comes_back() {
    let arguments = ["--advertise-address=192.0.2.10", "--service-cluster-ip-range=10.96.0.0/16"];
    let options = match daemon::flags::parse_from::<Options>(arguments.map(str::to_owned), &[]) {
        daemon::flags::Outcome::Run { options, .. } => options,
        other => panic!("{other:?}"),
    };
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let resources = Resources::new(store.clone(), stop.clone());
    let running = resources.clone();
    tasks.spawn(async move { running.run().await });
    resources.synced().await;
    let (ranges, ports) = (&options.service_cluster_ip_range, options.service_node_port_range);
    let services = Arc::new(ServiceHook::new(resources.clone(), ranges, ports));
    services.load().await;
    let _server = Server::new(resources.clone(), None, None, vec![services.clone()]);
    let often = Duration::from_millis(50);
    let bootstrap = Arc::new(Bootstrap {
        resources: resources.clone(),
        store: store.clone(),
        advertise: "192.0.2.10".parse().unwrap(),
        options,
        services,
        client_ca: None,
        request_header_ca: None,
        periods: Periods { service: often, namespaces: often, allocations: often },
    });
    bootstrap.start(&Hooks::default(), &stop, &mut tasks);

    let (namespace, service) =
        ((kinds::namespaces(), "", "kube-node-lease"), (kinds::services(), "default", "kubernetes"));
    let comes = async |(resource, namespace, name), but: &str| {
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
    resources.delete(kinds::services(), "default", "kubernetes").await.unwrap();
    let second = comes(service, &first.uid).await;
    assert_eq!(second.tree()["spec"]["clusterIP"], "10.96.0.1");

    let first = comes(namespace, "").await;
    let key = b"/registry/namespaces/kube-node-lease";
    store.delete(key, first.resource_version).await.unwrap();
    comes(namespace, &first.uid).await;
    stop.cancel();
}
