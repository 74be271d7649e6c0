//! A certificate signing request says who made it; whoever makes it does not.

use api::{Status, Tree};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::tree::{ensure, put};

pub struct CertificateRequester;

#[async_trait]
impl Plugin for CertificateRequester {
    fn name(&self) -> &'static str {
        "CertificateRequester"
    }

    async fn admit(&self, attributes: &Attributes<'_>, request: &mut Tree) -> Result<(), Status> {
        let created = attributes.operation == Operation::Create && attributes.subresource.is_empty();
        if !attributes.is("certificates.k8s.io", "certificatesigningrequests") || !created {
            return Ok(());
        }
        let user = &attributes.user;
        let texts = |list: &[String]| Tree::Array(list.iter().map(|text| text.as_str().into()).collect());
        let spec = ensure(request, "spec");
        put(spec, "username", user.name.into());
        put(spec, "uid", if user.uid.is_empty() { Tree::Null } else { user.uid.into() });
        put(spec, "groups", texts(user.groups));
        let extra: api::tree::Object =
            user.extra.iter().map(|(key, values)| (key.clone(), texts(values))).collect();
        put(spec, "extra", if extra.is_empty() { Tree::Null } else { Tree::Object(extra) });
        Ok(())
    }
}
