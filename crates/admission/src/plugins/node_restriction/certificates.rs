//! Certificates: a node asks for its own, and for those of the pods that it runs.

use api::{Status, Tree};

use super::NodeRestriction;
use crate::{Attributes, Operation, Question};
use registry::kinds::certificates::subject;
use registry::references::is_mirror;
use registry::tree::{list, text};

/// Signers whose certificates make whoever has one a node.
const OF_NODES: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

pub(super) fn signing_request(attributes: &Attributes<'_>, request: &Tree, node: &str) -> Result<(), Status> {
    if attributes.operation != Operation::Create || !OF_NODES.contains(&text(request, "spec.signerName")) {
        return Ok(());
    }
    let subject = subject(text(request, "spec.request"))
        .map_err(|problem| attributes.forbid(&format!("unable to parse csr: {problem}")))?;
    let expected = format!("system:node:{node}");
    if subject.common_name != expected {
        return Err(attributes.forbid(&format!("can only create a node CSR with CN={expected}")));
    }
    Ok(())
}

impl NodeRestriction {
    /// The request must be true of a pod of this node; what a cache that is behind may get wrong is worth another try, and no refusal.
    pub(super) async fn pod_certificate(
        &self,
        attributes: &Attributes<'_>,
        request: &Tree,
        node: &str,
    ) -> Result<(), Status> {
        let refuse = |why: String| Err(attributes.forbid(&why));
        let again = |why: String| Err(Status::failure(500, "", why));
        if attributes.operation != Operation::Create {
            return refuse(format!("unexpected operation {}", attributes.operation.name()));
        }
        if !attributes.subresource.is_empty() {
            return refuse(format!("unexpected subresource {}", attributes.subresource));
        }
        let spec = |field: &str| text(registry::tree::get(request, "spec"), field);
        let named = spec("nodeName");
        if named != node {
            return refuse(format!(
                "PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}"
            ));
        }
        let Some(stored) = self.find("nodes", "", node).await? else {
            return missing("node", node, &format!("node {node:?}"));
        };
        let namespace = attributes.namespace;
        let pod_name = spec("podName");
        let shown = format!("{namespace}/{pod_name}");
        let (asked, actual) = (spec("nodeUID"), text(&stored, "metadata.uid"));
        if asked != actual {
            return again(format!(
                "PodCertificateRequest for pod {shown:?} names node UID {asked:?}, inconsistent with the running node ({actual:?})"
            ));
        }
        let Some(pod) = self.find("pods", namespace, pod_name).await? else {
            return missing("pod", pod_name, &format!("pod {shown:?}"));
        };
        let (asked, actual) = (spec("podUID"), text(&pod, "metadata.uid"));
        if asked != actual {
            return again(format!(
                "PodCertificateRequest for pod {shown:?} contains pod UID ({asked:?}) which differs from running pod {actual:?}"
            ));
        }
        if text(&pod, "spec.nodeName") != node {
            return refuse(format!(
                "pod {shown:?} is not running on node {node:?} named in the PodCertificateRequest"
            ));
        }
        if is_mirror(&pod) {
            return refuse(format!("pod {shown:?} is a mirror pod"));
        }
        let (account, own) = (spec("serviceAccountName"), text(&pod, "spec.serviceAccountName"));
        if account != own {
            return refuse(format!(
                "PodCertificateRequest for pod {shown:?} contains serviceAccountName ({account:?}) that differs from running pod ({own:?})"
            ));
        }
        let Some(stored) = self.find("serviceaccounts", namespace, account).await? else {
            let what = format!("service account {:?}", format!("{namespace}/{account}"));
            return missing("serviceaccount", account, &what);
        };
        let (asked, actual) = (spec("serviceAccountUID"), text(&stored, "metadata.uid"));
        if asked != actual {
            return again(format!(
                "PodCertificateRequest for pod {shown:?} names service account UID {asked:?}, which differs from the running service account ({actual:?})"
            ));
        }
        let signer = spec("signerName");
        let wanted = list(&pod, "spec.volumes")
            .iter()
            .flat_map(|volume| list(volume, "projected.sources"))
            .any(|source| text(source, "podCertificate.signerName") == signer);
        let question = Question {
            verb: "request-serviceaccounts-podcertificate-signer",
            group: "certificates.k8s.io",
            // a resource has no slash in its name
            resource: &signer.replace('/', ":"),
            namespace,
            name: account,
        };
        if wanted || self.services.allows(&attributes.user, &question).await {
            return Ok(());
        }
        refuse(format!(
            "pod {shown:?} does not mount a podCertificate projected volume for signer {signer:?}"
        ))
    }
}

/// Something that the request names is not there, or not there yet.
fn missing(kind: &str, name: &str, what: &str) -> Result<(), Status> {
    let mut status = Status::not_found("", kind, name);
    status.message =
        format!("while retrieving {what} named in the PodCertificateRequest: {}", status.message);
    Err(status)
}
