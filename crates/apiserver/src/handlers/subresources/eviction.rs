//! `pods/eviction`: a delete that disruption budgets can refuse.

use api::decode::Expected;
use api::status::{Cause, Details};
use api::{Status, Tree};
use bytes::Bytes;
use http::Response;
use machinery::labels::Selector;
use serde_json::json;

use super::super::mutate::decode;
use super::super::options::WriteOptions;
use super::super::{Call, delete_options};
use crate::body::Body;
use crate::negotiate::status_response;
use crate::writes::delete::delete;
use crate::writes::{self, Operation};

pub async fn evict(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let expected = Expected { group: "policy", version: "v1", kind: "Eviction" };
    let eviction = decode(call, &body, expected, &options)?;
    let name = eviction.pointer("/metadata/name").and_then(Tree::as_str).unwrap_or_default();
    if name != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let (deletion, also_dry) = delete_options::of_object(eviction.get("deleteOptions"))?;
    let dry_run = options.dry_run || also_dry;
    let pod = super::fresh(call).await?.tree();
    if !needs_no_budget(&pod) {
        check_budgets(call, &pod, dry_run).await?;
    }
    mark(call, dry_run).await?;
    let operation = Operation { subresource: "", ..call.operation(dry_run) };
    delete(&operation, &deletion).await?;
    let mut done = Status::success(None);
    done.code = 201;
    Ok(status_response(call.headers, &done))
}

/// Writes why the pod ends, for whoever looks at how it ended.
async fn mark(call: &Call<'_>, dry_run: bool) -> Result<(), Status> {
    let operation = Operation { subresource: "status", ..call.operation(dry_run) };
    let change = |old: &Tree| {
        let mut pod = old.clone();
        let same = |condition: &Tree| condition.get("type").and_then(Tree::as_str) == Some(DISRUPTED);
        let is_set = |condition: &Tree| {
            same(condition) && condition.get("status").and_then(Tree::as_str) == Some("True")
        };
        let status = pod.as_object_mut().map(|pod| pod.entry("status").or_insert_with(|| json!({})));
        let Some(status) = status.and_then(Tree::as_object_mut) else { return Ok(pod) };
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        if conditions.is_null() {
            *conditions = json!([]);
        }
        let Some(conditions) = conditions.as_array_mut() else { return Ok(pod) };
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let before = conditions.iter().find(|condition| is_set(condition));
        let since = before.and_then(|condition| condition.get("lastTransitionTime")).cloned();
        let condition = json!({
            "type": DISRUPTED, "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null,
            "lastTransitionTime": since.unwrap_or_else(|| now.into()),
        });
        match conditions.iter_mut().find(|condition| same(condition)) {
            Some(place) => *place = condition,
            None => conditions.push(condition),
        }
        Ok(pod)
    };
    writes::update(&operation, &change, None, &mut Vec::new()).await.map(|_| ())
}

const DISRUPTED: &str = "DisruptionTarget";

/// Pods that do not run, or already end, can always go.
fn needs_no_budget(pod: &Tree) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Tree::as_str).unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending")
        || pod.pointer("/metadata/deletionTimestamp").is_some_and(Tree::is_string)
}

fn is_ready(pod: &Tree) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Tree::as_array);
    let says = |condition: &Tree, field: &str, value: &str| {
        condition.get(field).and_then(Tree::as_str) == Some(value)
    };
    conditions.into_iter().flatten().any(|one| says(one, "type", "Ready") && says(one, "status", "True"))
}

/// Whether a pod that is not ready can go without being counted: where the policy says so, or else where enough others are.
fn spares_unhealthy(budget: &Tree) -> bool {
    let number = |pointer: &str| budget.pointer(pointer).and_then(Tree::as_i64).unwrap_or_default();
    let policy = budget.pointer("/spec/unhealthyPodEvictionPolicy").and_then(Tree::as_str);
    let desired = number("/status/desiredHealthy");
    policy == Some("AlwaysAllow") || (desired > 0 && number("/status/currentHealthy") >= desired)
}

/// Says that no disruption is left.
fn used_up(status: &mut serde_json::Map<String, Tree>, generation: i64) {
    const ALLOWED: &str = "DisruptionAllowed";
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if conditions.is_null() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let place = conditions.iter_mut().find(|one| one.get("type").and_then(Tree::as_str) == Some(ALLOWED));
    let said = |field: &str| place.as_ref().and_then(|one| one.get(field)).cloned();
    let now = || jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    let since = said("lastTransitionTime").filter(|_| said("status") == Some("False".into()));
    let condition = json!({
        "type": ALLOWED, "status": "False", "observedGeneration": generation,
        "lastTransitionTime": since.unwrap_or_else(now), "reason": "InsufficientPods", "message": "",
    });
    match place {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

async fn check_budgets(call: &Call<'_>, pod: &Tree, dry_run: bool) -> Result<(), Status> {
    let budgets: Vec<Tree> = super::others(call, "policy", "v1", "poddisruptionbudgets")
        .into_iter()
        .filter(|budget| {
            let selector = budget.pointer("/spec/selector").unwrap_or(&Tree::Null);
            !selector.is_null()
                && Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches_object(pod))
        })
        .collect();
    if budgets.len() > 1 {
        return Err(Status::failure(
            500,
            "InternalError",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let Some(budget) = budgets.first() else { return Ok(()) };
    if !is_ready(pod) && spares_unhealthy(budget) {
        return Ok(());
    }
    let name = budget.pointer("/metadata/name").and_then(Tree::as_str).unwrap_or_default();
    let Some(resource) = api::tables::resource("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let operation = Operation { resource, subresource: "status", name, ..call.operation(dry_run) };
    let pod_name = call.name();
    let take = |old: &Tree| {
        let mut budget = old.clone();
        let number = |pointer: &str| old.pointer(pointer).and_then(Tree::as_i64).unwrap_or_default();
        let mut refused =
            Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0);
        if number("/status/observedGeneration") < number("/metadata/generation") {
            refused.message = "Cannot evict pod as it would violate the pod's disruption budget.".to_owned();
            let message = format!("The disruption budget {name} is still being processed by the server.");
            let details = refused.details.get_or_insert_with(Details::default);
            details.causes.push(Cause {
                reason: "DisruptionBudget".to_owned(),
                message,
                field: String::new(),
            });
            details.retry_after_seconds = 10;
            return Err(refused);
        }
        let allowed = number("/status/disruptionsAllowed");
        if allowed <= 0 {
            let message = format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                number("/status/desiredHealthy"),
                number("/status/currentHealthy")
            );
            let details = refused.details.get_or_insert_with(Details::default);
            details.causes.push(Cause {
                reason: "DisruptionBudget".to_owned(),
                message,
                field: String::new(),
            });
            return Err(refused);
        }
        if let Some(status) = budget.get_mut("status").and_then(Tree::as_object_mut) {
            status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
            if allowed == 1 {
                used_up(status, number("/status/observedGeneration"));
            }
            let disrupted = status.entry("disruptedPods").or_insert_with(|| serde_json::Map::new().into());
            if let Some(disrupted) = disrupted.as_object_mut() {
                let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                disrupted.insert(pod_name.to_owned(), now.into());
            }
        }
        Ok(budget)
    };
    writes::update(&operation, &take, None, &mut Vec::new()).await.map(|_| ())
}
