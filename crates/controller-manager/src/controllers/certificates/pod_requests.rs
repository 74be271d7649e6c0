//! `podcertificaterequest-cleaner-controller`: requests of kubelets for pods' certificates go after a while, answered or
//! not.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Informer, Key, View};
use controllers::views::Meta;
use controllers::{Context, Error, Next, Reconcile};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use serde::Deserialize;

use crate::Options;

const AGE: i64 = 15 * 60;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodRequest {
    metadata: Meta,
}

impl View for PodRequest {
    type Of = PodCertificateRequest;
    const METADATA_ONLY: bool = true;
}

struct Controller {
    requests: Informer<PodRequest>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "podcertificaterequestcleaner";
    let mut builder = context.builder("podcertificaterequestcleaner", account, account).await?;
    let requests = builder.reconciles();
    builder.run(1, Controller { requests }).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(request) = self.requests.get_key(key) else { return Ok(Next::Done) };
        let left = request.metadata.created().as_second() + AGE - Timestamp::now().as_second();
        if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        let options = DeleteOptions::default().uid(request.metadata.uid.clone());
        match client.delete::<PodRequest>(key.namespace(), &key.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(Next::Done),
        }
    }
}
