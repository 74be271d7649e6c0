//! What the files of config map, secret, downward API and projected volumes hold.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};

use super::atomic::{File, Payload};
use super::certificates::{Certificates, Place};
use super::tokens::Tokens;
use super::trust;
use crate::env::fields::{self, Allocatable};
use crate::objects::{self, Change, Kind, Objects};
use crate::pods::{name, namespace};

const DEFAULT_MODE: i32 = 0o644;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Object(#[from] objects::Error),
    #[error("configmap references non-existent config key: {0}")]
    ConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    SecretKey(String),
    #[error(transparent)]
    Field(#[from] fields::Error),
    #[error("failed to fetch token: {0}")]
    Token(objects::Error),
    #[error("{0}")]
    Several(String),
}

/// What payloads are made from.
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub objects: &'a dyn Objects,
    pub tokens: &'a Tokens,
    pub certificates: &'a Certificates,
    pub allocatable: Allocatable,
}

/// The files of a volume of one of the four kinds; `None` for volumes of other kinds.
pub async fn of(context: &Context<'_>, volume: &Volume) -> Result<Option<Payload>, Error> {
    let payload = if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let items = Items { list: source.items.as_deref(), mode, optional: source.optional == Some(true) };
        config_map(context, &source.name, items).await?
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let items = Items { list: source.items.as_deref(), mode, optional: source.optional == Some(true) };
        secret(context, source.secret_name.as_deref().unwrap_or_default(), items).await?
    } else if let Some(source) = &volume.downward_api {
        downward(context, source.items.as_deref(), source.default_mode.unwrap_or(DEFAULT_MODE))?
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        projected(context, &volume.name, source.sources.as_deref().unwrap_or_default(), mode).await?
    } else {
        return Ok(None);
    };
    Ok(Some(payload))
}

/// Whether the object is part of one of the pod's volumes.
pub fn uses(pod: &Pod, change: &Change) -> bool {
    // a trust bundle is in no namespace
    if change.kind != Kind::TrustBundle && namespace(pod) != change.namespace {
        return false;
    }
    let is = |kind: Kind, name: Option<&str>| change.kind == kind && name == Some(change.name.as_str());
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().any(|volume| {
        is(Kind::ConfigMap, volume.config_map.as_ref().map(|source| source.name.as_str()))
            || is(Kind::Secret, volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()))
            || volume.projected.iter().flat_map(|source| source.sources.iter().flatten()).any(|source| {
                is(Kind::ConfigMap, source.config_map.as_ref().map(|source| source.name.as_str()))
                    || is(Kind::Secret, source.secret.as_ref().map(|source| source.name.as_str()))
                    || source.pod_certificate.is_some() && is(Kind::CertificateRequest, Some(name(pod)))
                    || source.cluster_trust_bundle.as_ref().is_some_and(|source| match &source.name {
                        Some(name) => is(Kind::TrustBundle, Some(name)),
                        None => change.kind == Kind::TrustBundle,
                    })
            })
    })
}

#[derive(Clone, Copy)]
struct Items<'a> {
    list: Option<&'a [KeyToPath]>,
    mode: i32,
    optional: bool,
}

async fn config_map(context: &Context<'_>, name: &str, items: Items<'_>) -> Result<Payload, Error> {
    let found = context.objects.config_map(namespace(context.pod), name).await;
    let Some(map) = existing(found, items.optional)? else { return Ok(Payload::new()) };
    pick(&config_data(&map), items).map_err(Error::ConfigKey)
}

async fn secret(context: &Context<'_>, name: &str, items: Items<'_>) -> Result<Payload, Error> {
    let found = context.objects.secret(namespace(context.pod), name).await;
    let Some(secret) = existing(found, items.optional)? else { return Ok(Payload::new()) };
    pick(&secret_data(&secret), items).map_err(Error::SecretKey)
}

fn existing<T>(found: Result<T, objects::Error>, optional: bool) -> Result<Option<T>, objects::Error> {
    match found {
        Err(error) if error.is_not_found() && optional => Ok(None),
        found => found.map(Some),
    }
}

fn config_data(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary =
        map.binary_data.iter().flatten().map(|(key, ByteString(value))| (key.as_str(), value.as_slice()));
    text.chain(binary).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    secret.data.iter().flatten().map(|(key, ByteString(value))| (key.as_str(), value.as_slice())).collect()
}

