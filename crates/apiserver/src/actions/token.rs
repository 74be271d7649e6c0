//! `serviceaccounts/token`: a token for an account, bound to what the request names.

use access::tokens::{self, check_names};
use api::Status;
use api::decode::Expected;
use bytes::Bytes;
use http::{Response, StatusCode};

use crate::body::Body;
use crate::handlers::mutate::decode;
use crate::handlers::{Call, read, render};
use crate::request::options::{Way, WriteOptions};
use crate::writes::ownership::Lone;
use crate::writes::{self, admission};

pub async fn issue(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.request, Way::Create)?;
    let expected = Expected::built_in("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = decode(call, &body, expected, &options)?;
    tokens::default(&mut request);
    writes::check_namespace(&mut request, call.namespace(), true)?;
    let write = call.write(&options);
    let lone = Lone::of("authentication.k8s.io", "v1", "TokenRequest", "authentication.k8s.io/v1");
    writes::ownership::record_lone(&write, lone.ok_or_else(Status::unknown_path)?, None, &mut request);
    admission::mutate(&write, call.resource, &mut request).await?;
    check_names(&request, call.namespace(), call.name())?;
    read::wait_for(call, None).await?;
    let account =
        call.cache()?.find(call.namespace(), call.name())?.ok_or_else(|| call.not_found())?.read()?;
    let tokens = call.server.tokens.as_ref().ok_or_else(Status::unknown_path)?;
    let request = tokens.prepare(&account, request)?;
    admission::validate(&write, call.resource, &request).await?;
    let mut warnings = Vec::new();
    let answer = tokens.issue(&account, request, &mut warnings).await;
    call.request.warn_all(warnings);
    Ok(render::tree_object(StatusCode::CREATED, answer?, &call.target))
}
