//! The kinds whose schemas, and those of all they hold, have descriptions in `k8s-openapi`.

use k8s_openapi::api::{
    admissionregistration, apiserverinternal, apps, authentication, authorization, autoscaling, batch,
    certificates, coordination, core, discovery, events, flowcontrol, lifecycle, networking, node, policy,
    rbac, resource, scheduling, storage, storagemigration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use schemars::SchemaGenerator;

macro_rules! add {
    ($generator:ident, $package:ident :: $version:ident, $($kind:ident),*) => {
        $($generator.subschema_for::<$package::$version::$kind>();)*
    };
}

/// Adds the definitions of every kind.
pub(super) fn add_to(generator: &mut SchemaGenerator) {
    add!(
        generator,
        admissionregistration::v1,
        MutatingAdmissionPolicy,
        MutatingAdmissionPolicyBinding,
        MutatingWebhookConfiguration,
        ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration
    );
    add!(generator, admissionregistration::v1alpha1, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding);
    add!(generator, admissionregistration::v1beta1, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding);
    add!(generator, apiserverinternal::v1alpha1, StorageVersion);
    add!(generator, apps::v1, ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet);
    add!(generator, authentication::v1, SelfSubjectReview, TokenRequest, TokenReview);
    add!(
        generator,
        authorization::v1,
        LocalSubjectAccessReview,
        SelfSubjectAccessReview,
        SelfSubjectRulesReview,
        SubjectAccessReview
    );
    add!(generator, autoscaling::v1, HorizontalPodAutoscaler, Scale);
    add!(generator, autoscaling::v2, HorizontalPodAutoscaler);
    add!(generator, batch::v1, CronJob, Job);
    add!(generator, certificates::v1, CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest);
    add!(generator, certificates::v1beta1, ClusterTrustBundle, PodCertificateRequest);
    add!(generator, coordination::v1, Lease);
    add!(generator, coordination::v1alpha2, LeaseCandidate);
    add!(generator, coordination::v1beta1, LeaseCandidate);
    add!(
        generator,
        core::v1,
        Binding,
        ComponentStatus,
        ConfigMap,
        Endpoints,
        Event,
        LimitRange,
        Namespace,
        Node,
        PersistentVolume,
        PersistentVolumeClaim,
        Pod,
        PodTemplate,
        ReplicationController,
        ResourceQuota,
        Secret,
        Service,
        ServiceAccount
    );
    add!(generator, discovery::v1, EndpointSlice);
    add!(generator, events::v1, Event);
    add!(generator, flowcontrol::v1, FlowSchema, PriorityLevelConfiguration);
    add!(generator, lifecycle::v1alpha1, Eviction, EvictionRequest);
    add!(generator, networking::v1, IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR);
    add!(generator, node::v1, RuntimeClass);
    add!(generator, policy::v1, Eviction, PodDisruptionBudget);
    add!(generator, rbac::v1, ClusterRole, ClusterRoleBinding, Role, RoleBinding);
    add!(
        generator,
        resource::v1,
        DeviceClass,
        DeviceTaintRule,
        ResourceClaim,
        ResourceClaimTemplate,
        ResourceSlice
    );
    add!(generator, resource::v1alpha3, DeviceTaintRule, ResourcePoolStatusRequest);
    add!(generator, resource::v1beta1, DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice);
    add!(
        generator,
        resource::v1beta2,
        DeviceClass,
        DeviceTaintRule,
        ResourceClaim,
        ResourceClaimTemplate,
        ResourceSlice
    );
    add!(generator, scheduling::v1, PriorityClass);
    add!(generator, scheduling::v1alpha3, CompositePodGroup, PodGroup, Workload);
    add!(generator, scheduling::v1beta1, PodGroup, Workload);
    add!(
        generator,
        storage::v1,
        CSIDriver,
        CSINode,
        CSIStorageCapacity,
        StorageClass,
        VolumeAttachment,
        VolumeAttributesClass
    );
    add!(generator, storagemigration::v1, StorageVersionMigration);
    add!(generator, storagemigration::v1beta1, StorageVersionMigration);
    add!(generator, apiextensions::v1, CustomResourceDefinition);
    add!(
        generator,
        meta::v1,
        APIGroup,
        APIGroupList,
        APIResourceList,
        APIVersions,
        DeleteOptions,
        ListMeta,
        Patch,
        Status
    );
    add!(generator, apiregistration::v1, APIService);
}
