//! The kinds that the server itself reads and writes.

registry::named_kinds! {
    pods: "" "v1" "pods";
    nodes: "" "v1" "nodes";
    secrets: "" "v1" "secrets";
    services: "" "v1" "services";
    endpoints: "" "v1" "endpoints";
    namespaces: "" "v1" "namespaces";
    config_maps: "" "v1" "configmaps";
    service_accounts: "" "v1" "serviceaccounts";
    persistent_volumes: "" "v1" "persistentvolumes";
    persistent_volume_claims: "" "v1" "persistentvolumeclaims";
    endpoint_slices: "discovery.k8s.io" "v1" "endpointslices";
    leases: "coordination.k8s.io" "v1" "leases";
    resource_slices: "resource.k8s.io" "v1" "resourceslices";
    pod_certificate_requests: "certificates.k8s.io" "v1" "podcertificaterequests";
    volume_attachments: "storage.k8s.io" "v1" "volumeattachments";
    priority_classes: "scheduling.k8s.io" "v1" "priorityclasses";
    flow_schemas: "flowcontrol.apiserver.k8s.io" "v1" "flowschemas";
    priority_levels: "flowcontrol.apiserver.k8s.io" "v1" "prioritylevelconfigurations";
    service_cidrs: "networking.k8s.io" "v1" "servicecidrs";
    ip_addresses: "networking.k8s.io" "v1" "ipaddresses";
    mutating_webhook_configurations: "admissionregistration.k8s.io" "v1" "mutatingwebhookconfigurations";
    validating_webhook_configurations: "admissionregistration.k8s.io" "v1" "validatingwebhookconfigurations";
    validating_admission_policies: "admissionregistration.k8s.io" "v1" "validatingadmissionpolicies";
    validating_admission_policy_bindings: "admissionregistration.k8s.io" "v1" "validatingadmissionpolicybindings";
    mutating_admission_policies: "admissionregistration.k8s.io" "v1" "mutatingadmissionpolicies";
    mutating_admission_policy_bindings: "admissionregistration.k8s.io" "v1" "mutatingadmissionpolicybindings";
    pod_disruption_budgets: "policy" "v1" "poddisruptionbudgets";
    api_services: "apiregistration.k8s.io" "v1" "apiservices";
    roles: "rbac.authorization.k8s.io" "v1" "roles";
    role_bindings: "rbac.authorization.k8s.io" "v1" "rolebindings";
    cluster_roles: "rbac.authorization.k8s.io" "v1" "clusterroles";
    cluster_role_bindings: "rbac.authorization.k8s.io" "v1" "clusterrolebindings";
}
