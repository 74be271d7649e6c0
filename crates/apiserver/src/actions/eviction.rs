//! `pods/eviction`: a delete that disruption budgets can refuse.

use std::time::Duration;

use api::decode::Expected;
use api::json;
use api::status::{Cause, Details};
use api::tree::Object;
use api::{Status, Tree};
use bytes::Bytes;
use http::Response;
use machinery::labels::Selector;

use crate::body::Body;
use crate::handlers::mutate::decode;
use crate::handlers::{Call, delete_options, read};
use crate::kinds;
use crate::negotiate::status_response;
use crate::request::Request;
use crate::request::options::{Way, WriteOptions};
use crate::writes::admission::{self, Sees};
use crate::writes::delete::{DeleteOptions, delete};
use crate::writes::ownership::Owners;
use crate::writes::{self, Write};

/// Attempts at a pod or a budget that others write, too.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);

pub async fn evict(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.request, Way::Create)?;
    let expected = Expected::built_in("policy", "v1", "Eviction");
    let mut eviction = decode(call, &body, expected, &options)?;
    writes::check_namespace(&mut eviction, call.namespace(), true)?;
    let write = call.write(&options);
    admission::mutate(&write, call.resource, &mut eviction).await?;
    let name = eviction.pointer("/metadata/name").and_then(Tree::as_str).unwrap_or_default();
    if name != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let (deletion, also_dry) = delete_options::of_object(eviction.get("deleteOptions"))?;
    admission::validate(&write, call.resource, &eviction).await?;
    let options = WriteOptions { dry_run: options.dry_run || also_dry, ..options.clone() };
    run(call, &deletion, &options).await?;
    let mut done = Status::success(None);
    done.code = 201;
    Ok(status_response(call.request.headers(), &done))
}

