//! `kube-apiserver-serving-clustertrustbundle-publisher-controller`: the authority by which pods verify the API server, as a
//! trust bundle of its signer.

use std::sync::Arc;

use client::{Client, DeleteOptions, Informer, Key, ResourceRef, Scope, Selectors, View};
use controllers::views::{Meta, Partial};
use controllers::{Context, Error, Next, Reconcile};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::root_ca;
use crate::Options;

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Bundle {
    metadata: Meta,
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    trust_bundle: String,
}

impl View for Bundle {
    type Of = ClusterTrustBundle;
}

struct Controller {
    bundles: Informer<Bundle>,
    authority: String,
    name: String,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let authority = root_ca::authority(&context, &options).await?;
    let resource = ResourceRef::of::<Bundle>();
    let served = async {
        context.kinds.known_first().await;
        context.kinds.known().named(&resource.group, &resource.plural).is_some()
    };
    let served = context.shutdown.run_until_cancelled(served).await.unwrap_or(false);
    if authority.is_empty() || !served {
        tracing::info!(
            "No authority is published as a trust bundle: there is none, or the kind is not served"
        );
        context.shutdown.cancelled().await;
        return Ok(());
    }
    let account = "kube-apiserver-serving-clustertrustbundle-publisher";
    let mut builder = context.builder("ca_cert_publisher_cluster_trust_bundles", account, account).await?;
    let selectors = Selectors::fields(format!("spec.signerName={SIGNER}"));
    let bundles: Informer<Bundle> = builder.reads_some(Scope::All, selectors);
    // There is one thing to do, whichever bundle changes.
    let (key, queue) = (Key::new("", SIGNER), builder.queue.clone());
    builder.queue.add(key.clone());
    bundles.on_event(move |_| queue.add(key.clone()));
    let name = bundle_name(&authority);
    builder.run(1, Controller { bundles, authority, name }).await
}

fn bundle_name(authority: &str) -> String {
    let hash = Sha256::digest(authority);
    let hash: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hash}", SIGNER.replace('/', ":"))
}

impl Reconcile for Controller {
    async fn reconcile(&self, _: &Key, client: &Client) -> Result<Next, Error> {
        let resource = ResourceRef::of::<Bundle>();
        let api = client.at(&resource);
        let current = self.bundles.get(None, &self.name);
        let mut body = json!({
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "ClusterTrustBundle",
            "metadata": {"name": self.name},
            "spec": {"signerName": SIGNER, "trustBundle": self.authority},
        });
        match current {
            Some(current) if current.spec.trust_bundle == self.authority => {}
            Some(current) => {
                body["metadata"]["resourceVersion"] = current.metadata.resource_version.as_str().into();
                api.update::<Partial>(None, &self.name, None, &body).await?;
            }
            None => match api.create::<Partial>(None, &body).await {
                Err(error) if !error.is_already_exists() => return Err(error.into()),
                _ => {}
            },
        }
        for other in self.bundles.list() {
            let meta = &other.metadata;
            if meta.name == self.name {
                continue;
            }
            let options = DeleteOptions::default().uid(meta.uid.clone());
            match api.delete(None, &meta.name, &options).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_named_by_their_contents() {
        assert_eq!(bundle_name("abc"), "kubernetes.io:kube-apiserver-serving:ba7816bf8f01cfea414140de");
    }
}
