//! Certificates: who approves or signs a request, or vouches for a bundle, must be allowed to for its signer; and no certificate that
//! the API server takes for a client's makes anyone a master.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Operation, Plugin, Point, Question, Services, User};
use registry::kinds::certificates::subject;
use registry::tree::{get, same, text};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";

/// Whether a user may do this for the signer, or for all signers of its domain.
async fn allowed(services: &dyn Services, user: &User<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &format!("{domain}/*")] {
        let question = Question { verb, group: GROUP, resource: "signers", namespace: "", name };
        if services.allows(user, &question).await {
            return true;
        }
    }
    false
}

/// `CertificateApproval`.
pub struct CertificateApproval {
    services: Arc<dyn Services>,
}

impl CertificateApproval {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is_sub(GROUP, REQUESTS, "approval") && point.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, _: &Tree) -> Result<(), Status> {
        // the signer as stored: what the request says of it does not count
        let signer = attributes.old.map_or("", |old| text(old, "spec.signerName"));
        if allowed(&*self.services, &attributes.user, "approve", signer).await {
            return Ok(());
        }
        let why = format!("user not permitted to approve requests with signerName {signer:?}");
        Err(attributes.forbid(&why))
    }
}

/// `CertificateSigning`.
pub struct CertificateSigning {
    services: Arc<dyn Services>,
}

impl CertificateSigning {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is_sub(GROUP, REQUESTS, "status") && point.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, request: &Tree) -> Result<(), Status> {
        let Some(old) = attributes.old else { return Ok(()) };
        let kept = |field: &str| same(get(request, field), get(old, field));
        if kept("status.certificate") && kept("status.conditions") {
            return Ok(());
        }
        let signer = text(old, "spec.signerName");
        if allowed(&*self.services, &attributes.user, "sign", signer).await {
            return Ok(());
        }
        Err(attributes.forbid(&format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

/// `ClusterTrustBundleAttest`.
pub struct ClusterTrustBundleAttest {
    services: Arc<dyn Services>,
}

impl ClusterTrustBundleAttest {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is(GROUP, "clustertrustbundles") && point.operation.writes()
    }

    async fn validate(&self, attributes: &Attributes<'_>, bundle: &Tree) -> Result<(), Status> {
        let signer = text(bundle, "spec.signerName");
        if signer.is_empty() || attributes.old.is_some_and(|old| registry::meta::only_collection(bundle, old))
        {
            return Ok(());
        }
        if allowed(&*self.services, &attributes.user, "attest", signer).await {
            return Ok(());
        }
        Err(attributes.forbid(&format!("user not permitted to attest for signerName {signer:?}")))
    }
}

/// `CertificateSubjectRestriction`.
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is(GROUP, REQUESTS) && point.creates()
    }

    async fn validate(&self, attributes: &Attributes<'_>, request: &Tree) -> Result<(), Status> {
        const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
        if text(request, "spec.signerName") != CLIENT {
            return Ok(());
        }
        let subject = subject(text(request, "spec.request"))
            .map_err(|problem| attributes.forbid(&format!("failed to parse CSR: {problem}")))?;
        if subject.organizations.iter().any(|group| group == "system:masters") {
            return Err(attributes
                .forbid(&format!("use of {CLIENT} signer with system:masters group is not allowed")));
        }
        Ok(())
    }
}
