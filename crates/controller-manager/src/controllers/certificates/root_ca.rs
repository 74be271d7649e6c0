//! `root-ca-certificate-publisher-controller`: every namespace has a config map with the authority by which pods
//! verify the API server.

use std::sync::Arc;

use client::{Client, Event, Informer, Key, Material, Scope, Selectors};
use controllers::views::{ConfigMap, Namespace};
use controllers::{Context, Error, Next, Reconcile};
use serde_json::{Value, json};

use crate::Options;

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

struct Controller {
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    authority: String,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "root-ca-cert-publisher";
    let mut builder = context.builder("root_ca_cert_publisher", account, account).await?;
    let selectors = Selectors::fields(format!("metadata.name={NAME}"));
    let controller = Controller {
        namespaces: builder.reconciles(),
        maps: builder.reads_some(Scope::All, selectors),
        authority: authority(&context, &options).await?,
    };
    let queue = builder.queue.clone();
    controller.maps.on_keyed_event(move |key, event| {
        if !matches!(event, Event::Added(_)) {
            queue.add(Key::new("", &key.namespace));
        }
    });
    builder.run(1, controller).await
}

/// `--root-ca-file`, else the authority of our own connection.
pub(in crate::controllers) async fn authority(context: &Context, options: &Options) -> Result<String, Error> {
    let file = &options.root_ca_file;
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

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        if !self.namespaces.get_key(key).is_some_and(|namespace| namespace.is_active()) {
            return Ok(Next::Done);
        }
        let name: &str = &key.name;
        let current = self.maps.get(Some(name), NAME);
        let Some(body) = wanted(&self.authority, current.as_deref()) else { return Ok(Next::Done) };
        let result = match current {
            Some(_) => client.update::<ConfigMap>(Some(name), NAME, &body).await,
            None => client.create::<ConfigMap>(Some(name), &body).await,
        };
        let passes = |error: &client::Error| {
            error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found()
        };
        match result {
            Err(error) if !passes(&error) => Err(error.into()),
            _ => Ok(Next::Done),
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
