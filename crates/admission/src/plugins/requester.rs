//! A certificate signing request says who made it; whoever makes it does not.

use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Plugin, Point};
use registry::tree::{ensure, put};

pub struct CertificateRequester;

#[async_trait]
impl Plugin for CertificateRequester {
    fn name(&self) -> &'static str {
        "CertificateRequester"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("certificates.k8s.io", "certificatesigningrequests") && point.creates()
    }

    async fn admit(&self, attributes: &Attributes<'_>, request: &mut Tree) -> Result<(), Status> {
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
