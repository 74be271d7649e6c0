//! Field labels by which kinds can be selected, next to `metadata.name` and `metadata.namespace`.

use api::model::Resource;

type Fields = &'static [(&'static str, &'static str)];

/// Label and path of JSON names.
pub fn fields(resource: &Resource) -> Fields {
    match (resource.group.as_ref(), resource.plural.as_ref()) {
        ("", "pods") => &[
            ("spec.nodeName", "spec.nodeName"),
            ("spec.restartPolicy", "spec.restartPolicy"),
            ("spec.schedulerName", "spec.schedulerName"),
            ("spec.serviceAccountName", "spec.serviceAccountName"),
            ("spec.hostNetwork", "spec.hostNetwork"),
            ("status.phase", "status.phase"),
            ("status.podIP", "status.podIP"),
            ("status.nominatedNodeName", "status.nominatedNodeName"),
        ],
        ("", "nodes") => &[("spec.unschedulable", "spec.unschedulable")],
        ("" | "events.k8s.io", "events") => &[
            ("involvedObject.kind", "involvedObject.kind"),
            ("involvedObject.namespace", "involvedObject.namespace"),
            ("involvedObject.name", "involvedObject.name"),
            ("involvedObject.uid", "involvedObject.uid"),
            ("involvedObject.apiVersion", "involvedObject.apiVersion"),
            ("involvedObject.resourceVersion", "involvedObject.resourceVersion"),
            ("involvedObject.fieldPath", "involvedObject.fieldPath"),
            ("reason", "reason"),
            ("reportingComponent", "reportingComponent"),
            ("source", "source.component"),
            ("type", "type"),
        ],
        ("", "namespaces") => &[("status.phase", "status.phase")],
        ("", "secrets") => &[("type", "type")],
        ("", "services") => &[("spec.clusterIP", "spec.clusterIP"), ("spec.type", "spec.type")],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &[("status.replicas", "status.replicas")],
        ("batch", "jobs") => &[("status.successful", "status.succeeded")],
        ("certificates.k8s.io", "certificatesigningrequests") => &[("spec.signerName", "spec.signerName")],
        _ => &[],
    }
}
