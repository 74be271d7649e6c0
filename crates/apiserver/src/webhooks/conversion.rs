//! Webhooks that convert custom resources between the versions of their definition: what they are sent, and what of their answers counts.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use admission::{CallError, ClientConfig};
use api::{Status, Tree, json};
use async_trait::async_trait;
use daemon::metrics::{CounterVec, HistogramVec, registry};
use machinery::fieldpath::Path;
use registry::Kind;
use registry::conversion::Convert;
use registry::tree::{get, list, text, texts};

use super::client::{Client, Question};
use crate::service_routing::ServiceRouter;

const GROUP: &str = "apiextensions.k8s.io";
/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How many times as long as a review its answer may be.
const GROWTH: usize = 4;
/// However short the review is, its answer may have so many bytes.
const LEAST_ANSWER: usize = 1 << 20;

const LABELS: &[&str] = &["failure_type", "result"];

static REQUESTS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_conversion_webhook_request_total",
        "Counter for conversion webhook requests with success/failure and failure error type",
        LABELS,
    )
});

static LATENCY: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "apiserver_conversion_webhook_duration_seconds",
        "Conversion webhook request latency",
        LABELS,
        &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0],
    )
});

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let doubled: [f64; 15] = std::array::from_fn(|step| 0.001 * f64::from(1_u32 << step));
    registry().histogram_vec(
        "apiserver_crd_conversion_webhook_duration_seconds",
        "CRD webhook conversion duration in seconds",
        &["crd_name", "from_version", "succeeded", "to_version"],
        &doubled,
    )
});

/// Makes conversions of definitions.
pub struct Conversions(Arc<Client>);

impl Conversions {
    pub fn new(services: ServiceRouter) -> Conversions {
        Conversions(Arc::new(Client::new(services)))
    }

    /// The conversion of a definition, where a webhook does it.
    pub fn of(&self, definition: &Tree) -> Option<Arc<dyn Convert>> {
        let conversion = get(definition, "spec.conversion");
        if text(conversion, "strategy") != "Webhook" {
            return None;
        }
        let mut config = ClientConfig::of(get(conversion, "webhook.clientConfig"));
        if config.authority.trim_ascii().is_empty() {
            config.authority.clear();
        }
        let known = |version: &str| ["v1", "v1beta1"].into_iter().find(|known| *known == version);
        Some(Arc::new(ConversionWebhook {
            client: Arc::clone(&self.0),
            definition: text(definition, "metadata.name").to_owned(),
            config,
            review_version: texts(conversion, "webhook.conversionReviewVersions").find_map(known),
        }))
    }
}

struct ConversionWebhook {
    client: Arc<Client>,
    definition: String,
    config: ClientConfig,
    /// The first version of reviews that both sides know.
    review_version: Option<&'static str>,
}

/// Why a conversion failed.
enum Failure {
    /// As metrics name the failure, and behind the name of the webhook.
    Webhook(&'static str, String),
    /// An answer that is no object is reported without the webhook.
    Object(String),
    /// The request may not wait for the webhook.
    Refused(Box<Status>),
}

const CALL: &str = "conversion_webhook_call_failure";
const MALFORMED: &str = "conversion_webhook_malformed_response_failure";
const PARTIAL: &str = "conversion_webhook_partial_response_failure";
const INVALID: &str = "conversion_webhook_invalid_converted_object_failure";

#[async_trait]
impl Convert for ConversionWebhook {
    async fn convert(&self, to: &Kind, objects: Vec<Tree>) -> Result<Vec<Tree>, Status> {
        let began = Instant::now();
        let first = objects.first().cloned().unwrap_or_default();
        let (api_version, kind) = (text(&first, "apiVersion"), text(&first, "kind"));
        let converted = self.ask(to, &objects).await;
        let failure_type = match &converted {
            Ok(_) => "",
            Err(Failure::Webhook(failure_type, _)) => failure_type,
            Err(Failure::Object(_)) => INVALID,
            Err(Failure::Refused(_)) => CALL,
        };
        let result = if converted.is_ok() { "success" } else { "failure" };
        let seconds = began.elapsed().as_secs_f64();
        REQUESTS.with(&[failure_type, result]).inc();
        LATENCY.with(&[failure_type, result]).observe(seconds);
        let from = api_version.rsplit_once('/').map_or(api_version, |(_, version)| version);
        let succeeded = if converted.is_ok() { "true" } else { "false" };
        DURATION.with(&[&self.definition, from, succeeded, &to.version]).observe(seconds);
        converted.map_err(|failure| match failure {
            Failure::Webhook(_, why) => {
                let message = format!("conversion webhook for {api_version}, Kind={kind} {why}");
                Status::failure(500, "", message)
            }
            Failure::Object(why) => Status::failure(500, "", why),
            Failure::Refused(status) => *status,
        })
    }
}

impl ConversionWebhook {
    async fn ask(&self, to: &Kind, objects: &[Tree]) -> Result<Vec<Tree>, Failure> {
        let no_version = || Failure::Object("no supported conversion review versions".to_owned());
        let version = self.review_version.ok_or_else(no_version)?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{GROUP}/{version}"),
            "request": {"uid": uid.as_str(), "desiredAPIVersion": to.api_version(), "objects": objects.to_vec()},
            "response": {"uid": "", "convertedObjects": null, "result": {"metadata": {}}},
        });
        let review = api::json::to_vec(&review);
        let longest = review.len() * GROWTH + LEAST_ANSWER;
        let answer = self.client.call(&self.config, Question { review, timeout: TIMEOUT, longest }).await;
        let answer = answer.map_err(|error| match error {
            CallError::Failed { reason, .. } => Failure::Webhook(CALL, format!("failed: {reason}")),
            CallError::Refused(status) => Failure::Refused(status),
        })?;
        is_review(&answer, version).map_err(|why| Failure::Webhook(CALL, format!("failed: {why}")))?;
        let converted = converted_objects(&answer, version, &uid)
            .map_err(|why| Failure::Webhook(MALFORMED, format!("failed: {why}")))?;
        if converted.len() != objects.len() {
            let counts = format!("returned {} objects, expected {}", converted.len(), objects.len());
            return Err(Failure::Webhook(PARTIAL, counts));
        }
        let single = objects.len() == 1;
        objects
            .iter()
            .zip(converted)
            .enumerate()
            .map(|(index, (original, converted))| {
                restored(to, original, converted, (!single).then_some(index))
            })
            .collect()
    }
}

