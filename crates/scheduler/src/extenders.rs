//! Extenders: HTTP servers that are asked which nodes do for a pod, how good these are, whom to preempt, and to bind.
//!
//! Upstream's protocol: the fields of requests and answers have the names of its Go structs, which read answers in any
//! case. What is asked and when is the core's to say (`core/inquiry.rs`).

mod http;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config};
use futures::future::join_all;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::cluster::pod::Needs;
use crate::cluster::{Pod, Symbol};
use crate::config::extenders::{ExtenderConfiguration, ExtenderTls};
use crate::core::inquiry::{Answer, Inquiry, Question, Verdicts};
use crate::framework::MAX_SCORE;
use crate::plugins::Candidate;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The highest score that an extender gives.
const MAX_PRIORITY: i64 = 10;

/// All extenders, in the order in which they are asked.
#[derive(Default)]
pub struct Extenders(Vec<Extender>);

struct Extender {
    configuration: ExtenderConfiguration,
    url: String,
    client: Client,
    managed: Vec<Symbol>,
    timeout: Duration,
}

/// What an extender reads of the cluster: whole objects, as the API has them.
#[async_trait::async_trait]
pub trait Objects: Sync {
    async fn pod(&self, pod: &Pod) -> Result<Value, String>;
    async fn node(&self, name: &Symbol) -> Result<Value, String>;
    /// Pods on a node by their UIDs.
    fn placed(&self, extender: &str, node: &Symbol, uids: &[String]) -> Result<Vec<Arc<Pod>>, String>;
}