/// The keys as files, or those that the items name; fails with a key that is not there.
fn pick(data: &BTreeMap<&str, &[u8]>, items: Items<'_>) -> Result<Payload, String> {
    let file = |data: &[u8], mode: i32, user: Option<i64>| File {
        data: data.to_vec(),
        mode: mode as u32,
        user: user.and_then(|user| user.try_into().ok()),
    };
    let Some(list) = items.list.filter(|list| !list.is_empty()) else {
        return Ok(data
            .iter()
            .map(|(key, data)| ((*key).to_owned(), file(data, items.mode, None)))
            .collect());
    };
    let mut payload = Payload::new();
    for item in list {
        match data.get(item.key.as_str()) {
            Some(data) => {
                payload.insert(item.path.clone(), file(data, item.mode.unwrap_or(items.mode), item.user));
            }
            None if items.optional => {}
            None => return Err(item.key.clone()),
        }
    }
    Ok(payload)
}

fn downward(
    context: &Context<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: i32,
) -> Result<Payload, Error> {
    let mut payload = Payload::new();
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            fields::pod_field(context.pod, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            fields::resource(context.pod, None, resource, &context.allocatable)?
        } else {
            continue;
        };
        let user = item.user.and_then(|user| user.try_into().ok());
        let mode = item.mode.unwrap_or(default_mode) as u32;
        payload.insert(item.path.clone(), File { data: text.into_bytes(), mode, user });
    }
    Ok(payload)
}

async fn projected(
    context: &Context<'_>,
    volume: &str,
    sources: &[VolumeProjection],
    mode: i32,
) -> Result<Payload, Error> {
    let mut payload = Payload::new();
    let mut errors = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let place = Place { pod: context.pod, volume, index };
        match projection(context, place, source, mode).await {
            Ok(files) => payload.extend(files),
            Err(error) => errors.push(error),
        }
    }
    match errors.len() {
        0 => Ok(payload),
        1 => Err(errors.remove(0)),
        _ => {
            let texts: Vec<_> = errors.iter().map(Error::to_string).collect();
            Err(Error::Several(format!("[{}]", texts.join(", "))))
        }
    }
}

async fn projection(
    context: &Context<'_>,
    place: Place<'_>,
    source: &VolumeProjection,
    mode: i32,
) -> Result<Payload, Error> {
    let of_pod = |user| owned(context.pod, user, mode);
    if let Some(source) = &source.config_map {
        let items = Items { list: source.items.as_deref(), mode, optional: source.optional == Some(true) };
        config_map(context, &source.name, items).await
    } else if let Some(source) = &source.secret {
        let items = Items { list: source.items.as_deref(), mode, optional: source.optional == Some(true) };
        secret(context, &source.name, items).await
    } else if let Some(source) = &source.downward_api {
        downward(context, source.items.as_deref(), mode)
    } else if let Some(source) = &source.service_account_token {
        let token = context.tokens.get(context.objects, context.pod, source).await.map_err(Error::Token)?;
        let (mode, user) = of_pod(source.user);
        Ok(Payload::from([(source.path.clone(), File { data: token.into_bytes(), mode, user })]))
    } else if let Some(source) = &source.cluster_trust_bundle {
        let data = trust::anchors(context.objects, source).await?;
        let (mode, user) = of_pod(source.user);
        Ok(Payload::from([(source.path.clone(), File { data, mode, user })]))
    } else if let Some(source) = &source.pod_certificate {
        let (key, chain) = context.certificates.get(context.objects, place, source).await?;
        let (mode, user) = of_pod(source.user);
        let both = [key.as_bytes(), &chain].concat();
        let files = [
            (&source.credential_bundle_path, both),
            (&source.key_path, key.into_bytes()),
            (&source.certificate_chain_path, chain),
        ];
        let wanted = files.into_iter().filter_map(|(path, data)| {
            let path = path.clone().filter(|path| !path.is_empty())?;
            Some((path, File { data, mode, user }))
        });
        Ok(wanted.collect())
    } else {
        Ok(Payload::new())
    }
}

/// Mode and owner of a file that is the pod's alone: with a known owner or group nobody else needs to read it.
fn owned(pod: &Pod, user: Option<i64>, mode: i32) -> (u32, Option<u32>) {
    let user = user.and_then(|user| user.try_into().ok()).or_else(|| common_user(pod));
    let group = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
    (if user.is_some() || group.is_some() { 0o600 } else { mode as u32 }, user)
}

/// The user that every container of the pod runs as, where the pod's spec says so.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let init = spec.init_containers.iter().flatten();
    let mut users = spec.containers.iter().chain(init).map(|container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)?.try_into().ok()
}