/// Whether an answer is of the type that was sent; or how upstream's decoder words that it is not.
fn is_review(answer: &Tree, version: &str) -> Result<(), String> {
    let (api_version, kind) = (text(answer, "apiVersion"), text(answer, "kind"));
    let shown = || String::from_utf8_lossy(&api::json::to_vec(answer)).into_owned();
    match (api_version, kind) {
        (_, "") => Err(format!("Object 'Kind' is missing in '{}'", shown())),
        ("", _) => Err(format!("Object 'apiVersion' is missing in '{}'", shown())),
        _ => match (api_version.strip_prefix(&format!("{GROUP}/")), kind) {
            (Some(own), "ConversionReview") if own == version => Ok(()),
            (Some(own @ ("v1" | "v1beta1")), "ConversionReview") => Err(format!(
                "converting ({own}.ConversionReview) to ({version}.ConversionReview): unknown conversion"
            )),
            _ => Err(format!(
                "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:111\""
            )),
        },
    }
}

fn converted_objects<'a>(answer: &'a Tree, version: &str, uid: &str) -> Result<&'a [Tree], String> {
    let response = get(answer, "response");
    if response.is_null() {
        return Err("no response provided".to_owned());
    }
    let said = text(response, "uid");
    if version == "v1" && said != uid {
        return Err(format!("expected response.uid={uid:?}, got {said:?}"));
    }
    let status = text(response, "result.status");
    if status != "Success" {
        return Err(match text(response, "result.message") {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    Ok(list(response, "convertedObjects"))
}

/// What a webhook made of an object, with the metadata that the object had, but for labels and annotations. `index`: among several.
fn restored(to: &Kind, original: &Tree, converted: &Tree, index: Option<usize>) -> Result<Tree, Failure> {
    if converted.is_null() {
        return Err(Failure::Object("unexpected end of JSON input".to_owned()));
    }
    let (of, in_object) = match index {
        Some(index) => {
            (format!("invalid converted object at index {index}"), format!(" in object at index {index}"))
        }
        None => ("invalid object".to_owned(), String::new()),
    };
    let kind = text(converted, "kind");
    if kind.is_empty() {
        let shown = String::from_utf8_lossy(&api::json::to_vec(converted)).into_owned();
        return Err(Failure::Object(format!("Object 'Kind' is missing in '{shown}'")));
    }
    let wrong = |why: String| Err(Failure::Webhook(INVALID, format!("returned {why}")));
    let numbered = index.map_or_else(|| "invalid object at index 0".to_owned(), |_| of.clone());
    let (wanted, given) = (to.api_version(), text(converted, "apiVersion"));
    if given != wanted {
        return wrong(format!("{numbered}: invalid groupVersion (expected {wanted}, received {given})"));
    }
    let own = text(original, "kind");
    if kind != own {
        return wrong(format!("{numbered}: invalid kind (expected {own}, received {kind})"));
    }
    for (field, what) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let field = format!("metadata.{field}");
        let (expected, actual) = (text(original, &field), text(converted, &field));
        if expected != actual {
            return wrong(format!("{of}: must have the same {what}: {expected} != {actual}"));
        }
    }
    let metadata = metadata(original, converted)
        .map_err(|why| Failure::Webhook(INVALID, format!("returned invalid metadata{in_object}: {why}")))?;
    let mut restored = converted.clone();
    if let Some(object) = restored.as_object_mut() {
        object.insert("metadata", metadata);
    }
    Ok(restored)
}

fn metadata(original: &Tree, converted: &Tree) -> Result<Tree, String> {
    let given = converted.get("metadata").ok_or("missing metadata in converted object")?;
    if !given.is_object() {
        return Err(format!("invalid metadata of type {} in converted object", given.go_type()));
    }
    let mut metadata = get(original, "metadata").clone();
    let Some(object) = metadata.as_object_mut() else { return Ok(metadata) };
    for field in ["labels", "annotations"] {
        let Some(values) = given.get(field).filter(|values| !values.is_null()) else {
            object.remove(field);
            continue;
        };
        let Some(map) = values.as_object() else {
            let ty = values.go_type();
            return Err(format!("invalid metadata.{field} of type {ty} in converted object"));
        };
        if let Some((key, value)) = map.iter().find(|(_, value)| value.as_str().is_none()) {
            let ty = value.go_type();
            return Err(format!("metadata.{field}[{key}] must be a string, but is {ty} in converted object"));
        }
        if object.get(field) != Some(values) {
            check(field, values)?;
        }
        object.insert(field, values.clone());
    }
    Ok(metadata)
}

/// Checks labels or annotations that a webhook has changed.
fn check(field: &str, values: &Tree) -> Result<(), String> {
    let mut causes = Vec::new();
    let path = Path::new("metadata");
    match field {
        "labels" => machinery::labels::validate_labels(values, &path.field("labels"), &mut causes),
        _ => registry::meta::validate_annotations(values, &path.field("annotation"), &mut causes),
    }
    let said: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match said.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}
