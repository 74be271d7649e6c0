//! `pods/binding`: the scheduler's word on where a pod runs.

use api::decode::Expected;
use api::{Status, Tree};
use bytes::Bytes;
use http::Response;

use crate::body::Body;
use crate::handlers::Call;
use crate::handlers::mutate::decode;
use crate::kinds;
use crate::negotiate::status_response;
use crate::request::options::{Way, WriteOptions};
use crate::writes::admission::{self, Sees};
use crate::writes::ownership::Owners;
use crate::writes::{self, Write};

pub async fn bind(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.request, Way::Create)?;
    let expected = Expected::built_in("", "v1", "Binding");
    let binding = decode(call, &body, expected, &options)?;
    bind_tree(call, binding, &options).await
}

/// Assigns the pod that the binding names, or the path.
pub async fn bind_tree(
    call: &Call<'_>,
    mut binding: Tree,
    options: &WriteOptions,
) -> Result<Response<Body>, Status> {
    writes::check_namespace(&mut binding, &call.request.info.namespace, true)?;
    let named = |binding: &Tree| {
        binding.pointer("/metadata/name").and_then(Tree::as_str).unwrap_or_default().to_owned()
    };
    let path_name = if call.name().is_empty() { named(&binding) } else { call.name().to_owned() };
    let asked = Write { name: &path_name, ..call.write(options) };
    admission::mutate(&asked, call.resource, &mut binding).await?;
    let binding = &binding;
    let name = &named(binding);
    if *name != path_name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let text = |pointer: &str| binding.pointer(pointer).and_then(Tree::as_str).unwrap_or_default();
    let kind = text("/target/kind");
    if !matches!(kind, "" | "Node") || text("/target/name").is_empty() {
        let (field, message) = if text("/target/name").is_empty() {
            ("target.name", "Required value".to_owned())
        } else {
            ("target.kind", format!("Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\""))
        };
        return Err(Status::failure(500, "", format!("{field}: {message}")));
    }
    admission::validate(&asked, call.resource, binding).await?;
    let pods = kinds::pods();
    let write = Write {
        resource: pods,
        subresource: "binding",
        admission: Sees::Nothing,
        owners: Owners::Given,
        ..asked
    };
    let change = |old: &Tree, _: &writes::Conversions| {
        let mut pod = old.clone();
        let (uid, own) =
            (text("/metadata/uid"), old.pointer("/metadata/uid").and_then(Tree::as_str).unwrap_or_default());
        if !uid.is_empty() && uid != own {
            let key = format!("/registry/pods/{}/{name}", call.request.info.namespace);
            return Err(write.conflict(&writes::wrong_uid(&key, uid, own)));
        }
        let version = text("/metadata/resourceVersion");
        let current = old.pointer("/metadata/resourceVersion").and_then(Tree::as_str).unwrap_or_default();
        if !version.is_empty() && version != current {
            let key = format!("/registry/pods/{}/{name}", call.request.info.namespace);
            return Err(write.conflict(&writes::wrong_version(&key, version, current)));
        }
        registry::binding::assign(&mut pod, binding, jiff::Timestamp::now())
            .map_err(|problem| registry::binding::conflict(name, &problem))?;
        Ok(pod)
    };
    writes::update(&write, &change, None).await?;
    let mut done = Status::success(None);
    done.code = 201;
    Ok(status_response(call.request.headers(), &done))
}