async fn run(call: &Call<'_>, deletion: &DeleteOptions, options: &WriteOptions) -> Result<(), Status> {
    let mut attempt = 1;
    let pod = loop {
        let entry = super::fresh(call).await?;
        let pod = entry.read()?;
        if !needs_no_budget(&pod) {
            break pod;
        }
        match remove(call, &of_seen(deletion, &pod), options).await {
            // another wrote it since: it may need a budget by now
            Err(status)
                if is_conflict(&status) && deletion.resource_version.is_none() && attempt < ATTEMPTS => {}
            other => return other,
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    };
    let Some(spared_by) = check_budgets(call, &pod, options).await? else {
        return remove(call, deletion, options).await;
    };
    // the pod was not ready, which must still hold when it is deleted
    let unchanged = DeleteOptions { resource_version: Some(version_of(&pod)), ..deletion.clone() };
    match remove(call, &unchanged, options).await {
        Err(status) if is_conflict(&status) && deletion.resource_version.is_none() => {
            Err(still_processed(&spared_by))
        }
        other => other,
    }
}

fn is_conflict(status: &Status) -> bool {
    status.code == 409
}

fn version_of(pod: &Tree) -> String {
    pod.pointer("/metadata/resourceVersion").and_then(Tree::as_str).unwrap_or_default().to_owned()
}

/// Delete options for a pod that needs no budget, with the seen resource version where it could need one later.
fn of_seen(deletion: &DeleteOptions, pod: &Tree) -> DeleteOptions {
    let phase = pod.pointer("/status/phase").and_then(Tree::as_str).unwrap_or_default();
    let ends = matches!(phase, "Succeeded" | "Failed")
        || pod.pointer("/metadata/deletionTimestamp").is_some_and(Tree::is_string);
    let mut options = deletion.clone();
    if !ends && options.resource_version.is_none() {
        options.resource_version = Some(version_of(pod));
    }
    options
}

/// Writes why the pod ends, and deletes it. The chain has seen the eviction.
async fn remove(call: &Call<'_>, deletion: &DeleteOptions, options: &WriteOptions) -> Result<(), Status> {
    let owners = Owners::Given;
    let write = Write { subresource: "", admission: Sees::Nothing, owners, ..call.write(options) };
    let mut deletion = deletion.clone();
    if !options.dry_run {
        let marked = mark(&Write { subresource: "status", ..write }, &deletion).await?;
        // the version that the mark has just made
        deletion.resource_version = deletion.resource_version.and(Some(marked.to_string()));
    }
    delete(&write, &deletion).await.map(|_| ())
}

/// Writes why the pod ends, for whoever looks at how it ended; answers the version that the pod then has.
async fn mark(write: &Write<'_>, options: &DeleteOptions) -> Result<i64, Status> {
    let change = |old: &Tree, _: &writes::Conversions| {
        check_preconditions(write.name, options, old)?;
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
    let updated = writes::update(write, &change, None).await?;
    Ok(updated.entry.resource_version)
}

fn check_preconditions(name: &str, options: &DeleteOptions, pod: &Tree) -> Result<(), Status> {
    for (field, title, asked, what) in [
        ("uid", "UID", &options.uid, "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", &options.resource_version, "modified"),
    ] {
        let own = pod["metadata"][field].as_str().unwrap_or_default();
        if let Some(asked) = asked.as_deref().filter(|asked| !asked.is_empty() && *asked != own) {
            let why = format!(
                "the {title} in the precondition ({asked}) does not match the {title} in record ({own}). The object might have been {what}"
            );
            return Err(Status::conflict("", "Pod", name, &why));
        }
    }
    Ok(())
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
fn used_up(status: &mut Object, generation: i64) {
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

/// Takes one disruption from the pod's budget; or answers the budget that spares the pod, which is not ready.
async fn check_budgets(
    call: &Call<'_>,
    pod: &Tree,
    options: &WriteOptions,
) -> Result<Option<String>, Status> {
    // budgets that were created a moment ago count, too
    read::wait_for(call, None).await?;
    let budgets: Vec<Tree> = super::others(call, "policy", "v1", "poddisruptionbudgets")?
        .into_iter()
        .filter(|budget| {
            let selector = budget.pointer("/spec/selector").unwrap_or(&Tree::Null);
            !selector.is_null()
                && Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches_object(pod))
        })
        .collect();
    if budgets.len() > 1 {
        let mut status = Status::failure(
            500,
            "",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        );
        status.reason = String::new();
        return Err(status);
    }
    let Some(budget) = budgets.first() else { return Ok(None) };
    let name = budget.pointer("/metadata/name").and_then(Tree::as_str).unwrap_or_default();
    if !is_ready(pod) && spares_unhealthy(budget) {
        return Ok(Some(name.to_owned()));
    }
    let resource = kinds::pod_disruption_budgets();
    // whoever may evict needs no right to write budgets
    let request = &Request::own(call.request.catalog.clone(), "update");
    let write = Write { request, resource, subresource: "status", name, ..call.write(options) };
    let take = |old: &Tree, _: &writes::Conversions| take_one(old, name, call.name());
    writes::update(&write, &take, None).await.map(|_| None)
}

fn still_processed(budget: &str) -> Status {
    let status = Status::too_many_requests(VIOLATES, 10);
    because(status, format!("The disruption budget {budget} is still being processed by the server."))
}

const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

fn because(mut status: Status, message: String) -> Status {
    let reason = "DisruptionBudget".to_owned();
    let details = status.details.get_or_insert_with(Details::default);
    details.causes.push(Cause { reason, message, field: String::new() });
    status
}

/// The budget with one disruption less, for this pod; or why it has none.
fn take_one(old: &Tree, name: &str, pod: &str) -> Result<Tree, Status> {
    let number = |pointer: &str| old.pointer(pointer).and_then(Tree::as_i64).unwrap_or_default();
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Err(still_processed(name));
    }
    let allowed = number("/status/disruptionsAllowed");
    let refused = |why: &str, shown: &str| {
        let status = Status::forbidden("policy", "poddisruptionbudget", name, why);
        because(
            status,
            format!("The disruption budget {name} does not allow evicting pods currently: {shown}"),
        )
    };
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(refused(why, why));
    }
    let pending = old.pointer("/status/disruptedPods").and_then(Tree::as_object).map_or(0, Object::len);
    if pending > MOST_PENDING {
        return Err(refused(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "too many pending evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(because(Status::too_many_requests(VIOLATES, 0), why_none(old, name)));
    }
    let mut budget = old.clone();
    if let Some(status) = budget.get_mut("status").and_then(Tree::as_object_mut) {
        status.insert("disruptionsAllowed", (allowed - 1).into());
        if allowed == 1 {
            used_up(status, number("/status/observedGeneration"));
        }
        let disrupted = status.entry("disruptedPods").or_insert_with(|| Object::new().into());
        if let Some(disrupted) = disrupted.as_object_mut() {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            disrupted.insert(pod.to_owned(), now.into());
        }
    }
    Ok(budget)
}

/// Evictions under way that the disruption controller has not confirmed.
const MOST_PENDING: usize = 2000;

/// Why a budget allows no disruption, as far as it knows.
fn why_none(budget: &Tree, name: &str) -> String {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
    let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let not_allowed = format!("The disruption budget {name} does not allow evicting pods currently");
    let conditions = budget["status"]["conditions"].as_array().into_iter().flatten();
    let said = conditions
        .filter(|condition| condition["type"] == "DisruptionAllowed" && condition["status"] == "False")
        .find_map(|condition| Some((condition["reason"].as_str()?, condition["message"].as_str()?)))
        .filter(|(_, message)| !message.is_empty());
    match said {
        Some(("SyncFailed", message)) => format!("{not_allowed} because it failed sync: {message}"),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        Some((reason, message)) => format!("{not_allowed} ({reason}): {message}"),
        None => not_allowed,
    }
}
