//! `validatingadmissionpolicy-status-controller`: says in a policy's status which of its expressions do not fit the types of the
//! objects that it is about. Nothing hangs on it: the policy works as it is.

mod types;

use std::collections::HashMap;
use std::sync::Arc;

use api::Tree;
use client::{Client, Informer, Key, Patch, Request, View};
use controllers::kinds::discovery;
use controllers::views::Meta;
use controllers::{Context, Error, Next, Reconcile};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Options;
use types::{Kind, Schemas, Spec};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Policy {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
}

impl View for Policy {
    type Of = k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
}

struct Controller {
    policies: Informer<Policy>,
}

/// The queue, and the manager of the status.
const NAME: &str = "validatingadmissionpolicy-status";

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "validatingadmissionpolicy-status-controller";
    let mut builder = context.builder(NAME, account, account).await?;
    let policies = builder.reconciles::<Policy>();
    let workers = options.concurrent_validating_admission_policy_status_syncs;
    builder.run(workers, Controller { policies }).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(policy) = self.policies.get_key(key) else { return Ok(Next::Done) };
        let generation = policy.metadata.generation;
        if generation <= policy.status.observed_generation {
            return Ok(Next::Done);
        }
        let warnings = warnings(client, policy).await?;
        let mut checked = json!({});
        if !warnings.is_empty() {
            checked["expressionWarnings"] = warnings.into();
        }
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": key.name},
            "status": {"observedGeneration": generation, "typeChecking": checked},
        });
        let patch = Patch::Apply { manager: NAME.to_owned(), force: true, object };
        client.patch::<Policy>(None, &key.name, Some("status"), patch).await?;
        Ok(Next::Done)
    }
}

async fn warnings(client: &Client, policy: Arc<Policy>) -> Result<Vec<Value>, Error> {
    let spec = &policy.spec;
    if !spec.has_rules() {
        return Ok(Vec::new());
    }
    let kinds = spec.kinds(&discovery::versions(client).await?);
    let mut documents = Documents::list(client).await?;
    for kind in kinds.iter().chain(&spec.parameters()) {
        documents.read(client, kind).await?;
    }
    let number = jiff::Timestamp::now().subsec_nanosecond();
    // Documents of large groups take a while to read, and their types to check.
    let work = move || types::warnings(&policy.spec, &kinds, &documents.schemas(), number);
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Other(error.to_string()))
}

/// Documents of OpenAPI, by the path of their group and version.
struct Documents {
    listed: HashMap<String, String>,
    read: HashMap<String, bytes::Bytes>,
}

#[derive(Deserialize)]
struct List {
    paths: HashMap<String, Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(rename = "serverRelativeURL")]
    url: String,
}

impl Documents {
    async fn list(client: &Client) -> Result<Documents, Error> {
        let list: List = client.call(Request::get("/openapi/v3")).await?;
        let listed = list.paths.into_iter().map(|(path, listed)| (path, listed.url)).collect();
        Ok(Documents { listed, read: HashMap::new() })
    }

    /// Reads the document that a kind is in, where there is one.
    async fn read(&mut self, client: &Client, kind: &Kind) -> Result<(), Error> {
        let path = kind.path();
        if let Some(url) = self.listed.get(&path)
            && !self.read.contains_key(&path)
        {
            let bytes = client.bytes(Request::get(url).accept("application/json")).await?;
            self.read.insert(path, bytes);
        }
        Ok(())
    }

    /// `components.schemas` of each.
    fn schemas(&self) -> Schemas {
        let schemas = |bytes: &bytes::Bytes| {
            let mut document: Tree = serde_json::from_slice(bytes).ok()?;
            Some(document.get_mut("components")?.get_mut("schemas").map(std::mem::take).unwrap_or_default())
        };
        self.read.iter().filter_map(|(path, bytes)| Some((path.clone(), schemas(bytes)?))).collect()
    }
}
