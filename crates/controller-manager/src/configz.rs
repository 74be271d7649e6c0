//! What `/configz` shows: the settings in effect, in the form of upstream's internal configuration kind. The
//! sections of controllers that are absent here are absent there.

use serde_json::{Value, json};

use crate::options::Options;

/// The document for these flags.
pub(crate) fn document(options: &Options) -> Value {
    json!({"kubecontrollermanager.config.k8s.io": {
        "kind": "KubeControllerManagerConfiguration",
        "apiVersion": "kubecontrollermanager.config.k8s.io/v1alpha1",
        "Generic": {
            "ClientConnection": {"kubeconfig": options.kubeconfig},
            "LeaderElection": {
                "leaderElect": options.leader_elect,
                "leaseDuration": options.leader_elect_lease_duration.to_string(),
                "renewDeadline": options.leader_elect_renew_deadline.to_string(),
                "retryPeriod": options.leader_elect_retry_period.to_string(),
                "resourceLock": options.leader_elect_resource_lock,
                "resourceName": options.leader_elect_resource_name,
                "resourceNamespace": options.leader_elect_resource_namespace,
            },
            "Controllers": options.controllers,
        },
        "KubeCloudShared": {
            "UseServiceAccountCredentials": options.use_service_account_credentials,
            "ClusterName": options.cluster_name,
            "ClusterCIDR": options.cluster_cidr,
            "AllocateNodeCIDRs": options.allocate_node_cidrs,
        },
        "DaemonSetController": {"ConcurrentDaemonSetSyncs": options.concurrent_daemonset_syncs},
        "DeploymentController": {"ConcurrentDeploymentSyncs": options.concurrent_deployment_syncs},
        "EndpointController": {
            "ConcurrentEndpointSyncs": options.concurrent_endpoint_syncs,
            "EndpointUpdatesBatchPeriod": options.endpoint_updates_batch_period.to_string(),
        },
        "EndpointSliceController": {
            "ConcurrentServiceEndpointSyncs": options.concurrent_service_endpoint_syncs,
            "MaxEndpointsPerSlice": options.max_endpoints_per_slice,
            "EndpointUpdatesBatchPeriod": options.endpointslice_updates_batch_period.to_string(),
        },
        "GarbageCollectorController": {
            "EnableGarbageCollector": options.enable_garbage_collector,
            "ConcurrentGCSyncs": options.concurrent_gc_syncs,
            "GCIgnoredResources": [
                {"Group": "", "Resource": "events"},
                {"Group": "events.k8s.io", "Resource": "events"},
            ],
        },
        "JobController": {"ConcurrentJobSyncs": options.concurrent_job_syncs},
        "NamespaceController": {
            "NamespaceSyncPeriod": options.namespace_sync_period.to_string(),
            "ConcurrentNamespaceSyncs": options.concurrent_namespace_syncs,
        },
        "NodeIPAMController": {
            "ServiceCIDR": options.service_cluster_ip_range,
            "NodeCIDRMaskSize": options.node_cidr_mask_size,
            "NodeCIDRMaskSizeIPv4": options.node_cidr_mask_size_ipv4,
            "NodeCIDRMaskSizeIPv6": options.node_cidr_mask_size_ipv6,
        },
        "NodeLifecycleController": {
            "NodeEvictionRate": options.node_eviction_rate,
            "SecondaryNodeEvictionRate": options.secondary_node_eviction_rate,
            "NodeStartupGracePeriod": options.node_startup_grace_period.to_string(),
            "NodeMonitorGracePeriod": options.node_monitor_grace_period.to_string(),
            "LargeClusterSizeThreshold": options.large_cluster_size_threshold,
            "UnhealthyZoneThreshold": options.unhealthy_zone_threshold,
            "NodeMonitorPeriod": options.node_monitor_period.to_string(),
        },
        "PodGCController": {"TerminatedPodGCThreshold": options.terminated_pod_gc_threshold},
        "ReplicaSetController": {"ConcurrentRSSyncs": options.concurrent_replicaset_syncs},
        "ReplicationController": {"ConcurrentRCSyncs": options.concurrent_rc_syncs},
        "SAController": {
            "ServiceAccountKeyFile": options.service_account_private_key_file,
            "RootCAFile": options.root_ca_file,
        },
        "TTLAfterFinishedController": {"ConcurrentTTLSyncs": options.concurrent_ttl_after_finished_syncs},
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_upstreams_by_default() {
        let tree = document(&Options::default());
        let check = |path: &str, expect: Value| {
            let path = format!("/kubecontrollermanager.config.k8s.io/{path}");
            assert_eq!(tree.pointer(&path), Some(&expect), "{path}");
        };
        check("Generic/LeaderElection/leaseDuration", "15s".into());
        check("NamespaceController/NamespaceSyncPeriod", "5m0s".into());
        check("NodeLifecycleController/NodeMonitorGracePeriod", "50s".into());
        check("PodGCController/TerminatedPodGCThreshold", 12500.into());
        check("Generic/Controllers", json!(["*"]));
    }
}
