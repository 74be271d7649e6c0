//! A container's environment: what the pod lists, what it takes from config maps and secrets, and the
//! variables that point at services. Errors read as upstream's, for they become the container's waiting message.
//!
//! Values are bytes, as in the runtime's interface: what a secret holds need not be text.

pub mod fields;
mod services;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Service};
use rustc_hash::FxHashMap;

use crate::objects::{self, Objects};
use crate::pods::namespace;
pub use fields::Allocatable;

/// Why a container's configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Object(#[from] objects::Error),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { key: String, kind: &'static str, namespace: String, name: String },
    #[error(transparent)]
    Field(#[from] fields::Error),
    #[error("missing value for {0}")]
    Missing(String),
    #[error("{0}")]
    Unsupported(String),
    /// Commands, arguments and paths are text in the runtime's interface.
    #[error("string field contains invalid UTF-8")]
    NoText,
}

/// Name and value.
pub type Variable = (String, Vec<u8>);

/// What a container's environment depends on beside its pod.
pub struct Context<'a> {
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    /// Services of all namespaces.
    pub services: Vec<Arc<Service>>,
    pub allocatable: Allocatable,
    pub objects: &'a dyn Objects,
}

/// The variables, each name once.
pub async fn build(pod: &Pod, container: &Container, context: &Context<'_>) -> Result<Vec<Variable>, Error> {
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let service_variables = services::variables(&context.services, namespace(pod), links);
    let services: FxHashMap<&str, &[u8]> =
        service_variables.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let mut variables = Variables::default();
    sources(pod, container, context, &mut variables).await?;
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref(), &variable.value_from) {
            (Some(text), _) if !text.is_empty() => {
                expand_with(text, |name| variables.get(name).or_else(|| services.get(name).copied()))
            }
            (_, Some(source)) => match from(pod, container, context, source).await? {
                Some(value) => value,
                None => continue,
            },
            _ => Vec::new(),
        };
        variables.set(&variable.name, value);
    }
    for (name, value) in &service_variables {
        if variables.get(name).is_none() {
            variables.set(name, value.clone().into());
        }
    }
    Ok(variables.list)
}

/// Replaces `$(NAME)` by the variable's value; one that is not there stays as it is written.
pub fn expand(text: &str, environment: &[Variable]) -> Result<String, Error> {
    let expanded = expand_with(text, |wanted| {
        environment.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice())
    });
    String::from_utf8(expanded).map_err(|_| Error::NoText)
}

/// The same where every variable must be there, as in `subPathExpr`.
pub fn expand_strict(text: &str, environment: &[Variable]) -> Result<String, Error> {
    let missing = std::cell::RefCell::new(None);
    let expanded = expand_with(text, |wanted| {
        let found = environment.iter().rev().find(|(name, _)| name == wanted);
        if found.is_none() {
            missing.borrow_mut().get_or_insert_with(|| wanted.to_owned());
        }
        found.map(|(_, value)| value.as_slice())
    });
    match missing.into_inner() {
        Some(name) => Err(Error::Missing(name)),
        None => String::from_utf8(expanded).map_err(|_| Error::NoText),
    }
}

fn expand_with<'a>(text: &str, value: impl Fn(&str) -> Option<&'a [u8]>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.extend(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            // A doubled sign stands for itself, and keeps what follows from being a reference.
            expanded.push(b'$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => expanded.extend(value),
                None => expanded.extend(format!("$({name})").bytes()),
            }
            rest = after;
        } else {
            expanded.push(b'$');
        }
    }
    expanded.extend(rest.as_bytes());
    expanded
}

/// Variables in the order they were first set.
#[derive(Default)]
struct Variables {
    list: Vec<Variable>,
    places: FxHashMap<String, usize>,
}

impl Variables {
    fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.places.get(name) {
            Some(&place) => self.list[place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.places.get(name).map(|&place| self.list[place].1.as_slice())
    }
}

/// `envFrom`: whole config maps and secrets.
async fn sources(
    pod: &Pod,
    container: &Container,
    context: &Context<'_>,
    variables: &mut Variables,
) -> Result<(), Error> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut set = |key: &str, value: &[u8]| {
            let name = format!("{prefix}{key}");
            if is_name(&name) {
                variables.set(&name, value.to_owned());
            }
        };
        if let Some(reference) = &source.config_map_ref {
            let found = context.objects.config_map(namespace(pod), &reference.name).await;
            if let Some(map) = optional(found, reference.optional)? {
                for (key, value) in map.data.iter().flatten() {
                    set(key, value.as_bytes());
                }
            }
        } else if let Some(reference) = &source.secret_ref {
            let found = context.objects.secret(namespace(pod), &reference.name).await;
            if let Some(secret) = optional(found, reference.optional)? {
                for (key, value) in secret.data.iter().flatten() {
                    set(key, &value.0);
                }
            }
        }
    }
    Ok(())
}

/// The value a reference stands for; `None` where it is optional and leads nowhere.
async fn from(
    pod: &Pod,
    container: &Container,
    context: &Context<'_>,
    source: &EnvVarSource,
) -> Result<Option<Vec<u8>>, Error> {
    if let Some(reference) = &source.field_ref {
        let value = match reference.field_path.as_str() {
            "status.podIP" => context.pod_ips.first().cloned().unwrap_or_default(),
            "status.podIPs" => context.pod_ips.join(","),
            "status.hostIP" => context.host_ips.first().cloned().unwrap_or_default(),
            "status.hostIPs" => context.host_ips.join(","),
            path => fields::pod_field(pod, path)?,
        };
        return Ok(Some(value.into()));
    }
    if let Some(reference) = &source.resource_field_ref {
        let amount = fields::resource(pod, Some(container), reference, &context.allocatable)?;
        return Ok(Some(amount.into()));
    }
    if let Some(reference) = &source.config_map_key_ref {
        let found = context.objects.config_map(namespace(pod), &reference.name).await;
        let Some(map) = optional(found, reference.optional)? else { return Ok(None) };
        let value =
            map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned().map(String::into_bytes);
        return key(value, reference.optional, || {
            ("ConfigMap", &reference.key, namespace(pod), &reference.name)
        });
    }
    if let Some(reference) = &source.secret_key_ref {
        let found = context.objects.secret(namespace(pod), &reference.name).await;
        let Some(secret) = optional(found, reference.optional)? else { return Ok(None) };
        let value =
            secret.data.as_ref().and_then(|data| data.get(&reference.key)).map(|value| value.0.clone());
        return key(value, reference.optional, || {
            ("Secret", &reference.key, namespace(pod), &reference.name)
        });
    }
    if source.file_key_ref.is_some() {
        return Err(Error::Unsupported("fileKeyRef is not supported by this kubelet".to_owned()));
    }
    Ok(Some(Vec::new()))
}

fn optional<T>(
    found: Result<T, objects::Error>,
    optional: Option<bool>,
) -> Result<Option<T>, objects::Error> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() && optional == Some(true) => Ok(None),
        Err(error) => Err(error),
    }
}

fn key<'a>(
    value: Option<Vec<u8>>,
    optional: Option<bool>,
    names: impl FnOnce() -> (&'static str, &'a str, &'a str, &'a str),
) -> Result<Option<Vec<u8>>, Error> {
    if value.is_some() || optional == Some(true) {
        return Ok(value);
    }
    let (kind, key, namespace, name) = names();
    Err(Error::Key { key: key.into(), kind, namespace: namespace.into(), name: name.into() })
}

/// Printable ASCII but for the equals sign.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}
