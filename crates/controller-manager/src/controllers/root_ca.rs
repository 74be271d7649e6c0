//! `root-ca-certificate-publisher-controller`: every namespace has a config map with the authority by which pods
//! verify the API server.

use std::sync::Arc;

use client::{Client, Event, Informer, Key, Material, Selectors};
use serde_json::{Value, json};

use crate::context::{Context, Error};
use crate::views::{ConfigMap, Namespace};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

struct Controller {
    client: Client,
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    authority: String,
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("root-ca-cert-publisher").await?;
    let authority = authority(&context).await?;
    let queue = context.queue("root_ca_cert_publisher");
    let namespaces: Informer<Namespace> = context.informers.all();
    let maps: Informer<ConfigMap> =
        context.informers.watch(client::Scope::All, Selectors::fields(format!("metadata.name={NAME}")));
    let touch = queue.clone();
    maps.on_keyed_event(move |key, event| {
        if !matches!(event, Event::Added(_)) {
            touch.add(Key::new("", &key.namespace));
        }
    });
    maps.synced().await;
    namespaces.enqueue_to(queue.clone());
    namespaces.synced().await;
    let controller = Arc::new(Controller { client, namespaces, maps, authority });
    context
        .work(queue, 1, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    Ok(())
}

/// `--root-ca-file`, else the authority of our own connection.
async fn authority(context: &Context) -> Result<String, Error> {
    let file = &context.options.root_ca_file;
    let from_file = async |path: &std::path::Path| {
        let read = tokio::fs::read_to_string(path).await;
        read.map_err(|error| {
            Error::Other(format!("error reading root-ca-file at {}: {error}", path.display()))
        })
    };
    if !file.as_os_str().is_empty() {
        return from_file(file).await;
    }
    match &context.informers.client().config().certificate_authority {
        Some(Material::File(path)) => from_file(path).await,
        Some(Material::Inline(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        _ => Ok(String::new()),
    }
}

fn wanted(authority: &str, current: Option<&ConfigMap>) -> Option<Value> {
    let data = json!({"ca.crt": authority});
    let described =
        current.is_some_and(|map| map.metadata.annotations.contains_key("kubernetes.io/description"));
    if described && current.is_some_and(|map| json!(map.data) == data) {
        return None;
    }
    let mut meta = current.map_or_else(|| json!({"name": NAME}), |map| json!(map.metadata));
    meta["annotations"]["kubernetes.io/description"] = DESCRIPTION.into();
    Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}))
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get_key(key) else { return Ok(()) };
        if !namespace.is_active() {
            return Ok(());
        }
        let name: &str = &key.name;
        let current = self.maps.get(Some(name), NAME);
        let Some(body) = wanted(&self.authority, current.as_deref()) else { return Ok(()) };
        let result = match current {
            Some(_) => self.client.update::<ConfigMap>(Some(name), NAME, &body).await,
            None => self.client.create::<ConfigMap>(Some(name), &body).await,
        };
        match result {
            Err(error)
                if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() =>
            {
                Ok(())
            }
            result => Ok(result.map(drop)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_once() {
        let first = wanted("pem", None).unwrap();
        let map: ConfigMap = serde_json::from_value(first).unwrap();
        assert_eq!(wanted("pem", Some(&map)), None);
        assert!(wanted("new pem", Some(&map)).is_some());
    }
}
