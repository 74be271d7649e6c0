//! Reading metrics, from the three APIs that serve them.

use client::{Client, Request};
use controllers::{Kinds, selector};
use jiff::{SignedDuration, Timestamp};
use machinery::quantity::Quantity;
use serde::Deserialize;
use serde_json::Value;

use super::calculate::{Sample, Samples, thousandths};
use super::view::{Identifier, Reference};

#[derive(Default, Deserialize)]
#[serde(default)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodMetrics {
    metadata: Name,
    timestamp: Timestamp,
    window: String,
    containers: Vec<ContainerMetrics>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Name {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerMetrics {
    name: String,
    usage: std::collections::BTreeMap<String, Milli>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetricValue {
    described_object: Name,
    timestamp: Timestamp,
    window_seconds: Option<i64>,
    value: Milli,
}

/// An amount in thousandths, read from a quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Milli(i64);

impl TryFrom<String> for Milli {
    type Error = machinery::quantity::Error;

    fn try_from(text: String) -> Result<Milli, Self::Error> {
        Ok(Milli(thousandths(&Quantity::parse(&text)?)))
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// As upstream puts it where nothing serves the API.
fn words(error: &client::Error, resource: &str) -> String {
    let text = error.to_string();
    match text.ends_with("404 page not found") {
        true => format!("the server could not find the requested resource (get {resource})"),
        false => text,
    }
}

fn query_of(identifier: &Identifier) -> Result<String, String> {
    Ok(encoded(&selector::query(identifier.selector.as_ref())?))
}

/// What pods use of a resource; `container` is empty for whole pods.
pub(super) async fn of_resource(
    client: &Client,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: &str,
) -> Result<Samples, String> {
    let path = format!(
        "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={}",
        encoded(selector)
    );
    let failed = |error| {
        let error = words(&error, "pods.metrics.k8s.io");
        format!(
            "unable to get metrics for resource {resource}: unable to fetch metrics from resource metrics API: {error}"
        )
    };
    let list: List<PodMetrics> = client.call(Request::get(path)).await.map_err(failed)?;
    if list.items.is_empty() {
        return Err(format!(
            "unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
        ));
    }
    let sample = |pod: PodMetrics| {
        let wanted = pod.containers.iter().filter(|one| container.is_empty() || one.name == container);
        let values: Option<Vec<i64>> = wanted.map(|one| Some(one.usage.get(resource)?.0)).collect();
        let value = values.filter(|values| !values.is_empty())?.into_iter().fold(0i64, i64::saturating_add);
        let window = pod.window.parse::<daemon::flags::Duration>().ok();
        let window = window.and_then(|window| SignedDuration::try_from(*window).ok()).unwrap_or_default();
        Some((pod.metadata.name, Sample { value, time: pod.timestamp, window }))
    };
    Ok(list.items.into_iter().filter_map(sample).collect())
}

/// The version of the custom metrics that the server prefers.
async fn custom_version(client: &Client) -> Result<String, String> {
    let group: client::Result<Value> = client.call(Request::get("/apis/custom.metrics.k8s.io")).await;
    let group = group.map_err(|error| {
        let why = match error.is_not_found() {
            true => "no custom metrics API (custom.metrics.k8s.io) registered".to_owned(),
            false => error.to_string(),
        };
        format!("unable to fetch metrics from custom metrics API: {why}")
    })?;
    let version = group.pointer("/preferredVersion/version").and_then(Value::as_str);
    Ok(version.unwrap_or("v1beta2").to_owned())
}

async fn custom(client: &Client, rest: &str, query: &str) -> Result<Vec<MetricValue>, String> {
    let version = custom_version(client).await?;
    let path = format!("/apis/custom.metrics.k8s.io/{version}/{rest}?{query}");
    let list: client::Result<List<MetricValue>> = client.call(Request::get(path)).await;
    Ok(list.map_err(|error| format!("unable to fetch metrics from custom metrics API: {error}"))?.items)
}

pub(super) async fn of_pods(
    client: &Client,
    namespace: &str,
    selector: &str,
    metric: &Identifier,
) -> Result<Samples, String> {
    let failed = |error| format!("unable to get metric {}: {error}", metric.name);
    let query = format!("labelSelector={}&metricLabelSelector={}", encoded(selector), query_of(metric)?);
    let rest = format!("namespaces/{namespace}/pods/*/{}", encoded(&metric.name));
    let items = custom(client, &rest, &query).await.map_err(failed)?;
    if items.is_empty() {
        return Err(failed("no metrics returned from custom metrics API".to_owned()));
    }
    let sample = |item: MetricValue| {
        let window = SignedDuration::from_secs(item.window_seconds.unwrap_or(60));
        (item.described_object.name, Sample { value: item.value.0, time: item.timestamp, window })
    };
    Ok(items.into_iter().map(sample).collect())
}

pub(super) async fn of_object(
    client: &Client,
    kinds: &Kinds,
    namespace: &str,
    object: &Reference,
    metric: &Identifier,
) -> Result<i64, String> {
    let failed = |error: String| {
        format!(
            "unable to get metric {} on {} {namespace}/{}: {error}",
            metric.name, object.kind, object.name
        )
    };
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    let known = kinds.known();
    let resource = known.resource(group, &object.kind);
    let resource = resource.ok_or_else(|| failed(format!("no matches for kind {:?}", object.kind)))?;
    let plural = match group {
        "" => resource.plural.to_string(),
        group => format!("{}.{group}", resource.plural),
    };
    let name = encoded(&metric.name);
    let rest = match (resource.namespaced, plural.as_str()) {
        (true, _) => format!("namespaces/{namespace}/{plural}/{}/{name}", object.name),
        (false, "namespaces") => format!("namespaces/{}/metrics/{name}", object.name),
        (false, _) => format!("{plural}/{}/{name}", object.name),
    };
    let query = format!("metricLabelSelector={}", query_of(metric)?);
    let items = custom(client, &rest, &query).await.map_err(failed)?;
    let value = items.first().map(|item| item.value.0);
    value.ok_or_else(|| failed("no metrics returned from custom metrics API".to_owned()))
}

pub(super) async fn of_external(
    client: &Client,
    namespace: &str,
    metric: &Identifier,
) -> Result<i64, String> {
    let failed = |error: String| {
        let selector = selector::printed(metric.selector.as_ref());
        format!("unable to get external metric {namespace}/{}/{selector}: {error}", metric.name)
    };
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}?labelSelector={}",
        encoded(&metric.name),
        query_of(metric)?
    );
    let list: client::Result<List<MetricValue>> = client.call(Request::get(path)).await;
    let list = list.map_err(|error| {
        let error = words(&error, &format!("{}.external.metrics.k8s.io", metric.name));
        failed(format!("unable to fetch metrics from external metrics API: {error}"))
    })?;
    if list.items.is_empty() {
        return Err(failed("no metrics returned from external metrics API".to_owned()));
    }
    Ok(list.items.iter().map(|item| item.value.0).fold(0i64, i64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_too_large_to_count_is_not_left_out() {
        let read = |value: &str| serde_json::from_str::<MetricValue>(&format!(r#"{{"value": "{value}"}}"#));
        assert_eq!([read("1500m"), read("10P")].map(|read| read.unwrap().value.0), [1500, i64::MAX]);
        assert!(read("many").is_err());
    }
}
