//! The kinds that say who may do what.

registry::named_kinds! {
    pods: "" "v1" "pods";
    nodes: "" "v1" "nodes";
    secrets: "" "v1" "secrets";
    service_accounts: "" "v1" "serviceaccounts";
    persistent_volumes: "" "v1" "persistentvolumes";
    resource_slices: "resource.k8s.io" "v1" "resourceslices";
    pod_certificate_requests: "certificates.k8s.io" "v1" "podcertificaterequests";
    volume_attachments: "storage.k8s.io" "v1" "volumeattachments";
    roles: "rbac.authorization.k8s.io" "v1" "roles";
    role_bindings: "rbac.authorization.k8s.io" "v1" "rolebindings";
    cluster_roles: "rbac.authorization.k8s.io" "v1" "clusterroles";
    cluster_role_bindings: "rbac.authorization.k8s.io" "v1" "clusterrolebindings";
}
