//! What a pod may learn of itself: the downward API's fields and resources, for environments and volumes.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use machinery::quantity::Quantity;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("invalid quantity {0:?}")]
    Quantity(String),
}

/// What the node has for pods: the limit of a container that sets none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocatable {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_storage_bytes: i64,
}

/// A field of the pod's metadata or spec. The status' addresses are known better by the caller.
pub fn pod_field(pod: &Pod, path: &str) -> Result<String, Error> {
    let metadata = &pod.metadata;
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.annotations" => &metadata.annotations,
            "metadata.labels" => &metadata.labels,
            _ => return Err(Error::Path(path.into())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" => status.and_then(|status| status.host_ip.clone()).unwrap_or_default(),
        "status.podIP" => status.and_then(|status| status.pod_ip.clone()).unwrap_or_default(),
        _ => return Err(Error::Path(path.into())),
    })
}

/// A line `key="value"` per entry, sorted by key.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A string as Go writes it between quotes.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            character if (character as u32) < 0x20 || character as u32 == 0x7f => {
                let _ = write!(quoted, "\\x{:02x}", character as u32);
            }
            character if character.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", character as u32);
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// A request or limit of a container of the pod, in multiples of the divisor, rounded up. `own` is the container
/// that the reference stands in, where it stands in one.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    reference: &ResourceFieldSelector,
    allocatable: &Allocatable,
) -> Result<String, Error> {
    let name = reference.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match (name, own) {
        (None, Some(own)) => own,
        (None, None) => return Err(Error::Container(String::new())),
        (Some(name), _) => find(pod, name).ok_or_else(|| Error::Container(name.into()))?,
    };
    let unsupported = || Error::Resource(reference.resource.clone());
    let (list, resource) = reference.resource.split_once('.').ok_or_else(unsupported)?;
    if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !resource.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let milli = match list {
        "limits" => {
            let limit = lookup(resources.and_then(|resources| resources.limits.as_ref()), resource)?;
            let limit = match limit.filter(|milli| *milli != 0) {
                Some(limit) => Some(limit),
                None => lookup(of_pod.and_then(|resources| resources.limits.as_ref()), resource)?,
            };
            limit.unwrap_or(match resource {
                "cpu" => i128::from(allocatable.cpu_milli),
                "memory" => i128::from(allocatable.memory_bytes) * 1000,
                "ephemeral-storage" => i128::from(allocatable.ephemeral_storage_bytes) * 1000,
                _ => 0,
            })
        }
        "requests" => {
            lookup(resources.and_then(|resources| resources.requests.as_ref()), resource)?.unwrap_or_default()
        }
        _ => return Err(unsupported()),
    };
    let divisor = match &reference.divisor {
        Some(divisor) => Some(parse(divisor)?).filter(|milli| *milli > 0).unwrap_or(1000),
        None => 1000,
    };
    Ok((milli / divisor + i128::from(milli % divisor > 0)).to_string())
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    spec.containers.iter().chain(init).find(|container| container.name == name)
}

fn lookup(list: Option<&BTreeMap<String, ApiQuantity>>, resource: &str) -> Result<Option<i128>, Error> {
    list.and_then(|list| list.get(resource)).map(parse).transpose()
}

fn parse(quantity: &ApiQuantity) -> Result<i128, Error> {
    Ok(Quantity::parse(&quantity.0).map_err(|_| Error::Quantity(quantity.0.clone()))?.milli())
}