impl Extenders {
    pub fn new(configurations: &[ExtenderConfiguration]) -> Result<Extenders, String> {
        let made: Result<Vec<Extender>, String> = configurations.iter().map(Extender::new).collect();
        let mut extenders = made.map_err(|message| format!("couldn't build extenders: {message}"))?;
        // Those that matter first.
        extenders.sort_by_key(|extender| extender.configuration.ignorable);
        Ok(Extenders(extenders))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them has to be sent whole nodes.
    pub fn need_nodes(&self) -> bool {
        self.0.iter().map(|extender| &extender.configuration).any(|own| {
            let sends_nodes = !own.filter_verb.is_empty() || !own.prioritize_verb.is_empty();
            sends_nodes && !own.node_cache_capable
        })
    }

    fn interested(&self, needs: &Needs) -> impl Iterator<Item = &Extender> {
        self.0.iter().filter(|extender| extender.is_interested(needs))
    }

    /// Whether any of them may reject nodes for such a pod.
    pub fn filter(&self, needs: &Needs) -> bool {
        self.interested(needs).any(|extender| !extender.configuration.filter_verb.is_empty())
    }

    pub fn prioritize(&self, needs: &Needs) -> bool {
        self.interested(needs).any(|extender| !extender.configuration.prioritize_verb.is_empty())
    }

    pub fn preempt(&self, needs: &Needs) -> bool {
        self.interested(needs).any(|extender| !extender.configuration.preempt_verb.is_empty())
    }

    pub async fn answer(&self, inquiry: &Inquiry, objects: &dyn Objects) -> Answer {
        let pod = &inquiry.pod;
        match &inquiry.question {
            Question::Promised(node) => {
                Answer::Nodes(self.ask(pod, std::slice::from_ref(node), objects).await)
            }
            Question::Nodes(nodes) => Answer::Nodes(self.ask(pod, nodes, objects).await),
            Question::Victims(candidates) => {
                Answer::Victims(self.ask_victims(pod, candidates.clone(), objects).await)
            }
        }
    }

    /// Asks which of the nodes do, one extender after the other, and all at once how good these are.
    async fn ask(&self, pod: &Pod, nodes: &[Symbol], objects: &dyn Objects) -> Result<Verdicts, String> {
        let whole = objects.pod(pod).await?;
        let mut verdicts = Verdicts { kept: nodes.to_vec(), ..Verdicts::default() };
        for extender in self.interested(&pod.needs) {
            if extender.configuration.filter_verb.is_empty() {
                continue;
            }
            if verdicts.kept.is_empty() {
                break;
            }
            match extender.filter(&whole, &mut verdicts, objects).await {
                Ok(()) => {}
                Err(error) if extender.configuration.ignorable => {
                    tracing::info!(
                        extender = extender.url,
                        err = error,
                        "Skipping extender as it returned error and has ignorable flag set"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        if verdicts.kept.len() > 1 {
            let of_pod: Vec<&Extender> = self.interested(&pod.needs).collect();
            let asked = of_pod.iter().map(|extender| extender.prioritize(&whole, &verdicts.kept, objects));
            for (extender, scores) in of_pod.iter().zip(join_all(asked).await) {
                match scores {
                    Ok(scores) => {
                        for (node, score) in scores {
                            *verdicts.scores.entry(node).or_default() += score;
                        }
                    }
                    Err(error) => tracing::debug!(
                        extender = extender.url,
                        error,
                        "Failed to run extender's priority function. No score given by this extender."
                    ),
                }
            }
        }
        Ok(verdicts)
    }

    /// Asks for which candidates the victims do.
    async fn ask_victims(
        &self,
        pod: &Pod,
        mut candidates: Vec<Candidate>,
        objects: &dyn Objects,
    ) -> Result<Vec<Candidate>, String> {
        let whole = objects.pod(pod).await?;
        for extender in self.interested(&pod.needs) {
            if extender.configuration.preempt_verb.is_empty() || candidates.is_empty() {
                continue;
            }
            match extender.preempt(&whole, &candidates, objects).await {
                Ok(kept) => candidates = kept,
                Err(error) if extender.configuration.ignorable => {
                    tracing::info!(
                        extender = extender.url,
                        err = error,
                        "Skipped extender as it returned error and has ignorable flag set"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(candidates)
    }

    /// Has the extender bind the pod that does so; none where there is none.
    pub async fn bind(&self, pod: &Pod, node: &Symbol) -> Option<Result<(), String>> {
        for extender in self.interested(&pod.needs) {
            if extender.configuration.bind_verb.is_empty() {
                continue;
            }
            match extender.bind(pod, node).await {
                Err(error) if extender.configuration.ignorable => {
                    tracing::info!(
                        extender = extender.url,
                        err = error,
                        "Skipping extender in bind as it returned error and has ignorable flag set"
                    );
                }
                result => return Some(result),
            }
        }
        None
    }
}

impl Extender {
    fn new(configuration: &ExtenderConfiguration) -> Result<Extender, String> {
        let url = configuration.url_prefix.clone();
        let mut config = Config::new(&url).map_err(|error| error.to_string())?;
        let none = ExtenderTls::default();
        let tls = configuration.tls_config.as_ref().unwrap_or(&none);
        config.insecure = tls.insecure;
        config.server_name = Some(tls.server_name.clone()).filter(|name| !name.is_empty());
        config.certificate_authority = ExtenderTls::material(&tls.ca_data, &tls.ca_file)?;
        let certificate = ExtenderTls::material(&tls.cert_data, &tls.cert_file)?;
        let key = ExtenderTls::material(&tls.key_data, &tls.key_file)?;
        config.credentials.certificate = certificate.zip(key);
        if configuration.enable_https && config.certificate_authority.is_none() {
            config.insecure = true;
        }
        let timeout =
            if configuration.http_timeout.is_zero() { TIMEOUT } else { *configuration.http_timeout };
        let managed = configuration.managed_resources.iter().map(|resource| Symbol::new(&resource.name));
        let client = Client::new(config).map_err(|error| error.to_string())?;
        Ok(Extender {
            configuration: configuration.clone(),
            url,
            client,
            managed: managed.collect(),
            timeout,
        })
    }

    /// Whether the pod requests what the extender manages, where it does not manage everything.
    fn is_interested(&self, needs: &Needs) -> bool {
        self.managed.is_empty() || needs.requests.others.iter().any(|(name, _)| self.managed.contains(name))
    }

    async fn arguments(&self, pod: &Value, nodes: &[Symbol], objects: &dyn Objects) -> Result<Value, String> {
        if self.configuration.node_cache_capable {
            let names: Vec<&str> = nodes.iter().map(Symbol::as_str).collect();
            return Ok(json!({"Pod": pod, "Nodes": null, "NodeNames": names}));
        }
        let mut items = Vec::with_capacity(nodes.len());
        for node in nodes {
            items.push(objects.node(node).await?);
        }
        Ok(json!({"Pod": pod, "Nodes": {"metadata": {}, "items": items}, "NodeNames": null}))
    }

    async fn filter(
        &self,
        pod: &Value,
        verdicts: &mut Verdicts,
        objects: &dyn Objects,
    ) -> Result<(), String> {
        let arguments = self.arguments(pod, &verdicts.kept, objects).await?;
        let result = self.send(&self.configuration.filter_verb, &arguments).await?;
        if let Some(error) = http::error(&result) {
            return Err(error);
        }
        let by_name: FxHashMap<&str, &Symbol> =
            verdicts.kept.iter().map(|name| (name.as_str(), name)).collect();
        let names = http::field(&result, "NodeNames").and_then(Value::as_array);
        let mut kept = Vec::new();
        if let Some(names) = names.filter(|_| self.configuration.node_cache_capable) {
            for name in names.iter().filter_map(Value::as_str) {
                let known = by_name.get(name).ok_or_else(|| {
                    let url = &self.url;
                    format!("extender {url:?} claims a filtered node {name:?} which is not found in the input node list")
                })?;
                kept.push((*known).clone());
            }
        } else if let Some(nodes) = http::field(&result, "Nodes") {
            let items = http::field(nodes, "items").and_then(Value::as_array).into_iter().flatten();
            let names = items.filter_map(|node| node.pointer("/metadata/name")?.as_str());
            kept.extend(names.filter_map(|name| by_name.get(name)).map(|name| (*name).clone()));
        }
        for (of, is_unresolvable) in [("FailedNodes", false), ("FailedAndUnresolvableNodes", true)] {
            let failed = http::field(&result, of).and_then(Value::as_object).into_iter().flatten();
            for (name, message) in failed {
                let message = message.as_str().unwrap_or_default().into();
                verdicts.failed.insert(Symbol::new(name), (message, is_unresolvable));
            }
        }
        verdicts.kept = kept;
        Ok(())
    }

    /// Scores of nodes, in the measure of the plugins' sums.
    async fn prioritize(
        &self,
        pod: &Value,
        nodes: &[Symbol],
        objects: &dyn Objects,
    ) -> Result<Vec<(Symbol, i64)>, String> {
        if self.configuration.prioritize_verb.is_empty() {
            return Ok(Vec::new());
        }
        let arguments = self.arguments(pod, nodes, objects).await?;
        let result = self.send(&self.configuration.prioritize_verb, &arguments).await?;
        let scores = result.as_array().into_iter().flatten().filter_map(|own| {
            let score = http::field(own, "Score").and_then(Value::as_i64).unwrap_or(0);
            let score = score * self.configuration.weight * (MAX_SCORE / MAX_PRIORITY);
            Some((Symbol::new(http::field(own, "Host")?.as_str()?), score))
        });
        Ok(scores.collect())
    }

    async fn preempt(
        &self,
        pod: &Value,
        candidates: &[Candidate],
        objects: &dyn Objects,
    ) -> Result<Vec<Candidate>, String> {
        let mut victims = serde_json::Map::new();
        for candidate in candidates {
            let mut pods = Vec::new();
            for victim in &candidate.victims.pods {
                pods.push(match self.configuration.node_cache_capable {
                    true => json!({"UID": &*victim.uid}),
                    false => objects.pod(victim).await?,
                });
            }
            let own = json!({"Pods": pods, "NumPDBViolations": candidate.violations});
            victims.insert(candidate.victims.node.to_string(), own);
        }
        let (whole, meta) = match self.configuration.node_cache_capable {
            true => (Value::Null, victims.into()),
            false => (victims.into(), Value::Null),
        };
        let arguments = json!({"Pod": pod, "NodeNameToVictims": whole, "NodeNameToMetaVictims": meta});
        let result = self.send(&self.configuration.preempt_verb, &arguments).await?;
        let nodes = http::field(&result, "NodeNameToMetaVictims").and_then(Value::as_object);
        let mut kept: BTreeMap<&str, Candidate> = BTreeMap::new();
        for (name, victims) in nodes.into_iter().flatten() {
            let uids = http::field(victims, "Pods").and_then(Value::as_array).into_iter().flatten();
            let uids = uids.filter_map(|pod| Some(http::field(pod, "UID")?.as_str()?.to_owned()));
            let uids: Vec<String> = uids.collect();
            let node = Symbol::new(name);
            let pods = objects.placed(&self.url, &node, &uids)?;
            if pods.is_empty() {
                if self.configuration.ignorable {
                    continue;
                }
                return Err(format!("expected at least one victim pod on node {name:?}"));
            }
            let violations = http::field(victims, "NumPDBViolations").and_then(Value::as_u64);
            let violations = violations.unwrap_or(0) as usize;
            kept.insert(name, Candidate { victims: crate::plugins::Victims { node, pods }, violations });
        }
        Ok(kept.into_values().collect())
    }

    async fn bind(&self, pod: &Pod, node: &Symbol) -> Result<(), String> {
        let arguments = json!({
            "PodName": &*pod.key.name, "PodNamespace": &*pod.key.namespace, "PodUID": &*pod.uid,
            "Node": node.as_str(),
        });
        let result = self.send(&self.configuration.bind_verb, &arguments).await?;
        http::error(&result).map_or(Ok(()), Err)
    }
}
