//! `serviceaccount-controller`: every namespace has a service account `default`.

use std::sync::Arc;

use client::{Client, Event, Informer, Key, Scope, Selectors};
use controllers::views::{Namespace, ServiceAccount};
use controllers::{Context, Error, Next, Reconcile};
use serde_json::json;

use crate::Options;

const NAME: &str = "default";

struct Controller {
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "service-account-controller";
    let mut builder = context.builder("serviceaccount", account, account).await?;
    let selectors = Selectors::fields(format!("metadata.name={NAME}"));
    let controller =
        Controller { namespaces: builder.reconciles(), accounts: builder.reads_some(Scope::All, selectors) };
    let queue = builder.queue.clone();
    controller.accounts.on_keyed_event(move |key, event| {
        if let Event::Deleted(_) = event {
            queue.add(Key::new("", &key.namespace));
        }
    });
    builder.run(1, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let active = self.namespaces.get_key(key).is_some_and(|namespace| namespace.is_active());
        if !active || self.accounts.get(Some(&key.name), NAME).is_some() {
            return Ok(Next::Done);
        }
        let metadata = json!({"name": NAME, "namespace": &*key.name});
        let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        match client.create::<ServiceAccount>(Some(&key.name), &body).await {
            Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => {
                Err(error.into())
            }
            _ => Ok(Next::Done),
        }
    }
}
