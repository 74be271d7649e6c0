//! `serviceaccount-controller`: every namespace has a service account `default`.

use std::sync::Arc;

use client::{Client, Event, Informer, Key, Selectors};
use serde_json::json;

use crate::context::{Context, Error};
use crate::views::{Namespace, ServiceAccount};

const NAME: &str = "default";

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("service-account-controller").await?;
    let queue = context.queue("serviceaccount");
    let namespaces: Informer<Namespace> = context.informers.all();
    let accounts: Informer<ServiceAccount> =
        context.informers.watch(client::Scope::All, Selectors::fields(format!("metadata.name={NAME}")));
    let touch = queue.clone();
    accounts.on_keyed_event(move |key, event| {
        if let Event::Deleted(_) = event {
            touch.add(Key::new("", &key.namespace));
        }
    });
    accounts.synced().await;
    namespaces.enqueue_to(queue.clone());
    namespaces.synced().await;
    let controller = Arc::new((client, namespaces, accounts));
    context
        .work(queue, 1, move |key| {
            let controller = controller.clone();
            async move { reconcile(&controller.0, &controller.1, &controller.2, &key).await }
        })
        .await;
    Ok(())
}

async fn reconcile(
    client: &Client,
    namespaces: &Informer<Namespace>,
    accounts: &Informer<ServiceAccount>,
    key: &Key,
) -> Result<(), Error> {
    let Some(namespace) = namespaces.get_key(key) else { return Ok(()) };
    if !namespace.is_active() || accounts.get(Some(&key.name), NAME).is_some() {
        return Ok(());
    }
    let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": &*key.name}});
    match client.create::<ServiceAccount>(Some(&key.name), &body).await {
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}
